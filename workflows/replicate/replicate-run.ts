import { log, workflowInfo } from "@temporalio/workflow";
import type { ReadinessResult } from "../../src/resharding/model/activities.js";
import { streamFrom } from "../../src/resharding/model/migration.js";
import { replicatePhase, type TaskPhase } from "../../src/resharding/model/orders.js";
import { type Next, nextOf } from "../../src/resharding/model/replicate-plan.js";
import { ALL_STEPS, statusOf, type TaskStepName } from "../../src/resharding/model/steps.js";
import {
  type CutoverResult,
  type LastSwitch,
  type ReplicateInput,
  taskType,
  taskWords,
} from "../../src/resharding/model/tasks.js";
import type { Background } from "../task/side-by-side.js";
import { createStepRunner, type Retries, type StepRunner } from "../task/step-runner.js";
import { createTaskView, type TaskView } from "../task/task-view.js";

/** What people and other workflows asked for. Only ever set, so an order given twice changes nothing. */
export interface ReplicateFlags {
  wantsSwitch: boolean;
  /** Go on without the back-off after an undone switch. */
  isHurried: boolean;
  isFinalized: boolean;
  isAborted: boolean;
  isCancelled: boolean;
  begun: CutoverResult | null;
}

const NOTHING_ASKED: ReplicateFlags = {
  wantsSwitch: false,
  isHurried: false,
  isFinalized: false,
  isAborted: false,
  isCancelled: false,
  begun: null,
};

/** A replicate task runs the steps of a task, and attempts at a switch. */
type ReplicateStepName = TaskStepName | "cutover";

/** The state of one `replicate` run; what follows from it is decided in model/replicate-plan.ts. */
export interface ReplicateRun {
  readonly input: ReplicateInput;
  readonly flags: ReplicateFlags;
  readonly retries: Retries;
  readonly view: TaskView;
  readonly step: StepRunner<ReplicateStepName>;
  /** A sentence for people that no other field has room for. */
  notice: string;
  isSwitching: boolean;
  /** The switch away is committed. */
  isSwitched: boolean;
  /** The last answer said so; cleared by whoever acts on it. */
  isReady: boolean;
  /** Schema phase "cutover" is still to be run. */
  needsSchema: boolean;
  /** No attempt before this time. */
  notBeforeMs: number;
  passes: number;
  lastCleanAtMs: number | null;
  readonly isServing: () => boolean;
  readonly phase: () => TaskPhase;
  readonly attempts: () => number;
  readonly startedAtMs: () => number;
  readonly fromShards: () => readonly number[];
  readonly log: (message: string) => void;
  begin(taskId: number): void;
  note(readiness: ReadinessResult): void;
  nextAttempt(): number;
  noteSwitch(result: CutoverResult): LastSwitch;
  onStop(stop: () => Promise<void>): void;
  stopAll(): Promise<void>;
  /** @param beside work whose failure ends the task */
  next(...beside: readonly Background[]): Next;
  continued(): ReplicateInput;
}

export function createReplicateRun(input: ReplicateInput): ReplicateRun {
  const { resume, stream, ref } = input;
  let isServing = resume === null ? stream === 0 : resume.isBegun;
  let taskId = resume?.taskId ?? null;
  let attempts = resume?.attempts ?? 0;
  let lastSwitch = resume?.lastSwitch ?? null;
  let startedAtMs = resume?.startedAtMs ?? Date.now();
  const stops: (() => Promise<void>)[] = [];
  const view = viewOf(input, { isServing, taskId, startedAtMs });
  const retries: Retries = { count: 0 };
  const run: ReplicateRun = {
    input,
    flags: { ...NOTHING_ASKED, wantsSwitch: input.autoCutover },
    retries,
    view,
    step: createStepRunner({ view, retries, made: [] }),
    notice: "",
    isSwitching: false,
    isSwitched: false,
    isReady: false,
    needsSchema: input.needsSchema,
    notBeforeMs: 0,
    passes: resume?.passes ?? 0,
    lastCleanAtMs: resume?.lastCleanAtMs ?? null,
    isServing: () => isServing,
    phase: () => phaseOf(run),
    attempts: () => attempts,
    startedAtMs: () => startedAtMs,
    fromShards: () => Array.from({ length: input.shards[streamFrom(stream)] }, (_, shard) => shard),
    log: (message) => log.info(message, { migration: ref.id, stream }),
    begin: (id) => {
      isServing = true;
      taskId = id;
      // As people count: the way back began with the switch, not with its standby.
      startedAtMs = Date.now();
    },
    note: (readiness) => noteReadiness(run, readiness),
    nextAttempt: () => {
      attempts += 1;
      return attempts;
    },
    noteSwitch: (result) => {
      lastSwitch = { ...result, atMs: Date.now() };
      return lastSwitch;
    },
    onStop: (stop) => {
      stops.push(stop);
    },
    stopAll: async () => {
      for (const stop of stops) await stop();
    },
    next: (...beside) => decide(run, beside),
    continued: () => ({
      ...input,
      autoCutover: run.flags.wantsSwitch,
      needsSchema: run.needsSchema,
      resume: {
        isBegun: isServing,
        taskId,
        attempts,
        passes: run.passes,
        lastCleanAtMs: run.lastCleanAtMs,
        lastSwitch,
        startedAtMs,
        subtasks: view.state().subtasks,
      },
    }),
  };
  return run;
}

function noteReadiness(
  { view, notice, flags, input }: ReplicateRun,
  { lagBytes, predictedPauseMs, rollbackDependsOn, ...readiness }: ReadinessResult,
): void {
  const reasons = readiness.waitingFor.map((blocker) => blocker.message);
  const waitingFor = notice === "" ? reasons : [...reasons, notice];
  view.change({ waitingFor, lagBytes, predictedPauseMs, isSwitchWanted: flags.wantsSwitch });
  // Of a switch that is there, or is to come for the first time: after a rollback nothing depends on it.
  const isThere = input.stream === 0 || streamFrom(input.stream) !== "source";
  if (rollbackDependsOn !== undefined && isThere)
    view.subtask(taskType.rollbackDependsOn(rollbackDependsOn), {
      status: "noted",
      innerStatus: taskWords.eachShardAlone,
    });
}

function phaseOf({ input, flags, isSwitching, isSwitched, isServing }: ReplicateRun): TaskPhase {
  return replicatePhase({
    ...flags,
    isSwitching,
    isSwitched,
    isForward: input.stream === 0,
    isServing: isServing(),
  });
}

function decide({ flags, isReady }: ReplicateRun, beside: readonly Background[]): Next {
  return nextOf({
    ...flags,
    isReady,
    hasFailed: beside.some((work) => work.failure() !== null),
    isHistoryLong: workflowInfo().continueAsNewSuggested,
  });
}

function viewOf(
  { ref, stream, resume }: ReplicateInput,
  begun: {
    readonly isServing: boolean;
    readonly taskId: number | null;
    readonly startedAtMs: number;
  },
): TaskView {
  const isReverse = stream > 0;
  const serving = statusOf(ALL_STEPS.readiness, { isReverse }) ?? "";
  return createTaskView({
    ref,
    type: taskType.replication(ref, stream),
    innerStatus: begun.isServing ? serving : taskWords.standby,
    isReverse,
    startedAtMs: begun.startedAtMs,
    subtasks: resume?.subtasks ?? [],
    lastSwitch: resume?.lastSwitch ?? null,
    role: roleOf(stream, begun.taskId),
  });
}

function roleOf(stream: number, taskId: number | null): "root" | "child" | "standby" {
  if (stream === 0) return "child";
  return taskId === null ? "standby" : "root";
}
