import type { ResolveResult, StepTimings, TableCopyPlan } from "./activities.js";
import { type MigrationRef, type StreamNumber, streamFrom } from "./migration.js";
import type { TaskPolicy } from "./policy.js";

/** Inputs, results and visible state of the workflows. Plain JSON with a version, held by a test on its shape. */

/** How a root task of stream 0 was asked for. */
export type RootKind = "copy_data" | "reshard" | "replicate";

export interface ReshardInput {
  readonly version: 1;
  readonly ref: MigrationRef;
  readonly taskId: number;
  readonly kind: RootKind;
  readonly autoCutover: boolean;
  /** Only stream: the rows are there already. */
  readonly skipCopy: boolean;
  /** What the run before this one had done (continue-as-new); null at the start. */
  readonly resume: ReshardResume | null;
}

export interface ReshardResume {
  readonly policy: TaskPolicy;
  readonly shards: ShardCounts;
  readonly autoCutover: boolean;
  readonly subtasks: readonly Subtask[];
  readonly startedAtMs: number;
}

export type ReshardResult =
  | { readonly outcome: "switched"; readonly pauseMs: number | null }
  | { readonly outcome: "aborted" };

export interface ShardCounts {
  readonly source: number;
  readonly destination: number;
}

export interface CopyTableInput {
  readonly version: 1;
  readonly ref: MigrationRef;
  readonly plan: TableCopyPlan;
  readonly rangesAtOnce: number;
  /** Ranges done by the runs before this one. */
  readonly doneRanges: readonly number[];
}

export interface ReplicateInput {
  readonly version: 1;
  readonly ref: MigrationRef;
  readonly stream: StreamNumber;
  readonly shards: ShardCounts;
  readonly policy: TaskPolicy;
  readonly autoCutover: boolean;
  /** Schema phase "cutover" is due before the first switch. */
  readonly needsSchema: boolean;
  readonly resume: ReplicateResume | null;
}

export interface ReplicateResume {
  /** A standby that serves the way back already. */
  readonly isBegun: boolean;
  readonly taskId: number | null;
  readonly attempts: number;
  readonly passes: number;
  readonly lastCleanAtMs: number | null;
  readonly lastSwitch: LastSwitch | null;
  readonly startedAtMs: number;
  readonly subtasks: readonly Subtask[];
}

export type ReplicateResult =
  | { readonly outcome: "committed"; readonly lastSwitch: LastSwitch }
  | { readonly outcome: "aborted" }
  | { readonly outcome: "finalized"; readonly unsavedNodes: readonly string[] };

export interface CutoverInput {
  readonly version: 1;
  readonly ref: MigrationRef;
  readonly stream: StreamNumber;
  readonly shards: ShardCounts;
  readonly policy: TaskPolicy;
}

export interface CutoverResult {
  readonly outcome: ResolveResult["outcome"];
  readonly reason: string;
  readonly pauseMs: number | null;
  readonly steps: StepTimings | null;
}

export type SchemaSyncPhase = "pre" | "post" | "cutover";

export interface SchemaSyncInput {
  readonly version: 1;
  readonly ref: MigrationRef;
  readonly taskId: number;
  readonly phase: SchemaSyncPhase;
}

/** The last attempt at a switch. */
export interface LastSwitch extends CutoverResult {
  readonly atMs: number;
}

/** A row of SHOW TASKS below its root. */
export interface Subtask {
  readonly type: string;
  readonly status: string;
  readonly innerStatus: string;
  readonly startedAtMs: number;
  readonly updatedAtMs: number;
  /** Fixed where it was measured elsewhere (the steps of a switch); null: until now, or until its end. */
  readonly elapsedMs: number | null;
}

/** A step that waits for a person. */
export interface Parked {
  readonly step: string;
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}

