import type {
  Blocker,
  Check,
  MigrationRef,
  MigrationSpec,
  Side,
  StreamNumber,
} from "./migration.js";
import type { TaskPolicy } from "./policy.js";

/**
 * Signatures of all activities, shared by workflows (as types) and their implementations. Everything is
 * JSON, small, and free of rows, addresses and secrets. Each implementation's docstring says why a second
 * run, or one beside the first, is harmless.
 */

/** "light" runs in the control process, "move" in a mover, "node" on one node's own queue. */
export interface LightActivities {
  /** Next integer for SHOW TASKS; unique over nodes and restarts. */
  allocateTaskId(): Promise<number>;
  /** What this fleet's files say that orchestration obeys; asked once per migration. */
  readPolicy(): Promise<TaskPolicy>;
  /** All checks, always all of them; `ok` is false when one is an error. Also makes the spec. */
  preflight(ref: MigrationRef): Promise<PreflightResult>;
  /** Control schema, migration rows with the spec, table locks, on every shard of both sides. */
  beginMigration(input: { ref: MigrationRef; spec: MigrationSpec }): Promise<void>;
  /** Publication and slots of stream 0 and the wait of R2. Idempotent by name. */
  createStream(input: { ref: MigrationRef; stream: StreamNumber }): Promise<void>;
  /** Drops slots, origins and lane rows of a stream, on both sides. */
  dropStream(input: { ref: MigrationRef; stream: StreamNumber }): Promise<void>;
  installGates(ref: MigrationRef): Promise<void>;
  /** What the lanes have to do still; also the blocker of a stopped lane. */
  streamStatus(input: { ref: MigrationRef; stream: StreamNumber }): Promise<StreamStatus>;
  /** Returns when every lane of the stream is in state "standby", with the last status when `waitMs` are over. */
  awaitStandby(input: {
    ref: MigrationRef;
    stream: StreamNumber;
    waitMs: number;
  }): Promise<StreamStatus>;
  /**
   * Is a switch allowed and would it be short? Every reason why not, in words. Returns as soon as it is
   * ready, else after `waitMs` with what is in the way then: one long question keeps histories small.
   */
  readiness(input: {
    ref: MigrationRef;
    stream: StreamNumber;
    waitMs: number;
  }): Promise<ReadinessResult>;
  /** Highest epoch + 1 as `planned`, fresh token; refuses when the side to leave does not serve. */
  prepareDecision(input: PrepareInput): Promise<DecisionHandle>;
  /** Live nodes of the migration, from sluice.node. */
  listNodes(ref: MigrationRef): Promise<readonly NodeInfo[]>;
  /** Sequences ahead and disjoint on the side that will serve (R35). */
  advanceSequences(input: { ref: MigrationRef; serving: Side }): Promise<void>;
  /** Steps 3 to 9 of the switch; never retried; its result is advice. */
  switchTraffic(input: {
    ref: MigrationRef;
    decision: DecisionHandle;
    nodes: readonly NodeInfo[];
  }): Promise<SwitchReport>;
  /** Step 10: reads the decision, makes it final, drives gates and nodes to it. Retried for ever. */
  resolve(input: { ref: MigrationRef; decision: DecisionHandle }): Promise<ResolveResult>;
  /** Before the decision: removes everything we made and reopens the side that serves. */
  abortMigration(ref: MigrationRef): Promise<void>;
  /** Drops streams, publications, and, on the serving side, gate and triggers (R36). */
  finalizeMigration(ref: MigrationRef): Promise<FinalizeResult>;
}

export interface MoveActivities {
  syncSchema(input: {
    ref: MigrationRef;
    phase: "pre" | "post" | "cutover";
  }): Promise<SchemaResult>;
  /** Cuts tables into ranges and stores them; returns what is stored, also on a second run. */
  planCopy(ref: MigrationRef): Promise<readonly TableCopyPlan[]>;
  copyRange(input: CopyRangeInput): Promise<CopyRangeResult>;
  /**
   * Reads one shard of the from-side and feeds every shard of the other one, until cancelled.
   * A standby stream discards until its start marker (R34).
   */
  runStream(input: {
    ref: MigrationRef;
    stream: StreamNumber;
    fromShard: number;
  }): Promise<StreamEnd>;
  verifyPass(input: {
    ref: MigrationRef;
    stream: StreamNumber;
    pass: number;
  }): Promise<VerifyResult>;
}

