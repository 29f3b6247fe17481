import { type Client, WithStartWorkflowOperation } from "@temporalio/client";
import { allocateUpdate } from "../../../workflows/task/messages.js";
import { queues, workflowIds } from "../../resharding/model/tasks.js";

/**
 * The next task id: integers from 0 upwards, over all nodes and restarts. The same request id gets the same
 * answer, so a repeat after a lost one takes no second id. Needs a control process that is up.
 */
export async function allocateTaskId(client: Client, requestId: string): Promise<number> {
  return await client.workflow.executeUpdateWithStart(allocateUpdate, {
    updateId: requestId,
    startWorkflowOperation: new WithStartWorkflowOperation("taskCounter", {
      workflowId: workflowIds.taskCounter,
      taskQueue: queues.light,
      args: [0],
      workflowIdConflictPolicy: "USE_EXISTING",
      staticSummary: "hands out the ids of SHOW TASKS",
    }),
  });
}
