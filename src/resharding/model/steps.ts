import { assertNever } from "../../core/assert.js";
import type { LightActivities, MoveActivities, NodeActivities } from "./activities.js";
import type { MigrationRef } from "./migration.js";
import { taskWords } from "./tasks.js";
import type { Workflows } from "./workflows.js";

/** Every activity by name, whichever process runs it. */
export type Activities = LightActivities & MoveActivities & NodeActivities;
export type ActivityName = keyof Activities;

/** light: control processes; move: mover processes; node: the one node that is meant. */
export type StepQueue = "light" | "move" | "node";

/**
 * What becomes of the task when the step fails for good (retryable failures are repeated before that):
 * - fail: the task ends as failed, and nothing is undone: the step makes nothing that has to be.
 * - abort: what was made is undone, then the task ends as failed.
 * - park: the task waits for `retryStep` or `abort` and shows code, message and hint meanwhile.
 * - undo: this attempt at a switch is undone, the task replicates on.
 * - retryForever: there is no other way out; the failure is shown and the step repeated.
 */
export type OnFailure = "fail" | "abort" | "park" | "undo" | "retryForever";

/** What undoes a step: a step too, called for the migration alone. */
export type Compensation = "dropStream" | "abortMigration";

/** `inner_status` of SHOW TASKS; where the way back has words of its own, both. */
export type StatusWords = string | { readonly forward: string; readonly reverse: string };

interface StepBase {
  readonly onFailure: OnFailure;
  /** Runs when the migration is given up after this step has begun, also if it had only half happened. */
  readonly compensation: Compensation | null;
  /**
   * `inner_status` of SHOW TASKS while it runs: PgDog's words where it has one. null: the task keeps its
   * words, for the step runs below others or puts right what they left.
   */
  readonly status: StatusWords | null;
  /** `inner_status` of the row that the step has for itself below its task, where it has one. */
  readonly rowStatus: string | null;
  /** One sentence for the UI, the runbook and docs/steps.md. */
  readonly text: string;
}

/** A step that one activity does. */
export interface ActivityStep extends StepBase {
  readonly kind: "activity";
  readonly activity: ActivityName;
  readonly queue: StepQueue;
  /** One attempt, in ms. */
  readonly startToCloseMs: number;
  /** The pause cap of the migration's policy comes on top. */
  readonly addPauseCap: boolean;
  /** null: too short to beat. A process that dies is noticed after this long, not after `startToCloseMs`. */
  readonly heartbeatMs: number | null;
  /** null: waits until somebody polls the queue. */
  readonly scheduleToStartMs: number | null;
  /** Attempts at retryable failures; null: without end. */
  readonly attempts: number | null;
  /** Longest pause between two attempts, Temporal's own or the runner's ("retryForever"). */
  readonly longestRetryMs: number;
}

/** A step that is a workflow of its own, with steps, history and orders of its own. It has no limit in time. */
export interface ChildStep extends StepBase {
  readonly kind: "child";
  readonly workflow: keyof Workflows;
  readonly onFailure: Exclude<OnFailure, "retryForever">;
}

export type Step = ActivityStep | ChildStep;

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const short = {
  kind: "activity",
  queue: "light",
  startToCloseMs: 30 * SECOND,
  addPauseCap: false,
  heartbeatMs: null,
  scheduleToStartMs: null,
  attempts: null,
  longestRetryMs: 10 * SECOND,
  onFailure: "park",
  compensation: null,
  rowStatus: null,
} as const;

/**
 * Waits and works on servers: beats, so that a dead process is noticed in seconds. Not fewer, for a busy
 * process beats late, and an attempt beside a living one is ended by it (R16) and does its work again.
 */
const beating = { ...short, startToCloseMs: 10 * MINUTE, heartbeatMs: 5 * SECOND } as const;

const moving = {
  ...beating,
  queue: "move",
  startToCloseMs: DAY,
  longestRetryMs: 30 * SECOND,
} as const;

/** One phase of the schema has a row below its task, or, as SCHEMA_SYNC, is the task: the same words. */
const SCHEMA_WORDS = {
  pre: "syncing tables",
  post: "creating indexes",
  cutover: "syncing cutover schema",
} as const;

/** SCHEMA_SYNC: fails where the existing system only logs. What is made stays, and a second run finds it. */
const schemaTask = { ...moving, activity: "syncSchema", onFailure: "fail" } as const;

