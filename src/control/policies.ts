import type { Config } from "../config/model.js";
import type { EnginePolicy } from "../resharding/context.js";
import type { TaskPolicy } from "../resharding/model/policy.js";

const SWITCH_RETRY_MS = 1_000;
/** How stale SHOW TASKS may be while a migration waits; shorter questions fill the history. */
const OBSERVE_MS = 15_000;

/** What orchestration obeys, from pgdog.toml and sluice.toml. */
export function taskPolicyOf({ general, sluice }: Config): TaskPolicy {
  return {
    parallelCopies: general.reshardingParallelCopies,
    pauseCapMs: sluice.pauseCapMs,
    silentNode: sluice.silentNode,
    verifyMaxAgeMs: sluice.verifyMaxAgeMs,
    switchRetryMs: SWITCH_RETRY_MS,
    observeMs: OBSERVE_MS,
  };
}

/** What the engine obeys, from pgdog.toml and sluice.toml. */
export function enginePolicyOf(config: Config): EnginePolicy {
  const { general, sluice } = config;
  return {
    copyFormat: general.reshardingCopyFormat,
    copyRangeRows: sluice.copyRangeRows,
    pauseBudgetMs: sluice.pauseBudgetMs,
    trafficStopThresholdBytes: general.cutoverTrafficStopThresholdBytes,
    openTransactions: sluice.openTransactions,
    verifyMaxAgeMs: sluice.verifyMaxAgeMs,
    replicaIdentity: sluice.replicaIdentity,
    uniqueWithoutShardingKey: sluice.uniqueWithoutShardingKey,
    leftBehind: sluice.leftBehind,
    placementGuard: sluice.placementGuard,
    pgDumpPath: config.pgDumpPath,
  };
}
