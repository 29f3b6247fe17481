import type { WorkflowExecutionInfo } from "@temporalio/client";
import { describe, expect, test } from "vitest";
import { rowsOf } from "../../../src/control/temporal/task-rows.js";
import type { TaskMemo } from "../../../src/resharding/model/tasks.js";

const MEMO: TaskMemo = {
  version: 1,
  type: "reshard a -> b",
  status: "running",
  innerStatus: "syncing data",
  startedAtMs: 1_000,
  updatedAtMs: 2_000,
  subtasks: [
    {
      type: "cutover: swap",
      status: "finished",
      innerStatus: "",
      startedAtMs: 1_500,
      updatedAtMs: 1_600,
      elapsedMs: 7.7,
    },
    {
      type: "copy_data a -> b",
      status: "running",
      innerStatus: "",
      startedAtMs: 1_200,
      updatedAtMs: 1_300,
      elapsedMs: null,
    },
  ],
  isSwitchable: false,
  isReverse: false,
};

function execution(
  status: WorkflowExecutionInfo["status"]["name"],
  memo: TaskMemo | null = MEMO,
): WorkflowExecutionInfo {
  const isOver = status !== "RUNNING";
  const info = {
    workflowId: "reshard/a/b",
    status: { name: status },
    memo: memo === null ? {} : { task: memo },
    ...(isOver ? { closeTime: new Date(4_000) } : {}),
  };
  return info as unknown as WorkflowExecutionInfo;
}

describe("rows of SHOW TASKS", () => {
  test("a running task counts on, subtasks follow it without an id", () => {
    expect(rowsOf(7, execution("RUNNING"), 5_000)).toMatchObject([
      { id: 7, scope: "root", status: "running", elapsedMs: 4_000 },
      // Measured by the switch itself; the column is an integer.
      { id: null, scope: "subtask", elapsedMs: 8 },
      { id: null, scope: "subtask", elapsedMs: 3_800 },
    ]);
  });

  test("what Temporal ended without asking is not shown as running", () => {
    const statusOf = (name: WorkflowExecutionInfo["status"]["name"]) =>
      rowsOf(7, execution(name), 9_000)[0];
    expect(statusOf("TERMINATED")).toMatchObject({
      status: "failed: terminated; nothing was undone",
      elapsedMs: 3_000,
    });
    expect(statusOf("CANCELLED")?.status).toBe("cancelled");
    expect(statusOf("FAILED")?.status).toMatch(/^failed: /);
  });

  test("a workflow's own last word stands", () => {
    const memo = { ...MEMO, status: "failed: wal_level is replica" };
    expect(rowsOf(7, execution("FAILED", memo), 9_000)[0]?.status).toBe(
      "failed: wal_level is replica",
    );
  });

  test("a workflow that is not ours has no rows", () => {
    expect(rowsOf(7, execution("RUNNING", null), 9_000)).toEqual([]);
  });
});