/** In an attempt at a switch: a failure costs the attempt, not the migration, so few repeats. */
const attempt = {
  ...beating,
  startToCloseMs: 2 * MINUTE,
  attempts: 3,
  onFailure: "undo",
  status: { forward: "cutting over", reverse: "rolling back" },
} as const;

const child = { kind: "child", onFailure: "park", compensation: null, rowStatus: null } as const;

/**
 * Every step of a migration, declared once and obeyed by the one runner (workflows/task/step-runner.ts): its
 * options, the words of SHOW TASKS, what undoes it, what its failure means. docs/steps.md has the table, held
 * to it by a test. In the order in which they run.
 */
export const STEPS = {
  allocateTaskId: {
    ...short,
    activity: "allocateTaskId",
    onFailure: "retryForever",
    status: "starting",
    text: "take the next integer for SHOW TASKS",
  },
  readPolicy: {
    ...short,
    activity: "readPolicy",
    status: "checking",
    text: "read the policies that hold for this migration from then on",
  },
  preflight: {
    ...beating,
    activity: "preflight",
    onFailure: "fail",
    status: "checking",
    text: "run every check and fix what is moved",
  },
  beginMigration: {
    ...beating,
    activity: "beginMigration",
    onFailure: "abort",
    compensation: "abortMigration",
    status: "checking",
    text: "take the lock on the moving tables on both sides; give those without a replica identity one",
  },
  schemaPre: {
    ...moving,
    activity: "syncSchema",
    status: "syncing schema",
    rowStatus: SCHEMA_WORDS.pre,
    text: "create types, tables and primary keys at the destination",
  },
  installGates: {
    ...beating,
    activity: "installGates",
    startToCloseMs: HOUR,
    // "syncing schema", or "checking" where the schema is there already.
    status: null,
    text: "gates on every moving table: open at the source, closed at the destination",
  },
  createStream: {
    ...beating,
    activity: "createStream",
    startToCloseMs: HOUR,
    compensation: "dropStream",
    status: "syncing data",
    text: "make publication and slots, and wait until a snapshot cannot miss what they miss",
  },
  planCopy: {
    ...moving,
    activity: "planCopy",
    status: "syncing data",
    text: "cut the tables into key ranges",
  },
  copyTable: {
    ...child,
    workflow: "copyTable",
    status: "syncing data",
    text: "copy the ranges of one table of one source shard, several side by side",
  },
  copyRange: {
    ...moving,
    activity: "copyRange",
    // Its row is the table's, and says nothing more.
    status: null,
    text: "copy one key range into every shard, with one snapshot",
  },
  schemaPost: {
    ...moving,
    activity: "syncSchema",
    status: "finalizing schema",
    rowStatus: SCHEMA_WORDS.post,
    text: "create indexes, foreign keys and triggers at the destination",
  },
  replicate: {
    ...child,
    workflow: "replicate",
    status: "replicating",
    text: "stream and verify until traffic is switched, or the task is given up",
  },
  runStream: {
    ...moving,
    activity: "runStream",
    // Ends only with the migration: PeerDB runs its stream in the same way.
    startToCloseMs: 365 * DAY,
    longestRetryMs: 10 * SECOND,
    // Below everything from standby to switch.
    status: null,
    text: "read one shard's slot and apply its changes to the other side",
  },
  schemaCutover: {
    ...moving,
    activity: "syncSchema",
    status: "replicating",
    rowStatus: SCHEMA_WORDS.cutover,
    text: "after catch-up: validate foreign keys, add what the copied ranges did not fit yet",
  },
  verifyPass: {
    ...moving,
    activity: "verifyPass",
    status: "replicating",
    text: "compare every range of both sides",
  },
  readiness: {
    ...beating,
    activity: "readiness",
    startToCloseMs: 3 * MINUTE,
    onFailure: "retryForever",
    status: "replicating",
    text: "ask whether a switch is allowed and would be short",
  },
  cutover: {
    ...child,
    workflow: "cutover",
    onFailure: "undo",
    status: attempt.status,
    text: "one attempt to switch traffic",
  },
  prepareDecision: {
    ...attempt,
    activity: "prepareDecision",
    text: "write the next epoch as planned, with a fresh token",
  },
  createStandby: {
    ...attempt,
    activity: "createStream",
    startToCloseMs: 10 * MINUTE,
    text: "make the slots of the way back",
  },
  awaitStandby: {
    ...attempt,
    activity: "awaitStandby",
    text: "wait until every lane of the way back reads its slot",
  },
  advanceSequences: {
    ...attempt,
    activity: "advanceSequences",
    text: "move sequences ahead of every id given out, disjoint between shards",
  },
  listNodes: {
    ...attempt,
    activity: "listNodes",
    startToCloseMs: 30 * SECOND,
    text: "find the nodes that serve these databases",
  },
  armNode: {
    ...attempt,
    activity: "armNode",
    queue: "node",
    startToCloseMs: 10 * SECOND,
    heartbeatMs: null,
    // A node that does not take the task within this is silent: abort the attempt or fence it out, by policy.
    scheduleToStartMs: 2 * SECOND,
    attempts: 1,
    text: "load the next routes on one node and let it watch the decision",
  },
  switchTraffic: {
    ...attempt,
    activity: "switchTraffic",
    // The cap ends the pause; ten seconds more are for what follows the decision.
    startToCloseMs: 10 * SECOND,
    addPauseCap: true,
    heartbeatMs: 2 * SECOND,
    // Waiting for a process that may come up minutes later is no use: the arming would be over.
    scheduleToStartMs: 5 * SECOND,
    // Never repeated: its result is advice, `resolve` knows.
    attempts: 1,
    text: "pause, synchronize, begin reverse replication, swap, resume",
  },
  resolve: {
    ...beating,
    activity: "resolve",
    startToCloseMs: MINUTE,
    longestRetryMs: 2 * SECOND,
    onFailure: "retryForever",
    status: attempt.status,
    text: "read the decision and drive gates and nodes to what it says",
  },
  dropStream: {
    ...beating,
    activity: "dropStream",
    onFailure: "retryForever",
    status: null,
    text: "drop slots, origins and lanes of one stream",
  },
  abortMigration: {
    ...beating,
    activity: "abortMigration",
    onFailure: "retryForever",
    status: null,
    text: "remove everything that was made, put replica identities back, leave the serving side open",
  },
  finalizeMigration: {
    ...beating,
    activity: "finalizeMigration",
    onFailure: "retryForever",
    status: taskWords.stopping,
    text: "drop the way back, put replica identities back; the old side stays fenced with its data",
  },
  schemaPreTask: {
    ...schemaTask,
    status: SCHEMA_WORDS.pre,
    text: "SCHEMA_SYNC before the data: what `schemaPre` does, as a task of its own",
  },
  schemaPostTask: {
    ...schemaTask,
    status: SCHEMA_WORDS.post,
    text: "SCHEMA_SYNC after the data: what `schemaPost` does, as a task of its own",
  },
  schemaCutoverTask: {
    ...schemaTask,
    status: SCHEMA_WORDS.cutover,
    text: "SCHEMA_SYNC of the cutover: what `schemaCutover` does, as a task of its own",
  },
} as const satisfies Readonly<Record<string, Step>>;

