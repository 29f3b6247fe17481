import { getExternalWorkflowHandle, setHandler } from "@temporalio/workflow";
import type { ChildReport } from "../../src/resharding/model/tasks.js";
import { childReportSignal, cutoverSignal, retryStepSignal } from "../task/messages.js";
import { handleOrders, type OrderHandler } from "../task/orders.js";
import { withSubtask } from "../task/task-view.js";
import type { ReshardRun } from "./reshard-run.js";

/** Orders to the root; what concerns a child is passed on to it. */
export function handleReshardOrders(run: ReshardRun): void {
  const over = () => (run.isAborted ? "the task is ending" : null);
  const switching: OrderHandler = {
    refusal: over,
    take: (order) => {
      run.wantsSwitch = true;
      if (run.replicateId !== null)
        passOn(getExternalWorkflowHandle(run.replicateId).signal(cutoverSignal, order));
      return "switches as soon as it is ready";
    },
  };
  handleOrders(
    {
      cutover: switching,
      go: switching,
      rollback: {
        refusal: () => "there is no switch yet to roll back; abort undoes it all",
        take: () => "",
      },
      finalize: { refusal: () => "there is no switch yet to finalize", take: () => "" },
      abort: {
        refusal: () => null,
        take: () => {
          run.isAborted = true;
          run.scope.cancel();
          return "undoes what was made";
        },
      },
      retryStep: {
        refusal: () => (run.view.state().parked === null ? "no step waits for a person" : null),
        take: (order) => {
          run.retries.count += 1;
          for (const child of run.parkedChildren)
            passOn(getExternalWorkflowHandle(child).signal(retryStepSignal, order));
          return "tries the step again";
        },
      },
    },
    "reshard",
  );
}

/** A child that has ended needs no order any more. */
function passOn(signalled: Promise<void>): void {
  signalled.catch(() => undefined);
}

/** Rows, blockers and parked steps of children become the root's. */
export function receiveChildReports(run: ReshardRun): void {
  setHandler(childReportSignal, (report) => {
    noteParked(run, report);
    if (report.workflowId !== run.replicateId) return;
    const rows = report.subtasks.reduce(
      (all, row) => withSubtask(all, row.type, row),
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
