import type { ServerAddress } from "../backend/address.js";
import type { Log } from "../observe/log.js";

/** A cluster as the configuration names it now. Shard k is at index k. */
export interface Cluster {
  readonly name: string;
  /** Primaries, with the schema owner's credentials. */
  readonly shards: readonly ServerAddress[];
  readonly shardedTables: readonly ShardedTableRule[];
  readonly omnishardedTables: readonly string[];
}

export interface ShardedTableRule {
  readonly name: string | null;
  readonly schema: string | null;
  readonly column: string;
  readonly dataType: "bigint" | "uuid" | "varchar";
}

/** Policies of sluice.toml and pgdog.toml that the engine obeys; all durations in ms. */
export interface EnginePolicy {
  readonly copyFormat: "binary" | "text";
  readonly copyRangeRows: number;
  readonly pauseBudgetMs: number;
  readonly trafficStopThresholdBytes: number;
  readonly openTransactions: "wait" | "end";
  readonly verifyMaxAgeMs: number;
  readonly replicaIdentity: "auto" | "refuse";
  readonly uniqueWithoutShardingKey: "warn" | "refuse";
  readonly leftBehind: readonly string[];
  readonly placementGuard: boolean;
  readonly pgDumpPath: string;
}

/** What every step gets. One per activity attempt. */
export interface EngineContext {
  /**
   * The clusters by configured name. Which side a name is on changes with a cutover: use `openSides`.
   * @throws DatabaseUnknown
   */
  readonly cluster: (name: string) => Cluster;
  readonly policy: EnginePolicy;
  readonly log: Log;
  /** Aborted when the attempt must stop: cancelled, timed out, worker shutting down. */
  readonly signal: AbortSignal;
  /** Progress for people; the truth is in the databases. */
  readonly heartbeat: (progress: Readonly<Record<string, string | number>>) => void;
  /**
   * Steps announce their names ("copy.afterRange", "cutover.afterDecision"); tests kill or freeze there.
   * A no-op in production.
   */
  readonly announce: (step: string) => Promise<void>;
  /** Identifies the process incarnation that runs this: registered by lane sessions (R16). */
  readonly incarnation: string;
}
