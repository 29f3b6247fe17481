import { ApplicationFailure } from "@temporalio/workflow";
import type { ErrorCode } from "../../src/core/errors.js";
import {
  ALL_STEPS,
  type FailurePlan,
  failurePlan,
  type StepName,
} from "../../src/resharding/model/steps.js";
import type { Failure } from "./failures.js";

type Leaving = Exclude<FailurePlan, { readonly kind: "stay" }>;

/**
 * A step has failed for good, and its declaration says what ends with it. Thrown by the runner, and by a
 * workflow when the *answer* of a step says that it failed. A failure of Temporal's own kind: it ends the run.
 */
export class StepFailed extends ApplicationFailure {
  readonly plan: Leaving;
  constructor(step: StepName, plan: Leaving, failure: Failure) {
    const details = [{ hint: failure.hint, step }];
    super(failure.message, failure.code, true, details);
    this.plan = plan;
  }
}

/** A step that answered, but not with what its task needs: the same as if it had failed. */
export function answeredBadly(
  step: StepName,
  failure: { readonly code: ErrorCode; readonly message: string; readonly hint?: string },
): Error {
  const plan = failurePlan(ALL_STEPS[step]);
  // Nothing to wait for here: the step ended well, and would answer the same again.
  if (plan.kind === "stay") throw new TypeError(`${step} stays, and cannot end its task`);
  return new StepFailed(step, plan, { hint: "", ...failure });
}

/** Whether what was made has to be undone; anything but a declared "no" means yes. */
export function undoes(error: unknown): boolean {
  return !(error instanceof StepFailed && error.plan.kind === "endTask" && !error.plan.undoes);
}
