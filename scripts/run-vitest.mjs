// Runs vitest to its end, and says how many tests passed and which failed. Each test has a time limit of its own;
// the limit on the whole only ends what hangs for ever.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const LIMIT_MS = 45 * 60_000;

/**
 * @param {readonly string[]} args as `vitest run` takes them
 * @returns {Promise<{passed: number, failed: string[]}>}
 */
export async function runVitest(args) {
  const scratch = mkdtempSync(join(tmpdir(), "sluice-test-"));
  const resultFile = join(scratch, "result.json");
  // A group of its own: ending the group ends the servers that tests have started, too.
  const child = spawn(
    process.execPath,
    [join(root, "node_modules/vitest/vitest.mjs"), "run", ...args],
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
  const timer = setTimeout(() => {
    isLate = true;
    endGroup();
  }, LIMIT_MS);
  const onSignal = () => {
    endGroup();
    process.exit(1);
  };
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, onSignal);
  const code = await new Promise((resolve) => child.once("close", resolve));
  clearTimeout(timer);
  for (const signal of ["SIGINT", "SIGTERM"]) process.removeListener(signal, onSignal);
  endGroup();
  const result = existsSync(resultFile)
    ? JSON.parse(readFileSync(resultFile, "utf8"))
    : { passed: 0, failed: [] };
  rmSync(scratch, { recursive: true, force: true });
  if (isLate) result.failed.push(`tests were ended after ${LIMIT_MS / 60_000} minutes`);
  else if (code !== 0 && result.failed.length === 0)
    result.failed.push(`vitest ended with ${code}`);
  return result;
}

/** Does nothing where the build is fresh. */
export function runBuild() {
  const args = [join(root, "scripts/build.mjs")];
  const passed = spawnSync(process.execPath, args, { stdio: "inherit" }).status === 0;
  console.log(`${passed ? "ok  " : "FAIL"} build`);
  return { name: "build", passed };
}

/** The last line on standard output is "N passed, N failed"; a failed check or build counts as failed. */
export function report({ startedAt, items, tests }) {
  const failed = [
    ...items.filter((item) => !item.passed).map((item) => item.name),
    ...tests.failed,
  ];
  const passed = items.filter((item) => item.passed).length + tests.passed;
  for (const name of failed) console.log(`failed: ${name}`);
  console.log(`${((Date.now() - startedAt) / 1000).toFixed(0)} s`);
  console.log(`${passed} passed, ${failed.length} failed`);
  process.exitCode = failed.length === 0 && tests.passed > 0 ? 0 : 1;
}
