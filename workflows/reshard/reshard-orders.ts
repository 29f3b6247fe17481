import { getExternalWorkflowHandle, setHandler } from "@temporalio/workflow";
import type { OrderName } from "../../src/resharding/model/orders.js";
import { withSubtask } from "../../src/resharding/model/subtasks.js";
import type { ChildReport } from "../../src/resharding/model/tasks.js";
import { childReportSignal, type Order, orderMessages } from "../task/messages.js";
import { handleOrders } from "../task/order-handlers.js";
import type { ReshardRun } from "./reshard-run.js";

/** Orders to the root; what concerns a child is passed on to it. */
export function handleReshardOrders(run: ReshardRun): void {
  handleOrders({
    view: run.view,
    retries: run.retries,
    phase: () => (run.isAborted || run.isGivenUp ? "aborting" : "forward"),
    take: (name, order) => take(run, name, order),
  });
}

function take(run: ReshardRun, name: OrderName, order: Order): void {
  switch (name) {
    case "cutover":
    case "go":
      run.wantsSwitch = true;
      if (run.replicateId !== null) passOn(run.replicateId, "cutover", order);
      return;
    case "abort":
      run.isAborted = true;
      run.scope.cancel();
      return;
    case "retryStep":
      for (const child of run.parkedChildren) passOn(child, name, order);
      return;
    case "rollback":
    case "finalize":
      // Refused in every phase of this task.
      return;
  }
}

/** A child that has ended needs no order any more. */
function passOn(workflowId: string, name: OrderName, order: Order): void {
  getExternalWorkflowHandle(workflowId)
    .signal(orderMessages[name].signal, order)
    .catch(() => undefined);
}

/** Rows, blockers and parked steps of children become the root's. */
export function receiveChildReports(run: ReshardRun): void {
  setHandler(childReportSignal, (report) => {
    noteParked(run, report);
    if (report.workflowId !== run.replicateId) return;
    const rows = report.subtasks.reduce(
      (all, row) => withSubtask(all, row.type, { patch: row, nowMs: Date.now() }),
      run.view.state().subtasks,
    );
    const { waitingFor, lagBytes, predictedPauseMs, lastSwitch } = report;
    run.view.change({ subtasks: rows, waitingFor, lagBytes, predictedPauseMs, lastSwitch });
  });
}

function noteParked(run: ReshardRun, report: ChildReport): void {
  const wasParked = run.parkedChildren.has(report.workflowId);
  if (report.parked === null) {
    run.parkedChildren.delete(report.workflowId);
    if (wasParked && run.parkedChildren.size === 0) run.view.change({ parked: null });
    return;
  }
  run.parkedChildren.add(report.workflowId);
  run.view.change({ parked: report.parked });
}