export type StepName = keyof typeof STEPS;

/** Steps whose failure means one of these. */
type StepWith<F extends OnFailure> = {
  [N in StepName]: (typeof STEPS)[N]["onFailure"] extends F ? N : never;
}[StepName];
export type ChildStepName = {
  [N in StepName]: (typeof STEPS)[N]["kind"] extends "child" ? N : never;
}[StepName];
/** What a task may run: no step of it can end an attempt that is not there. */
export type TaskStepName = StepWith<Exclude<OnFailure, "undo">>;
/** What an attempt at a switch may run: it neither ends the task nor waits for a person. */
export type AttemptStepName = Exclude<StepWith<"undo" | "retryForever">, ChildStepName>;

/** The function behind a step: an activity, or a workflow. */
export type StepFunction<N extends StepName> = (typeof STEPS)[N] extends {
  readonly workflow: infer W extends keyof Workflows;
}
  ? Workflows[W]
  : (typeof STEPS)[N] extends { readonly activity: infer A extends ActivityName }
    ? Activities[A]
    : never;

/** The same steps under their common type, for code that treats all alike. */
export const ALL_STEPS: Readonly<Record<StepName, Step>> = { ...STEPS };

/** SCHEMA_SYNC's step by its phase. */
export const SCHEMA_TASK_STEP = {
  pre: "schemaPreTask",
  post: "schemaPostTask",
  cutover: "schemaCutoverTask",
} as const;

/** `inner_status` while the step runs; null: the task keeps the words that it has. */
export function statusOf(
  { status }: Pick<Step, "status">,
  direction: { readonly isReverse: boolean },
): string | null {
  if (status === null || typeof status === "string") return status;
  return direction.isReverse ? status.reverse : status.forward;
}

