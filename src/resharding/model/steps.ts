import type { LightActivities, MoveActivities, NodeActivities } from "./activities.js";

/** Every activity by name, whichever process runs it. */
export type Activities = LightActivities & MoveActivities & NodeActivities;
export type ActivityName = keyof Activities;

/** light: control processes; move: mover processes; node: the one node that is meant. */
export type StepQueue = "light" | "move" | "node";

/**
 * What becomes of the task when the step fails for good (retryable failures are repeated before that):
 * - fail: the task ends as failed; nothing was made, so nothing is undone.
 * - abort: what was made is undone, then the task ends as failed.
 * - park: the task waits for `retryStep` or `abort` and shows code, message and hint meanwhile.
 * - undo: this attempt at a switch is undone, the task replicates on.
 * - retryForever: there is no other way out; the failure is shown and the step repeated.
 */
export type OnFailure = "fail" | "abort" | "park" | "undo" | "retryForever";

export interface Step {
  readonly activity: ActivityName;
  readonly queue: StepQueue;
  /** One attempt, in ms; "cap" adds the pause cap of the migration's policy. */
  readonly startToCloseMs: number;
  readonly addPauseCap?: true;
  /** null: too short to beat. A process that dies is noticed after this long, not after `startToCloseMs`. */
  readonly heartbeatMs: number | null;
  /** null: waits until somebody polls the queue. */
  readonly scheduleToStartMs: number | null;
  /** Attempts at retryable failures; null: without end. */
  readonly attempts: number | null;
  readonly longestRetryMs: number;
  readonly onFailure: OnFailure;
  /** Runs when the migration is given up after this step has begun, also if it had only half happened. */
  readonly compensation: "dropStream" | "abortMigration" | null;
  /** `inner_status` of SHOW TASKS while it runs: PgDog's words where it has one. */
  readonly status: string;
  /** One sentence for the UI, the runbook and docs/steps.md. */
  readonly text: string;
}

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const short = {
  queue: "light",
  startToCloseMs: 30 * SECOND,
  heartbeatMs: null,
  scheduleToStartMs: null,
  attempts: null,
  longestRetryMs: 10 * SECOND,
  onFailure: "park",
  compensation: null,
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

/** In an attempt at a switch: a failure costs the attempt, not the migration, so few repeats. */
const attempt = { ...beating, startToCloseMs: 2 * MINUTE, attempts: 3, onFailure: "undo" } as const;

/**
 * Every step of a migration, declared once: workflows take their options from here, SHOW TASKS its words,
 * docs/steps.md its table (held to it by a test). In the order in which they run.
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
    text: "take the lock on the moving tables on every shard of both sides",
  },
  schemaPre: {
    ...moving,
    activity: "syncSchema",
    status: "syncing schema",
    text: "create types, tables and primary keys at the destination",
  },
  installGates: {
    ...beating,
    activity: "installGates",
    startToCloseMs: HOUR,
    status: "syncing schema",
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
  copyRange: {
    ...moving,
    activity: "copyRange",
    status: "syncing data",
    text: "copy one key range into every shard, with one snapshot",
  },
  schemaPost: {
    ...moving,
    activity: "syncSchema",
    status: "finalizing schema",
    text: "create indexes, foreign keys and triggers at the destination",
  },
  runStream: {
    ...moving,
    activity: "runStream",
    // Ends only with the migration: PeerDB runs its stream in the same way.
    startToCloseMs: 365 * DAY,
    longestRetryMs: 10 * SECOND,
    status: "replicating",
    text: "read one shard's slot and apply its changes to the other side",
  },
  schemaCutover: {
    ...moving,
    activity: "syncSchema",
    status: "replicating",
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
  prepareDecision: {
    ...attempt,
    activity: "prepareDecision",
    status: "cutting over",
    text: "write the next epoch as planned, with a fresh token",
  },
  createStandby: {
    ...attempt,
    activity: "createStream",
    startToCloseMs: 10 * MINUTE,
    status: "cutting over",
    text: "make the slots of the way back",
  },
  awaitStandby: {
    ...attempt,
    activity: "awaitStandby",
    status: "cutting over",
    text: "wait until every lane of the way back reads its slot",
  },
  advanceSequences: {
    ...attempt,
    activity: "advanceSequences",
    status: "cutting over",
    text: "move sequences ahead of every id given out, disjoint between shards",
  },
  listNodes: {
    ...attempt,
    activity: "listNodes",
    startToCloseMs: 30 * SECOND,
    status: "cutting over",
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
    status: "cutting over",
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
    status: "cutting over",
    text: "pause, synchronize, swap, reverse replication, resume",
  },
  resolve: {
    ...beating,
    activity: "resolve",
    startToCloseMs: MINUTE,
    longestRetryMs: 2 * SECOND,
    onFailure: "retryForever",
    status: "cutting over",
    text: "read the decision and drive gates and nodes to what it says",
  },
  dropStream: {
    ...beating,
    activity: "dropStream",
    onFailure: "retryForever",
    status: "stopping",
    text: "drop slots, origins and lanes of one stream",
  },
  abortMigration: {
    ...beating,
    activity: "abortMigration",
    onFailure: "retryForever",
    status: "stopping",
    text: "remove everything that was made and leave the serving side open",
  },
  finalizeMigration: {
    ...beating,
    activity: "finalizeMigration",
    onFailure: "retryForever",
    status: "stopping",
    text: "drop the way back; the old side stays fenced with its data",
  },
} as const satisfies Readonly<Record<string, Step>>;

export type StepName = keyof typeof STEPS;

/** The same steps under their common type, for code that treats all alike. */
export const ALL_STEPS: Readonly<Record<StepName, Step>> = { ...STEPS };

/** The five steps of a switch as operators know them, in order, by the key of their milliseconds. */
export const OPERATOR_STEPS = [
  { key: "pause", text: "pause traffic" },
  { key: "synchronize", text: "synchronize" },
  { key: "swap", text: "swap" },
  { key: "reverse", text: "reverse replication" },
  { key: "resume", text: "resume traffic" },
] as const;

/** The table of docs/steps.md, lines without their ends. @testonly */
export function stepsTable(): readonly string[] {
  const rows = Object.entries(ALL_STEPS).map(
    ([name, step]) =>
      `| \`${name}\` | ${step.text} | ${step.queue} | ${limits(step)} | ${step.onFailure} | ${step.compensation ?? ""} | ${step.status} |`,
  );
  return [
    "| step | what it does | queue | limits | when it fails for good | undone by | `inner_status` |",
    "| --- | --- | --- | --- | --- | --- | --- |",
    ...rows,
  ];
}

function limits(step: Step): string {
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
