import type { Config } from "../../config/model.js";
import type { MigrationRef } from "../../resharding/model/migration.js";

/**
 * Messages between a node's main process and its control and mover processes, over Node's IPC. Plain JSON.
 * A worker process ends when the channel ends: its parent is gone.
 */
export type ToWorker =
  /** First of all, and again whenever a switch or a reload changes it. Names exchanged by switches. */
  | { readonly kind: "config"; readonly config: Config; readonly node: NodeIdentity }
  /** Answer to "arm". */
  | { readonly kind: "armed"; readonly id: number; readonly error: string | null }
  /** Stop taking work, end what runs, then exit; after `timeoutMs` it is killed. */
  | { readonly kind: "shutdown"; readonly timeoutMs: number };

export type FromWorker =
  /** Polls its task queues. Not said while Temporal is absent. */
  | { readonly kind: "ready" }
  /** The activity `armNode` of this node: the main process has the agent. */
  | { readonly kind: "arm"; readonly id: number; readonly order: ArmOrder };

export interface ArmOrder {
  readonly ref: MigrationRef;
  readonly epoch: number;
  readonly token: string;
  readonly forMs: number;
}

export interface NodeIdentity {
  readonly nodeId: string;
  /** New at each start of the main process; part of the node's task queue. */
  readonly incarnation: string;
  /** host:port that clients use. */
  readonly address: string;
}
