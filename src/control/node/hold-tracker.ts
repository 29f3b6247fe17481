import type { FromDataPlane, ToDataPlane } from "../../proxy/channel.js";
import type { DataPlaneGroup } from "./data-plane-group.js";

export interface HoldOrder {
  readonly token: string;
  readonly databases: readonly string[];
  readonly openTransactions: "wait" | "end";
  readonly clientTimeoutMs: number;
  readonly maxClients: number;
  readonly maxBytes: number;
}

/**
 * One hold over all data planes of this node. It is held when every live data plane has said so: one that
 * died holds nothing in flight any more but its servers' last statements, for which the barrier waits; one
 * that starts later is told the hold before it listens.
 */
export class HoldTracker {
  readonly order: HoldOrder;
  readonly #planes: DataPlaneGroup;
  readonly #held = new Set<number>();
  readonly #unsubscribe: () => void;
  readonly #onHeld: () => void;
  readonly #onOverflow: (reason: string) => void;
  #wasHeld = false;

  constructor(
    planes: DataPlaneGroup,
    order: HoldOrder,
    callbacks: { readonly onHeld: () => void; readonly onOverflow: (reason: string) => void },
  ) {
    this.order = order;
    this.#planes = planes;
    this.#onHeld = callbacks.onHeld;
    this.#onOverflow = callbacks.onOverflow;
    this.#unsubscribe = planes.subscribe({
      message: (plane, message) => this.#take(plane, message),
      left: () => this.#check(),
    });
    const message: ToDataPlane = { kind: "hold", ...order };
    planes.broadcast(message);
  }

  /** Lets the clients go on, under the topology that was published before. */
  release(): void {
    this.#unsubscribe();
    this.#planes.broadcast({ kind: "release", token: this.order.token });
  }

  #take(plane: number, message: FromDataPlane): void {
    if (message.kind === "held" && message.token === this.order.token) {
      this.#held.add(plane);
      this.#check();
    }
    if (message.kind === "holdOverflow" && message.token === this.order.token) {
      this.#onOverflow(message.reason);
    }
  }

  #check(): void {
    if (this.#wasHeld) return;
    if (!this.#planes.planes.every((plane) => this.#held.has(plane))) return;
    this.#wasHeld = true;
    this.#onHeld();
  }
}
