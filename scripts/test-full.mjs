// `npm run test:full`: what takes longer than a change should wait for (vitest.full.config.ts says what). The last
// line on standard output is "N passed, N failed".
// `npm run test:full -- --project "postgres 18"` runs one part.
import { report, runBuild, runVitest } from "./run-vitest.mjs";

const startedAt = Date.now();
const items = [runBuild()];
const tests = await runVitest(["--config", "vitest.full.config.ts", ...process.argv.slice(2)]);
report({ startedAt, items, tests });
