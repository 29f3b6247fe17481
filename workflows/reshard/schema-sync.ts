import { ApplicationFailure, isCancellation } from "@temporalio/workflow";
import { type SchemaSyncInput, taskType } from "../../src/resharding/model/tasks.js";
import { activity } from "../task/activity-options.js";
import { describeFailure, failureOf } from "../task/failures.js";
import { handleOrders } from "../task/orders.js";
import { createTaskView } from "../task/task-view.js";

const STATUS = {
  pre: "syncing tables",
  post: "creating indexes",
  cutover: "syncing cutover schema",
};

/** SCHEMA_SYNC: one phase, on its own. Fails where the existing system only logs. */
export async function schemaSync(input: SchemaSyncInput): Promise<number> {
  const { ref, phase } = input;
  const view = createTaskView({
    ref,
    type: taskType.schemaSync(ref, phase),
    innerStatus: STATUS[phase],
    isReverse: false,
    startedAtMs: Date.now(),
    subtasks: [],
    lastSwitch: null,
    role: "root",
  });
  handleOrders({}, "schemaSync");
  try {
    const name = phase === "pre" ? "schemaPre" : "schemaPost";
    const summary = `schema ${phase} of ${ref.source} -> ${ref.destination}`;
    const { statementCount } = await activity(name, { summary })({ ref, phase });
    view.change({ status: "finished" });
    return statementCount;
  } catch (error) {
    if (isCancellation(error)) {
      view.change({ status: "cancelled" });
      throw error;
    }
    view.change({ status: `failed: ${describeFailure(error)}` });
    throw ApplicationFailure.nonRetryable(describeFailure(error), failureOf(error).code);
  }
}
