import { defineSearchAttributeKey, SearchAttributeType } from "@temporalio/common";
import { defineQuery, defineSignal, defineUpdate } from "@temporalio/workflow";
import type { OrderName } from "../../src/resharding/model/orders.js";
import type { ChildReport, CutoverResult, TaskStatus } from "../../src/resharding/model/tasks.js";

/** Why a person did it; kept in the history. */
export interface Order {
  readonly reason?: string;
}

/**
 * Orders to a task: what they mean and when they are taken is in model/orders.ts. Each is an update, which
 * answers and is validated, and a signal of the same name, which works while no worker is up. Both set the
 * same flag, so giving an order twice changes nothing.
 */
export const orderMessages = {
  cutover: messagesOf("cutover"),
  rollback: messagesOf("rollback"),
  finalize: messagesOf("finalize"),
  abort: messagesOf("abort"),
  go: messagesOf("go"),
  retryStep: messagesOf("retryStep"),
} as const satisfies Readonly<Record<OrderName, ReturnType<typeof messagesOf>>>;

function messagesOf(name: OrderName) {
  return {
    update: defineUpdate<string, [Order?]>(name),
    signal: defineSignal<[Order?]>(name),
  };
}

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
