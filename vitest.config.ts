import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Slow matrices: `npm run test:full`.
    exclude: ["test/**/*.full.test.ts"],
    pool: "forks",
    // One more than the cores: many tests wait for a heartbeat, a restart or an fsync.
    maxWorkers: 3,
    testTimeout: 30_000,
    // One may have to build first, where vitest is called without `npm test` (test/support/built.ts).
    hookTimeout: 300_000,
    teardownTimeout: 20_000,
    reporters: ["./test/support/reporter.ts"],
  },
});
