import { defineSearchAttributeKey, SearchAttributeType } from "@temporalio/common";
import { defineQuery, defineSignal, defineUpdate } from "@temporalio/workflow";
import type { ChildReport, CutoverResult, TaskStatus } from "../../src/resharding/model/tasks.js";

/** Why a person did it; kept in the history. */
export interface Order {
  readonly reason?: string;
}

/**
 * Orders to a task. Each is an update, which answers and is validated, and a signal of the same name, which
 * works while no worker is up. Both set the same flag, so giving an order twice changes nothing.
 */
export const ORDERS = ["cutover", "rollback", "finalize", "abort", "go", "retryStep"] as const;
export type OrderName = (typeof ORDERS)[number];

/** Switch as soon as readiness allows; on a reverse task that is the rollback. */
export const cutoverUpdate = defineUpdate<string, [Order?]>("cutover");
export const cutoverSignal = defineSignal<[Order?]>("cutover");
/** The reverse task's own word for it. */
export const rollbackUpdate = defineUpdate<string, [Order?]>("rollback");
export const rollbackSignal = defineSignal<[Order?]>("rollback");
/** Give up the way back (STOP_TASK of a reverse task). */
export const finalizeUpdate = defineUpdate<string, [Order?]>("finalize");
export const finalizeSignal = defineSignal<[Order?]>("finalize");
/** Before the decision: undo everything. */
export const abortUpdate = defineUpdate<string, [Order?]>("abort");
export const abortSignal = defineSignal<[Order?]>("abort");
/** Do not wait for the next attempt's back-off. */
export const goUpdate = defineUpdate<string, [Order?]>("go");
export const goSignal = defineSignal<[Order?]>("go");
/** The cause of a parked step is gone: try it again. */
export const retryStepUpdate = defineUpdate<string, [Order?]>("retryStep");
export const retryStepSignal = defineSignal<[Order?]>("retryStep");

/** The whole state, typed. Changes nothing. */
export const statusQuery = defineQuery<TaskStatus>("status");

/** A cutover to the standby that it made: you are the way back now. */
export const beginSignal = defineSignal<[CutoverResult]>("begin");
/** A child to its root, on changes. */
export const childReportSignal = defineSignal<[ChildReport]>("childReport");

/** The task counter: the answer to an update id is always the same integer. */
export const allocateUpdate = defineUpdate<number, []>("allocate");

/** Registered by every control process at boot; starting a task without them would fail. */
export const searchAttributes = {
  task: defineSearchAttributeKey("SluiceTask", SearchAttributeType.INT),
  kind: defineSearchAttributeKey("SluiceKind", SearchAttributeType.KEYWORD),
  cluster: defineSearchAttributeKey("ReshardCluster", SearchAttributeType.KEYWORD),
  phase: defineSearchAttributeKey("ReshardPhase", SearchAttributeType.KEYWORD),
} as const;

/** Key of the TaskMemo in a root workflow's memo. */
export const TASK_MEMO = "task";
