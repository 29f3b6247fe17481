import { DatabaseUnknown } from "../../src/core/errors.js";
import type { Log } from "../../src/observe/log.js";
import type { Cluster, EngineContext, EnginePolicy } from "../../src/resharding/context.js";

const silent: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silent,
};

const DEFAULT_POLICY: EnginePolicy = {
  copyFormat: "binary",
  copyRangeRows: 1000,
  pauseBudgetMs: 1_000,
  trafficStopThresholdBytes: 1_000_000,
  openTransactions: "wait",
  verifyMaxAgeMs: 60_000,
  replicaIdentity: "auto",
  uniqueWithoutShardingKey: "warn",
  leftBehind: [],
  placementGuard: true,
  pgDumpPath: "pg_dump",
};

/** What an activity would give the engine, for the clusters of a test. */
export function engineContext(
  clusters: readonly Cluster[],
  policy: Partial<EnginePolicy> = {},
  overrides: Partial<EngineContext> = {},
): EngineContext {
  return {
    cluster: (name) => {
      const cluster = clusters.find((candidate) => candidate.name === name);
      if (!cluster) throw new DatabaseUnknown(name);
      return cluster;
    },
    policy: { ...DEFAULT_POLICY, ...policy },
    log: silent,
    signal: new AbortController().signal,
    heartbeat: () => {},
    announce: async () => {},
    incarnation: "test",
    ...overrides,
  };
}