/** What the runner does when a step has failed for good. */
export type FailurePlan =
  /** Tries again when a person says so, or by itself after this long; null: only when told. */
  | { readonly kind: "stay"; readonly pauseMs: number | null }
  | { readonly kind: "endTask"; readonly undoes: boolean }
  | { readonly kind: "endAttempt" };

/** The meaning of the five words, for the runner. */
export function failurePlan(
  step: Pick<ActivityStep, "onFailure" | "longestRetryMs"> | Pick<ChildStep, "kind" | "onFailure">,
): FailurePlan {
  switch (step.onFailure) {
    case "fail":
      return { kind: "endTask", undoes: false };
    case "abort":
      return { kind: "endTask", undoes: true };
    case "undo":
      return { kind: "endAttempt" };
    case "park":
      return { kind: "stay", pauseMs: null };
    case "retryForever":
      return { kind: "stay", pauseMs: step.longestRetryMs };
    default:
      return assertNever(step, "onFailure");
  }
}

/** What is to be undone by a task that goes on at this step after continue-as-new; oldest first. */
export function compensationsBefore(name: StepName): readonly Compensation[] {
  const steps = Object.entries(ALL_STEPS);
  const before = steps.slice(
    0,
    steps.findIndex(([each]) => each === name),
  );
  return before.flatMap(([, { compensation }]) => (compensation === null ? [] : [compensation]));
}

/** How an undo is called, for a migration that has not switched: stream 0 is all that it has. */
export const UNDO: {
  readonly [C in Compensation]: (ref: MigrationRef) => {
    readonly summary: string;
    readonly input: Parameters<Activities[C]>;
  };
} = {
  dropStream: (ref) => ({ summary: "drop stream 0", input: [{ ref, stream: 0 }] }),
  abortMigration: (ref) => ({ summary: `undo ${ref.source} -> ${ref.destination}`, input: [ref] }),
};

/**
 * The five steps of a switch as operators know them, by the key of their milliseconds, in the order in which
 * they happen. PgDog documents the swap before reverse replication; here the way back begins before the
 * decision, so that it misses nothing that the new side takes (R34).
 */
export const OPERATOR_STEPS = [
  { key: "pause", text: "pause traffic" },
  { key: "synchronize", text: "synchronize" },
  { key: "reverse", text: "reverse replication" },
  { key: "swap", text: "swap" },
  { key: "resume", text: "resume traffic" },
] as const;

/** The table of docs/steps.md, lines without their ends. @testonly */
export function stepsTable(): readonly string[] {
  const rows = Object.entries(ALL_STEPS).map(
    ([name, step]) =>
      `| \`${name}\` | ${step.text} | ${queueOf(step)} | ${limits(step)} | ${step.onFailure} | ${step.compensation ?? ""} | ${words(step)} |`,
  );
  return [
    "| step | what it does | queue | limits | when it fails for good | undone by | `inner_status` |",
    "| --- | --- | --- | --- | --- | --- | --- |",
    ...rows,
  ];
}

function queueOf(step: Step): string {
  return step.kind === "child" ? "(workflow)" : step.queue;
}

function words(step: Step): string {
  const { status, rowStatus } = step;
  const own =
    status === null || typeof status === "string"
      ? (status ?? "")
      : `${status.forward}, ${status.reverse}`;
  return rowStatus === null ? own : `${own}; its row: ${rowStatus}`;
}

function limits(step: Step): string {
  if (step.kind === "child") return "";
  const attemptMs = inWords(step.startToCloseMs);
  return [
    `attempt ${step.addPauseCap ? `pause cap + ${attemptMs}` : attemptMs}`,
    step.heartbeatMs === null ? "" : `heartbeat ${inWords(step.heartbeatMs)}`,
    step.scheduleToStartMs === null ? "" : `start within ${inWords(step.scheduleToStartMs)}`,
    step.attempts === null ? "" : `${step.attempts} attempt${step.attempts === 1 ? "" : "s"}`,
  ]
    .filter((part) => part !== "")
    .join(", ");
}

function inWords(ms: number): string {
  if (ms % DAY === 0) return `${ms / DAY} d`;
  if (ms % HOUR === 0) return `${ms / HOUR} h`;
  if (ms % MINUTE === 0) return `${ms / MINUTE} min`;
  return `${ms / SECOND} s`;
}
