// `npm test`: the checks, the build, all tests but the slow matrices. The last line on standard output is
// "N passed, N failed"; a failed check or build and a skipped test count as failed.
// `npm test -- test/unit` runs the tests of some paths only, after the same checks.
import { runChecks } from "./check.mjs";
import { report, runBuild, runVitest } from "./run-vitest.mjs";

const startedAt = Date.now();
const items = await runChecks();
items.push(runBuild());
report({ startedAt, items, tests: await runVitest(process.argv.slice(2)) });
