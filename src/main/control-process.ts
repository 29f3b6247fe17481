import { fileURLToPath } from "node:url";
import { Client, Connection } from "@temporalio/client";
import { createLightActivities } from "../../activities/light.js";
import { createNodeActivities } from "../../activities/node.js";
import { taskPolicyOf } from "../control/policies.js";
import { connectionOptions } from "../control/temporal/connection.js";
import { allocateTaskId } from "../control/temporal/task-ids.js";
import { type ErrorFields, SluiceError } from "../core/errors.js";
import { SQLSTATE } from "../core/sqlstate.js";
import type { NodeActivities } from "../resharding/model/activities.js";
import { queues } from "../resharding/model/tasks.js";
import { runWorkerProcess, type WorkerHost } from "./processes/worker-host.js";

/** Made by `npm run build`, beside this file's folder, with the same SDK. */
const WORKFLOW_BUNDLE = fileURLToPath(new URL("../../workflows.bundle.js", import.meta.url));
/** Long questions hold a slot each; the switch must never wait for one. */
const LIGHT_AT_ONCE = 100;
const NODE_AT_ONCE = 10;
const ALLOCATE_TIMEOUT_MS = 10_000;

/** The node is there but could not load what comes after the switch. The attempt is undone, or the node fenced. */
class NodeNotArmed extends SluiceError {
  readonly code = "SLUICE_NODE_NOT_ARMED";
  readonly sqlState = SQLSTATE.objectNotInPrerequisiteState;
  readonly recovery = "operator";
  constructor(nodeId: string, reason: string, options: ErrorFields = {}) {
    super(`node ${nodeId} did not arm: ${reason}`, {
      hint: "See that node's log and SHOW CUTOVER there.",
      ...options,
    });
  }
}

/** Entry point: workflows, short activities and the switch, and what concerns this node alone. */
runWorkerProcess("control", (host) => {
  const { temporal } = host.config().sluice;
  const connection = Connection.lazy(connectionOptions(temporal));
  const client = new Client({ connection, namespace: temporal.namespace });
  const light = createLightActivities({
    ...host.deps,
    taskPolicy: () => taskPolicyOf(host.config()),
    allocateTaskId: (requestId) =>
      connection.withDeadline(Date.now() + ALLOCATE_TIMEOUT_MS, () =>
        allocateTaskId(client, requestId),
      ),
  });
  const node = createNodeActivities({ ...host.deps, arm: armBy(host) });
  return [
    {
      taskQueue: queues.light,
      activities: light,
      workflowBundle: WORKFLOW_BUNDLE,
      activitiesAtOnce: LIGHT_AT_ONCE,
    },
    {
      taskQueue: queues.node(host.node),
      activities: node,
      workflowBundle: null,
      activitiesAtOnce: NODE_AT_ONCE,
    },
  ];
});

/** Nobody waits for ever, as the activity has a timeout and the process ends with the channel. */
function armBy({ ask, node: { nodeId } }: WorkerHost): NodeActivities["armNode"] {
  return async (order) => {
    try {
      await ask.arm(order);
    } catch (error) {
      throw new NodeNotArmed(nodeId, error instanceof Error ? error.message : String(error));
    }
    return { nodeId };
  };
}
