import { fileURLToPath } from "node:url";
import { Client, Connection } from "@temporalio/client";
import { createLightActivities } from "../../activities/light.js";
import { createNodeActivities } from "../../activities/node.js";
import { taskPolicyOf } from "../control/task-policy.js";
import { connectionOptions } from "../control/temporal/connection.js";
import { allocateTaskId } from "../control/temporal/task-ids.js";
import { queues } from "../resharding/model/tasks.js";
import { armOverChannel } from "./processes/arm-calls.js";
import { runWorkerProcess } from "./processes/worker-host.js";

/** Made by `npm run build`, beside this file's folder, with the same SDK. */
const WORKFLOW_BUNDLE = fileURLToPath(new URL("../../workflows.bundle.js", import.meta.url));
/** Long questions hold a slot each; the switch must never wait for one. */
const LIGHT_AT_ONCE = 100;
const NODE_AT_ONCE = 10;
const ALLOCATE_TIMEOUT_MS = 10_000;

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
  const node = createNodeActivities({ ...host.deps, arm: armOverChannel(host) });
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
