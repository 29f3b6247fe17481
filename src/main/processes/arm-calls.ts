import type { NodeActivities } from "../../resharding/model/activities.js";
import { NodeNotArmed } from "./node-not-armed.js";
import type { WorkerHost } from "./worker-host.js";

/**
 * The node's agent lives in the main process: one question, one answer, by number. Nobody waits for ever, as
 * the activity has a timeout and the process ends with the channel.
 */
export function armOverChannel(
  host: Pick<WorkerHost, "send" | "onMessage" | "node">,
): NodeActivities["armNode"] {
  const open = new Map<number, (error: string | null) => void>();
  let lastId = 0;
  host.onMessage((message) => {
    if (message.kind !== "armed") return;
    open.get(message.id)?.(message.error);
    open.delete(message.id);
  });
  return async (order) => {
    lastId += 1;
    const id = lastId;
    const answer = new Promise<string | null>((resolve) => open.set(id, resolve));
    host.send({ kind: "arm", id, order });
    const error = await answer;
    if (error !== null) throw new NodeNotArmed(host.node.nodeId, error);
    return { nodeId: host.node.nodeId };
  };
}
