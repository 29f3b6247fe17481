import type { FromDataPlane, ToDataPlane } from "../../proxy/channel.js";
import type { HoldWait } from "../../resharding/switch/hold-wait.js";
import type { DataPlaneGroup } from "./data-plane-group.js";

export interface HoldOrder {
  readonly token: string;
  readonly databases: readonly string[];
  readonly openTransactions: "wait" | "end";
  readonly clientTimeoutMs: number;
  readonly maxClients: number;
  readonly maxBytes: number;
}

/** Of the data planes together; each names a few of its own. */
const NAMED_TRANSACTIONS = 3;

/**
 * One hold over all data planes of this node. It is held when every live data plane has said so: one that
 * died holds nothing in flight any more but its servers' last statements, for which the barrier waits; one
 * that starts later is told the hold before it listens.
 */
export class HoldTracker {
  readonly order: HoldOrder;
  readonly #planes: DataPlaneGroup;
  readonly #held = new Set<number>();
  /** By data plane: what it said last of what it waits for. */
  readonly #waits = new Map<number, HoldWait>();
  readonly #unsubscribe: () => void;
  readonly #onHeld: () => void;
  readonly #onOverflow: (reason: string) => void;
  readonly #onWait: (wait: HoldWait) => void;
  #wasHeld = false;

  constructor(
    planes: DataPlaneGroup,
    order: HoldOrder,
    callbacks: {
      readonly onHeld: () => void;
      readonly onOverflow: (reason: string) => void;
      /** Not held yet, and this is why; again and again. */
      readonly onWait: (wait: HoldWait) => void;
    },
  ) {
    this.order = order;
    this.#planes = planes;
    this.#onHeld = callbacks.onHeld;
    this.#onOverflow = callbacks.onOverflow;
    this.#onWait = callbacks.onWait;
    this.#unsubscribe = planes.subscribe({
      message: (plane, message) => this.#take(plane, message),
      left: (plane) => {
        this.#waits.delete(plane);
        this.#check();
      },
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
    switch (message.kind) {
      case "held":
        if (message.token === this.order.token) this.#takeHeld(plane);
        return;
      case "holding":
        if (message.token === this.order.token) this.#takeWait(plane, message);
        return;
      case "holdOverflow":
        if (message.token === this.order.token) this.#onOverflow(message.reason);
        return;
      default:
        return;
    }
  }

  #takeHeld(plane: number): void {
    this.#held.add(plane);
    const waitingClients = this.#waits.get(plane)?.waitingClients ?? 0;
    this.#waits.set(plane, { waitingClients, openTransactions: 0, oldest: [] });
    this.#check();
  }

  #takeWait(plane: number, wait: HoldWait): void {
    const { waitingClients, openTransactions, oldest } = wait;
    this.#waits.set(plane, { waitingClients, openTransactions, oldest });
    if (!this.#wasHeld) this.#onWait(together([...this.#waits.values()]));
  }

  #check(): void {
    if (this.#wasHeld) return;
    if (!this.#planes.planes.every((plane) => this.#held.has(plane))) return;
    this.#wasHeld = true;
    this.#onHeld();
  }
}

function together(waits: readonly HoldWait[]): HoldWait {
  return {
    waitingClients: waits.reduce((sum, wait) => sum + wait.waitingClients, 0),
    openTransactions: waits.reduce((sum, wait) => sum + wait.openTransactions, 0),
    oldest: waits
      .flatMap((wait) => wait.oldest)
      .sort((a, b) => b.ageMs - a.ageMs)
      .slice(0, NAMED_TRANSACTIONS),
  };
}
