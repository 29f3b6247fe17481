import { ApplicationFailure, setHandler } from "@temporalio/workflow";
import {
  answerOf,
  ORDERS,
  type OrderName,
  orderRefusal,
  type TaskPhase,
} from "../../src/resharding/model/orders.js";
import { type Order, orderMessages } from "./messages.js";
import type { Retries } from "./step-runner.js";
import type { TaskView } from "./task-view.js";

export interface OrderHandling {
  readonly view: Pick<TaskView, "state">;
  readonly retries: Retries;
  /** Where the task stands now; pure, for it also runs in the updates' validators. */
  readonly phase: () => TaskPhase;
  /**
   * Obeys an order that is taken: sets a flag, so that a second time changes nothing. `retryStep` is counted
   * before, so that only who passes it on needs to do more.
   */
  readonly take: (name: OrderName, order: Order) => void;
}

/** Wires every order as update and as signal; what is taken, and the words, come from model/orders.ts. */
export function handleOrders({ view, retries, phase, take }: OrderHandling): void {
  const refusal = (name: OrderName) =>
    orderRefusal(phase(), name, { isParked: view.state().parked !== null });
  const obey = (name: OrderName, order: Order) => {
    if (name === "retryStep") retries.count += 1;
    take(name, order);
    return answerOf(name);
  };
  for (const name of ORDERS) {
    const { update, signal } = orderMessages[name];
    setHandler(update, (order?: Order) => obey(name, order ?? {}), {
      validator: (_order?: Order) => {
        const why = refusal(name);
        if (why !== null) throw ApplicationFailure.nonRetryable(why, "SLUICE_NOT_READY");
      },
    });
    // A signal cannot be refused: out of place, it is dropped here, as the update would have been.
    setHandler(signal, (order) => {
      if (refusal(name) === null) obey(name, order ?? {});
    });
  }
}
