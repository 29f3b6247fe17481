import { ApplicationFailure, setHandler } from "@temporalio/workflow";
import {
  abortSignal,
  abortUpdate,
  cutoverSignal,
  cutoverUpdate,
  finalizeSignal,
  finalizeUpdate,
  goSignal,
  goUpdate,
  ORDERS,
  type Order,
  type OrderName,
  retryStepSignal,
  retryStepUpdate,
  rollbackSignal,
  rollbackUpdate,
} from "./messages.js";

/** What a workflow does with one order. */
export interface OrderHandler {
  /** Why it is refused now, or null. Pure: it also runs as the update's validator. */
  readonly refusal: () => string | null;
  /** Sets a flag; a second time changes nothing. Returns what the giver of the order reads. */
  readonly take: (order: Order) => string;
}

const definitions = {
  cutover: { update: cutoverUpdate, signal: cutoverSignal },
  rollback: { update: rollbackUpdate, signal: rollbackSignal },
  finalize: { update: finalizeUpdate, signal: finalizeSignal },
  abort: { update: abortUpdate, signal: abortSignal },
  go: { update: goUpdate, signal: goSignal },
  retryStep: { update: retryStepUpdate, signal: retryStepSignal },
} as const;

/** Wires every order as update and as signal; an order without a handler is refused by name. */
export function handleOrders(
  handlers: Readonly<Partial<Record<OrderName, OrderHandler>>>,
  workflow: string,
): void {
  for (const name of ORDERS) {
    const handler = handlers[name] ?? {
      refusal: () => `a ${workflow} task knows no "${name}"`,
      take: () => "",
    };
    setHandler(definitions[name].update, (order?: Order) => handler.take(order ?? {}), {
      validator: (_order?: Order) => {
        const refusal = handler.refusal();
        if (refusal !== null) throw ApplicationFailure.nonRetryable(refusal, "SLUICE_NOT_READY");
      },
    });
    // A signal cannot be refused: out of place, it is dropped here, as the update would have been.
    setHandler(definitions[name].signal, (order) => {
      if (handler.refusal() === null) handler.take(order ?? {});
    });
  }
}
