import type { Config } from "../../config/model.js";
import type { ArmOrder } from "../../resharding/model/activities.js";

/**
 * Messages to a control or mover process, over Node's IPC. Plain JSON. It ends when the channel ends: its
 * parent is gone.
 */
export type ToWorker =
  /** First of all, and again whenever a switch or a reload changes it. Names exchanged by switches. */
  | { readonly kind: "config"; readonly config: Config; readonly node: NodeIdentity }
  /** Stop taking work, end what runs, then exit; who takes too long is killed. */
  | { readonly kind: "shutdown" };

/** What a control or mover process asks of the main process. */
export interface NodeCalls {
  /** The activity `armNode` of this node: the main process has the agent. @throws why it did not arm */
  arm(order: ArmOrder): Promise<void>;
}

export interface NodeIdentity {
  readonly nodeId: string;
  /** New at each start of the main process; part of the node's task queue. */
  readonly incarnation: string;
  /** host:port that clients use. */
  readonly address: string;
}
