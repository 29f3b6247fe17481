import type { OrderName } from "../../src/resharding/model/orders.js";
import { handleOrders } from "../task/order-handlers.js";
import type { ReplicateRun } from "./replicate-run.js";

/** What a replicate task does with an order that it takes. */
export function handleReplicateOrders(run: ReplicateRun): void {
  const { view, retries, phase } = run;
  handleOrders({ view, retries, phase, take: (name) => take(run, name) });
}

function take({ flags }: ReplicateRun, name: OrderName): void {
  switch (name) {
    case "cutover":
    case "rollback":
    case "go":
      flags.wantsSwitch = true;
      flags.isHurried = true;
      return;
    case "finalize":
      flags.isFinalized = true;
      return;
    case "abort":
      flags.isAborted = true;
      return;
    case "retryStep":
      return;
  }
}
