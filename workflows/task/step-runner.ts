import { CancellationScope, condition, executeChild, isCancellation } from "@temporalio/workflow";
import type { MigrationRef } from "../../src/resharding/model/migration.js";
import {
  ALL_STEPS,
  type ChildStepName,
  type Compensation,
  failurePlan,
  type Step,
  type StepFunction,
  type StepName,
  UNDO,
} from "../../src/resharding/model/steps.js";
import type { Parked } from "../../src/resharding/model/tasks.js";
import { type ActivityCall, activityOf } from "./activity-options.js";
import { type ChildCall, childOptions } from "./child-options.js";
import { failureOf } from "./failures.js";
import { StepFailed } from "./step-failed.js";
import type { TaskView } from "./task-view.js";

/** Counts `retryStep` orders; every parked step waits for the count to grow. */
export interface Retries {
  count: number;
}

/** What the runner shows of a step. */
export type StepView = Pick<TaskView, "enter" | "subtask" | "park" | "unpark">;

export interface StepRunnerOptions {
  readonly view: StepView;
  readonly retries: Retries;
  /** What is to be undone, oldest first; the runner adds to it. */
  readonly made: Compensation[];
}

interface Shown {
  /** `type` of the row that the step has for itself, as long as it runs and after. */
  readonly row?: string;
  /** Changes together with the step's words: one change costs events once. */
  readonly shows?: Parameters<TaskView["enter"]>[1];
}

type CallOf<N extends StepName> = Shown & (N extends ChildStepName ? ChildCall : ActivityCall);

/**
 * Runs a step as it is declared in STEPS: notes what undoes it before it begins, shows its words, calls its
 * activity or workflow with the declared limits, and does with a failure what is declared.
 * @throws StepFailed when the step has failed for good and its declaration does not keep it here
 * @throws the cancellation of the scope that it runs in
 */
export type StepRunner<Allowed extends StepName> = <N extends Allowed>(
  name: N,
  call: CallOf<N>,
  ...input: Parameters<StepFunction<N>>
) => Promise<Awaited<ReturnType<StepFunction<N>>>>;

export function createStepRunner<Allowed extends StepName>(
  options: StepRunnerOptions,
): StepRunner<Allowed> {
  const run = (name: StepName, call: AnyCall, ...input: readonly unknown[]) =>
    runStep(options, name, { call, input });
  // STEPS says which function a name stands for; what the proxies return has no type of its own.
  return run as unknown as StepRunner<Allowed>;
}

/** Undoes what was made, newest first. */
export async function undoAll(options: StepRunnerOptions, ref: MigrationRef): Promise<void> {
  for (const name of options.made.toReversed()) {
    const { summary, input } = UNDO[name](ref);
    await runStep(options, name, { call: { summary }, input });
  }
}

type AnyCall = Shown & ActivityCall & Partial<ChildCall>;

interface Asked {
  readonly call: AnyCall;
  readonly input: readonly unknown[];
}

async function runStep(
  options: StepRunnerOptions,
  name: StepName,
  { call, input }: Asked,
): Promise<unknown> {
  const { view, made } = options;
  const step = ALL_STEPS[name];
  // Before it begins, for it may half happen.
  if (step.compensation !== null) made.push(step.compensation);
  view.enter(name, call.shows);
  if (call.row !== undefined)
    view.subtask(call.row, { status: "running", innerStatus: step.rowStatus ?? "" });
  const result = await untilDone(options, name, () => callOnce(step, call, input));
  if (call.row !== undefined) view.subtask(call.row, { status: "finished" });
  return result;
}

function callOnce(step: Step, call: AnyCall, input: readonly unknown[]): Promise<unknown> {
  if (step.kind === "activity") {
    const activity = activityOf(step, call) as (...args: readonly unknown[]) => Promise<unknown>;
    return activity(...input);
  }
  const { summary, workflowId } = call;
  if (workflowId === undefined) throw new TypeError(`${step.workflow} needs a workflow id`);
  return executeChild(step.workflow, {
    ...childOptions({ summary, workflowId }),
    args: [...input],
  });
}

async function untilDone(
  options: StepRunnerOptions,
  name: StepName,
  attempt: () => Promise<unknown>,
): Promise<unknown> {
  const plan = failurePlan(ALL_STEPS[name]);
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (isOver(error, plan.kind === "stay" && plan.pauseMs !== null)) throw error;
      if (plan.kind !== "stay") throw new StepFailed(name, plan, failureOf(error));
      await untilNextTry(options, { step: name, ...failureOf(error) }, plan.pauseMs);
    }
  }
}

/** Cancelled. What is repeated for ever takes that from its own scope alone, not from what it called (R43). */
function isOver(error: unknown, isForEver: boolean): boolean {
  if (!isCancellation(error)) return false;
  return !isForEver || CancellationScope.current().consideredCancelled;
}

async function untilNextTry(
  { view, retries }: StepRunnerOptions,
  parked: Parked,
  pauseMs: number | null,
): Promise<void> {
  const seen = retries.count;
  view.park(parked);
  try {
    const isRetried = () => retries.count > seen;
    if (pauseMs === null) await condition(isRetried);
    else await condition(isRetried, pauseMs);
  } finally {
    view.unpark(parked);
  }
}
