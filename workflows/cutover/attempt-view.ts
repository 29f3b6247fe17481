import { setCurrentDetails } from "@temporalio/workflow";
import { attemptDetails } from "../../src/resharding/model/current-details.js";
import type { StepName } from "../../src/resharding/model/steps.js";
import type { Parked } from "../../src/resharding/model/tasks.js";
import type { StepView } from "../task/step-runner.js";

/** An attempt has no row in SHOW TASKS, which has its task's: its step shows in current details alone. */
export function createAttemptView(attempt: { readonly isReverse: boolean }): StepView {
  let step: StepName = "prepareDecision";
  const show = (parked: Parked | null) =>
    setCurrentDetails(attemptDetails({ ...attempt, step, parked }));
  return {
    enter: (name) => {
      step = name;
      show(null);
    },
    subtask: () => undefined,
    park: show,
    unpark: () => show(null),
  };
}
