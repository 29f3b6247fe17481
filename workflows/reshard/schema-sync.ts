import { isCancellation } from "@temporalio/workflow";
import {
  ALL_STEPS,
  SCHEMA_TASK_STEP,
  statusOf,
  type TaskStepName,
} from "../../src/resharding/model/steps.js";
import { type SchemaSyncInput, taskType } from "../../src/resharding/model/tasks.js";
import { describeFailure } from "../task/failures.js";
import { handleOrders } from "../task/order-handlers.js";
import { createStepRunner, type Retries } from "../task/step-runner.js";
import { createTaskView } from "../task/task-view.js";

/** SCHEMA_SYNC: one phase, on its own. Fails where the existing system only logs. */
export async function schemaSync(input: SchemaSyncInput): Promise<number> {
  const { ref, phase } = input;
  const name = SCHEMA_TASK_STEP[phase];
  const retries: Retries = { count: 0 };
  const view = createTaskView({
    ref,
    type: taskType.schemaSync(ref, phase),
    innerStatus: statusOf(ALL_STEPS[name], { isReverse: false }) ?? "",
    isReverse: false,
    startedAtMs: Date.now(),
    subtasks: [],
    lastSwitch: null,
    role: "root",
  });
  handleOrders({ view, retries, phase: () => "schemaSync", take: () => undefined });
  const step = createStepRunner<TaskStepName>({ view, retries, made: [] });
  try {
    const summary = `schema ${phase} of ${ref.source} -> ${ref.destination}`;
    const { statementCount } = await step(name, { summary }, { ref, phase });
    view.change({ status: "finished" });
    return statementCount;
  } catch (error) {
    view.change({
      status: isCancellation(error) ? "cancelled" : `failed: ${describeFailure(error)}`,
    });
    throw error;
  }
}