export interface NodeActivities {
  /** Loads the next topology, opens connections, starts the 50 ms poll. */
  armNode(order: ArmOrder): Promise<{ nodeId: string }>;
}

export interface ArmOrder {
  readonly ref: MigrationRef;
  readonly epoch: number;
  readonly token: string;
  readonly forMs: number;
}

export interface PreflightResult {
  readonly ok: boolean;
  readonly checks: readonly Check[];
  readonly spec: MigrationSpec | null;
}

export interface StreamStatus {
  readonly stream: StreamNumber;
  readonly lanes: readonly LaneStatus[];
  /** Worst shard; null: not known yet. */
  readonly lagBytes: number | null;
  readonly asideKeys: number;
  /** Why some of them could not be settled, by table and key columns; absent: none that a person must see to. */
  readonly asideConflicts?: readonly string[];
  readonly blocker: Blocker | null;
}

export interface LaneStatus {
  readonly fromShard: number;
  readonly toShard: number;
  readonly state: "missing" | "standby" | "applying" | "stopped";
  readonly appliedLsn: string;
  readonly changeCount: number;
}

export interface ReadinessResult {
  readonly isReady: boolean;
  readonly waitingFor: readonly Blocker[];
  readonly lagBytes: number | null;
  readonly predictedPauseMs: number | null;
  /** Unique constraints that each shard sees to alone; absent where there are none, and in older answers. */
  readonly rollbackDependsOn?: readonly string[];
}

export interface PrepareInput {
  readonly ref: MigrationRef;
  readonly stream: StreamNumber;
  /** The side that will serve. */
  readonly serving: Side;
  readonly capMs: number;
}

export interface DecisionHandle {
  readonly epoch: number;
  readonly token: string;
  readonly serving: Side;
  readonly stream: StreamNumber;
}

export interface NodeInfo {
  readonly nodeId: string;
  readonly incarnation: string;
  readonly address: string;
  readonly epoch: number;
  readonly configHash: string;
}

export interface StepTimings {
  readonly pause: number;
  readonly synchronize: number;
  readonly swap: number;
  readonly reverse: number;
  readonly resume: number;
}

export interface SwitchReport {
  readonly outcome: "committed" | "undone";
  /** Why it was undone; empty when committed. */
  readonly reason: string;
  /** From the hold order to the last release, in ms. */
  readonly pauseMs: number;
  readonly steps: StepTimings;
}

export interface ResolveResult {
  readonly outcome: "committed" | "aborted";
  readonly reason: string;
  readonly serving: Side;
  /** Milliseconds stored beside the decision by `switchTraffic`, or null. */
  readonly steps: StepTimings | null;
  readonly pauseMs: number | null;
}

export interface FinalizeResult {
  /** Nodes that have not saved their files, by id; empty when all have, or when saving is off. */
  readonly unsavedNodes: readonly string[];
}

export interface SchemaResult {
  /** Statements run or found done, over all shards. */
  readonly statementCount: number;
  /**
   * Constraints that the copied rows do not fit yet: due again in phase "cutover", after catch-up. Some of
   * them, at most.
   */
  readonly deferred: readonly string[];
  /** Ownership and grants left out because a role does not exist there. Some of them, at most. */
  readonly warnings: readonly string[];
}

export interface TableCopyPlan {
  readonly schema: string;
  readonly table: string;
  readonly sourceShard: number;
  readonly rangeCount: number;
  /** Ranges that every shard holds with one snapshot already. */
  readonly doneRanges: readonly number[];
  readonly estimatedRows: number;
}

export interface CopyRangeInput {
  readonly ref: MigrationRef;
  readonly schema: string;
  readonly table: string;
  readonly sourceShard: number;
  readonly range: number;
}

export interface CopyRangeResult {
  readonly rowCount: number;
  readonly byteCount: number;
}

/** A stream ends by cancel alone; one that ended with its worker is begun again. */
export interface StreamEnd {
  readonly outcome: "cancelled";
}

export interface VerifyResult {
  readonly isClean: boolean;
  /** Not clean, and nothing differs for good: keys were written or set aside all the time. Absent in older results. */
  readonly isInMotion?: boolean;
  readonly rowCount: number;
  readonly differences: readonly string[];
}
