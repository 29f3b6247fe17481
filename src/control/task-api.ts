import { type ErrorFields, SluiceError } from "../core/errors.js";
import { SQLSTATE } from "../core/sqlstate.js";

/**
 * Tasks as the admin database sees them: rows of SHOW TASKS, each a Temporal workflow that carries its task
 * id as a search attribute. The implementation is `connectTasks` in task-client.ts; this file knows no Temporal.
 */
export interface TaskClient {
  /**
   * Starts a task and returns when Temporal has it; its checks and its work run afterwards.
   * @throws TemporalUnreachable | TaskExists
   */
  start(request: StartTask): Promise<StartedTask>;
  /**
   * Newest root first, each followed by its subtasks. Tasks of all nodes, also after restarts.
   * @throws TemporalUnreachable
   */
  list(): Promise<readonly TaskRow[]>;
  /**
   * Asks a replication task to switch as soon as it is ready; null: the lowest task that waits for it. On a
   * reverse task it is the rollback. Returns when the task has taken the order; the switch comes later.
   * @throws TaskUnknown when there is no such task or it has nothing to switch
   * @throws TemporalUnreachable
   */
  cutover(taskId: number | null): Promise<{ readonly taskId: number; readonly workflowId: string }>;
  /**
   * Before the decision: undoes the migration. A reverse task: finalizes it. Returns when the order is taken.
   * @throws TemporalUnreachable
   */
  stop(taskId: number): Promise<"OK" | "task not found">;
  /** One line for people about every running task: phase, what it waits for, CLI lines. */
  status(taskId: number): Promise<TaskDetails>;
  close(): Promise<void>;
}

export type StartTask =
  | {
      readonly kind: "copy_data" | "reshard" | "replicate";
      readonly source: string;
      readonly destination: string;
      readonly publication: string;
      /** Base slot name that the user gave: `sluice_<id>_0` continues that migration's stream. */
      readonly slot: string | null;
    }
  | {
      readonly kind: "schema_sync";
      readonly source: string;
      readonly destination: string;
      readonly publication: string;
      readonly phase: "pre" | "post" | "cutover";
    };

export interface StartedTask {
  readonly taskId: number;
  readonly workflowId: string;
  /** For the `replication_slot` column of COPY_DATA; the real ones add `_<shard>`. Null for schema_sync. */
  readonly replicationSlot: string | null;
}

/** A row of SHOW TASKS. */
export interface TaskRow {
  /** null on subtasks. */
  readonly id: number | null;
  readonly scope: "root" | "subtask";
  /** `reshard a -> b`, `replication a -> b (reverse)`, ... */
  readonly type: string;
  /** `started`, `running`, `cancelling`, `finished`, `cancelled`, `failed: <why>`. */
  readonly status: string;
  /** Empty when there is none. */
  readonly innerStatus: string;
  readonly startedAtMs: number;
  readonly updatedAtMs: number;
  readonly elapsedMs: number;
  readonly workflowId: string;
}

export interface TaskDetails {
  readonly taskId: number;
  readonly workflowId: string;
  readonly phase: string;
  /** Why it does not go on now; empty when nothing is in the way. */
  readonly waitingFor: readonly string[];
  /** A switch has been asked for, and waits for that. */
  readonly isSwitchWanted: boolean;
  readonly lagBytes: number | null;
  readonly predictedPauseMs: number | null;
  /** Set while a step waits for a person. */
  readonly parked: {
    readonly step: string;
    readonly code: string;
    readonly message: string;
    readonly hint: string;
  } | null;
  /** Of the last switch; null when there was none. */
  readonly lastSwitch: {
    readonly outcome: "committed" | "aborted";
    readonly reason: string;
    readonly pauseMs: number | null;
    readonly steps: {
      readonly pause: number;
      readonly synchronize: number;
      readonly swap: number;
      readonly reverse: number;
      readonly resume: number;
    } | null;
  } | null;
}

/** Temporal did not answer in time. Nothing of what was asked may be assumed done or not done. */
export class TemporalUnreachable extends SluiceError {
  readonly code = "SLUICE_TEMPORAL_UNREACHABLE";
  readonly sqlState = SQLSTATE.systemError;
  readonly recovery = "retry";
  constructor(address: string, options: ErrorFields = {}) {
    super(`Temporal at ${address} does not answer`, {
      hint: "Traffic is served without it. Check [temporal] in sluice.toml or TEMPORAL_ADDRESS, then repeat; SHOW CUTOVER and RESOLVE CUTOVER work without Temporal.",
      ...options,
    });
  }
}

/** No task has this id, or it is of a kind that the command does not fit. */
export class TaskUnknown extends SluiceError {
  readonly code = "SLUICE_TASK_UNKNOWN";
  readonly sqlState = SQLSTATE.undefinedObject;
  readonly recovery = "operator";
  constructor(message: string, options: ErrorFields = {}) {
    super(message, { hint: "SHOW TASKS lists tasks and their ids.", ...options });
  }
}

/** @throws TaskUnknown when no task of the list has the id; TemporalUnreachable */
export async function workflowIdOf(tasks: TaskClient, taskId: number): Promise<string> {
  const row = (await tasks.list()).find((task) => task.id === taskId);
  if (row === undefined) throw new TaskUnknown(`no task has the id ${taskId}`);
  return row.workflowId;
}

/** The same two databases are being resharded already. */
export class TaskExists extends SluiceError {
  readonly code = "SLUICE_TASK_EXISTS";
  readonly sqlState = SQLSTATE.duplicateObject;
  readonly recovery = "operator";
  constructor(workflowId: string, options: ErrorFields = {}) {
    super(`a task with workflow id "${workflowId}" is running already`, {
      hint: "SHOW TASKS shows it; STOP_TASK ends it.",
      ...options,
    });
  }
}
