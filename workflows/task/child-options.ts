import {
  ChildWorkflowCancellationType,
  type ChildWorkflowOptions,
  ParentClosePolicy,
} from "@temporalio/workflow";

/** What differs from call to call of a step that is a workflow. */
export interface ChildCall {
  /** One line for Temporal's list and page head. */
  readonly summary: string;
  readonly workflowId: string;
}

/** The same for every child that is waited for. */
export function childOptions(call: ChildCall): ChildWorkflowOptions {
  return {
    workflowId: call.workflowId,
    staticSummary: call.summary,
    // R44: it must not end with a run of its parent, which continues as new; the scope that waits cancels it.
    parentClosePolicy: ParentClosePolicy.ABANDON,
    // The child undoes itself and answers with what was decided.
    cancellationType: ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
  };
}