/** What a root workflow keeps in its memo: SHOW TASKS works from it when no worker answers. */
export interface TaskMemo {
  readonly version: 1;
  readonly type: string;
  readonly status: string;
  readonly innerStatus: string;
  readonly startedAtMs: number;
  readonly updatedAtMs: number;
  readonly subtasks: readonly Subtask[];
  /** CUTOVER without an id takes the lowest task that has this. */
  readonly isSwitchable: boolean;
  /** STOP_TASK finalizes such a task instead of undoing it. */
  readonly isReverse: boolean;
}

/** Answer of the query `status`. */
export interface TaskStatus extends TaskMemo {
  readonly waitingFor: readonly string[];
  readonly lagBytes: number | null;
  readonly predictedPauseMs: number | null;
  readonly parked: Parked | null;
  readonly lastSwitch: LastSwitch | null;
  /** A switch has been asked for, and `waitingFor` is why it does not begin. */
  readonly isSwitchWanted: boolean;
}

/** What a child tells its root, on changes only. */
export interface ChildReport {
  /** The child's row; the root keeps one per type. */
  readonly subtasks: readonly Subtask[];
  readonly waitingFor: readonly string[];
  readonly lagBytes: number | null;
  readonly predictedPauseMs: number | null;
  readonly parked: Parked | null;
  readonly lastSwitch: LastSwitch | null;
  /** Who reports; `retryStep` is passed on to it. */
  readonly workflowId: string;
}

/** `inner_status` where no step runs that has words of its own. */
export const taskWords = {
  /** R33: unique constraints without the sharding key. A value on two shards stands in the way back. */
  eachShardAlone: "unique on each shard alone",
  /** The way back of a switch that is not decided yet. */
  standby: "standby",
  stopping: "stopping",
  /** R36: an operator has to know which node would still start with the files of before. */
  finalized: (unsavedNodes: readonly string[]) =>
    unsavedNodes.length === 0
      ? "finalized"
      : `finalized, files not saved by ${unsavedNodes.join(", ")}`,
} as const;

const SHOWN_NAMES = 5;

/** `type` of SHOW TASKS. Names never exchange in it, whichever side serves; what follows them says where it leads. */
export const taskType = {
  reshard: (ref: MigrationRef) => `reshard ${ref.source} -> ${ref.destination}`,
  replication: (ref: MigrationRef, stream: StreamNumber) =>
    `replication ${ref.source} -> ${ref.destination}${stream === 0 ? "" : streamFrom(stream) === "source" ? " (forward)" : " (reverse)"}`,
  copyData: (ref: MigrationRef) => `copy_data ${ref.source} -> ${ref.destination}`,
  schemaSync: (ref: MigrationRef, phase: string) =>
    `schema_sync(${phase}) ${ref.source} -> ${ref.destination}`,
  rollbackDependsOn: (unique: readonly string[]) => {
    const more = unique.length - SHOWN_NAMES;
    return `rollback depends on: ${unique.slice(0, SHOWN_NAMES).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
  },
  cutoverStep: (text: string) => `cutover: ${text}`,
} as const;

/** Workflow ids. Convenience for people, not locks: the lock is a row in PostgreSQL. */
export const workflowIds = {
  taskCounter: "sluice/task-counter",
  reshard: (ref: MigrationRef) => `reshard/${ref.source}/${ref.destination}`,
  copyTable: (ref: MigrationRef, plan: TableCopyPlan) =>
    `copy/${ref.id}/${plan.schema}.${plan.table}/${plan.sourceShard}`,
  replicate: (ref: MigrationRef, stream: StreamNumber) =>
    `replicate/${ref.source}/${ref.destination}/${stream}`,
  cutover: (ref: MigrationRef, stream: StreamNumber, attempt: number) =>
    `cutover/${ref.source}/${ref.destination}/${stream}-${attempt}`,
  schemaSync: (ref: MigrationRef, phase: string) =>
    `schema-sync/${ref.source}/${ref.destination}/${phase}`,
} as const;

export const queues = {
  light: "sluice",
  move: "sluice-move",
  node: (node: { readonly nodeId: string; readonly incarnation: string }) =>
    `node/${node.nodeId}/${node.incarnation}`,
} as const;
