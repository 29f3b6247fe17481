// Everything that CI runs: the checks, the build, all tests. The last line on standard output is
// "N passed, N failed"; a failed check or build and a skipped test count as failed.
// `npm test -- test/unit` runs the tests of some paths only, after the same checks.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runChecks } from "./check.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
/** The promise is ten minutes for the whole; what hangs is ended before. */
const LIMIT_MS = 570_000;
const startedAt = Date.now();
const scratch = mkdtempSync(join(tmpdir(), "sluice-test-"));

const items = await runChecks();
items.push(runBuild());
const tests = await runTests(process.argv.slice(2));
rmSync(scratch, { recursive: true, force: true });

const failed = [...items.filter((item) => !item.passed).map((item) => item.name), ...tests.failed];
const passed = items.filter((item) => item.passed).length + tests.passed;
for (const name of failed) console.log(`failed: ${name}`);
console.log(`${((Date.now() - startedAt) / 1000).toFixed(0)} s`);
console.log(`${passed} passed, ${failed.length} failed`);
process.exitCode = failed.length === 0 && passed > 0 ? 0 : 1;

function runBuild() {
  const result = spawnSync(process.execPath, [`${root}scripts/build.mjs`], { stdio: "inherit" });
  const passed = result.status === 0;
  console.log(`${passed ? "ok  " : "FAIL"} build`);
  return { name: "build", passed };
}

function runTests(filters) {
  const resultFile = join(scratch, "result.json");
  // A group of its own: ending the group ends the servers that tests have started, too.
  const child = spawn(
    process.execPath,
    [`${root}node_modules/vitest/vitest.mjs`, "run", ...filters],
    {
      cwd: root,
      detached: true,
      stdio: ["ignore", "inherit", "inherit"],
      env: { ...process.env, SLUICE_TEST_RESULT: resultFile },
    },
  );
  const endGroup = () => {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // Nobody is left in it.
    }
  };
  let isLate = false;
  const timer = setTimeout(
    () => {
      isLate = true;
      endGroup();
    },
    LIMIT_MS - (Date.now() - startedAt),
  );
  for (const signal of ["SIGINT", "SIGTERM"])
    process.once(signal, () => {
      endGroup();
      process.exit(1);
    });
  return new Promise((resolve) => {
    child.once("close", (code) => {
      clearTimeout(timer);
      endGroup();
      const result = existsSync(resultFile)
        ? JSON.parse(readFileSync(resultFile, "utf8"))
        : { passed: 0, failed: [] };
      if (isLate) result.failed.push(`tests were ended after ${LIMIT_MS / 1000} s`);
      else if (code !== 0 && result.failed.length === 0)
        result.failed.push(`vitest ended with ${code}`);
      resolve(result);
    });
  });
}
