import type { WorkflowExecutionInfo } from "@temporalio/client";
import { TASK_MEMO } from "../../../workflows/task/messages.js";
import type { Subtask, TaskMemo } from "../../resharding/model/tasks.js";
import type { TaskRow } from "../task-api.js";

/** What a root workflow wrote into its memo last; null for one that is not ours. */
export function memoOf(execution: Pick<WorkflowExecutionInfo, "memo">): TaskMemo | null {
  const memo = execution.memo?.[TASK_MEMO];
  return isTaskMemo(memo) ? memo : null;
}

function isTaskMemo(value: unknown): value is TaskMemo {
  return typeof value === "object" && value !== null && "version" in value && value.version === 1;
}

/** A root and its subtasks, from what Temporal itself holds: no worker is asked. */
export function rowsOf(
  id: number,
  execution: WorkflowExecutionInfo,
  nowMs: number,
): readonly TaskRow[] {
  const memo = memoOf(execution);
  if (memo === null) return [];
  const { workflowId, closeTime } = execution;
  const endedAtMs = closeTime?.getTime() ?? null;
  const updatedAtMs = Math.max(memo.updatedAtMs, endedAtMs ?? 0);
  const root: TaskRow = {
    id,
    scope: "root",
    type: memo.type,
    status: statusOf(execution.status.name, memo),
    innerStatus: memo.innerStatus,
    startedAtMs: memo.startedAtMs,
    updatedAtMs,
    elapsedMs: Math.max(0, (endedAtMs ?? nowMs) - memo.startedAtMs),
    workflowId,
  };
  const isOver = endedAtMs !== null;
  return [root, ...memo.subtasks.map((row) => subtaskRow(row, { workflowId, isOver, nowMs }))];
}

function subtaskRow(
  row: Subtask,
  root: { readonly workflowId: string; readonly isOver: boolean; readonly nowMs: number },
): TaskRow {
  const isRunning = row.status === "running" && !root.isOver;
  const endMs = isRunning ? root.nowMs : row.updatedAtMs;
  return {
    id: null,
    scope: "subtask",
    type: row.type,
    status: row.status,
    innerStatus: row.innerStatus,
    startedAtMs: row.startedAtMs,
    updatedAtMs: row.updatedAtMs,
    elapsedMs: Math.round(row.elapsedMs ?? Math.max(0, endMs - row.startedAtMs)),
    workflowId: root.workflowId,
  };
}

/** The workflow's own word, unless Temporal ended it without asking. */
function statusOf(execution: WorkflowExecutionInfo["status"]["name"], memo: TaskMemo): string {
  const isOwnWord = !["started", "running", "cancelling"].includes(memo.status);
  if (isOwnWord) return memo.status;
  switch (execution) {
    case "CANCELLED":
      return "cancelled";
    case "COMPLETED":
      return "finished";
    case "TERMINATED":
      return "failed: terminated; nothing was undone";
    case "FAILED":
    case "TIMED_OUT":
      return "failed: see the workflow's history";
    default:
      return memo.status;
  }
}
