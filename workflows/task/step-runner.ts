import { CancellationScope, condition, isCancellation } from "@temporalio/workflow";
import { ALL_STEPS, type StepName } from "../../src/resharding/model/steps.js";
import type { Parked } from "../../src/resharding/model/tasks.js";
import { failureOf } from "./failures.js";
import type { TaskView } from "./task-view.js";

/** Counts `retryStep` orders; every parked step waits for the count to grow. */
export interface Retries {
  count: number;
}

/**
 * Runs a step until it succeeds, or fails in a way that its declaration does not keep here: "park" waits
 * for `retryStep`, "retryForever" repeats by itself, the others throw.
 * @throws the activity's failure, or the cancellation of the scope
 */
export type StepRunner = <T>(name: StepName, call: () => Promise<T>) => Promise<T>;

const FOREVER_PAUSE_MS = 5_000;

export function createStepRunner(view: TaskView, retries: Retries): StepRunner {
  return async (name, call) => {
    for (;;) {
      try {
        return await call();
      } catch (error) {
        if (isCancellation(error) || !staysHere(name)) throw error;
        await waitForNextTry({ view, retries, name, error });
      }
    }
  };
}

function staysHere(name: StepName): boolean {
  const { onFailure } = ALL_STEPS[name];
  return onFailure === "park" || onFailure === "retryForever";
}

async function waitForNextTry(options: {
  readonly view: TaskView;
  readonly retries: Retries;
  readonly name: StepName;
  readonly error: unknown;
}): Promise<void> {
  const { view, retries, name } = options;
  const parked: Parked = { step: name, ...failureOf(options.error) };
  const seen = retries.count;
  view.park(parked);
  try {
    const isRetried = () => retries.count > seen;
    if (ALL_STEPS[name].onFailure === "park") await condition(isRetried);
    else await condition(isRetried, FOREVER_PAUSE_MS);
  } finally {
    view.unpark(parked);
  }
}

/** Work beside the main line. `stop` cancels it and returns when it has really ended. */
export interface Background {
  stop(): Promise<void>;
  /** What it failed with, if not by `stop`; the main line must look. */
  readonly failure: () => { readonly error: unknown } | null;
}

export function inBackground(work: () => Promise<unknown>): Background {
  const scope = new CancellationScope();
  let failure: { readonly error: unknown } | null = null;
  const done = scope.run(work).catch((error: unknown) => {
    if (!isCancellation(error)) failure = { error };
  });
  return {
    stop: async () => {
      scope.cancel();
      await done;
    },
    failure: () => failure,
  };
}

/**
 * Runs all side by side and returns when *all* have ended. The first failure cancels the others and is
 * thrown after they have stopped: `Promise.all` would let an undo run beside work that it undoes.
 */
export async function together(works: readonly (() => Promise<unknown>)[]): Promise<void> {
  const scope = new CancellationScope();
  const failures: unknown[] = [];
  await Promise.all(
    works.map((work) =>
      scope.run(work).catch((error: unknown) => {
        failures.push(error);
        scope.cancel();
      }),
    ),
  );
  if (failures.length > 0) throw failures.find((error) => !isCancellation(error)) ?? failures[0];
}
