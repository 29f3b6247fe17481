import { randomBytes } from "node:crypto";
import type { WorkflowHandle } from "@temporalio/client";
import type { MigrationRef } from "../../src/resharding/model/migration.js";
import {
  queues,
  type ReshardInput,
  type TaskMemo,
  type TaskStatus,
  workflowIds,
} from "../../src/resharding/model/tasks.js";
import { TASK_MEMO } from "../../workflows/task/messages.js";
import type { Stage } from "./temporal-worker.js";
import { until } from "./until.js";

/** One migration of a test: names of its own, so that tests share a server without meeting. */
export interface MigrationTask {
  readonly ref: MigrationRef;
  readonly root: WorkflowHandle;
  /** `replicate` of this stream. */
  stream(number: number): WorkflowHandle;
  /** Waits until the query says so. */
  untilStatus(
    handle: WorkflowHandle,
    is: (status: TaskStatus) => boolean,
    what: string,
  ): Promise<TaskStatus>;
  memo(handle: WorkflowHandle): Promise<TaskMemo>;
  /** Ends what still runs; without undoing anything, as the test is over. */
  end(): Promise<void>;
}

export async function startMigration(
  stage: Stage,
  options: Partial<Pick<ReshardInput, "kind" | "autoCutover" | "skipCopy">> = {},
): Promise<MigrationTask> {
  const id = randomBytes(6).toString("hex");
  const ref = { id, source: `s${id}`, destination: `d${id}`, publication: "p" };
  const input: ReshardInput = {
    version: 1,
    ref,
    taskId: 0,
    kind: "reshard",
    autoCutover: true,
    skipCopy: false,
    resume: null,
    ...options,
  };
  const { workflow } = stage.client;
  const root = await workflow.start("reshard", {
    taskQueue: queues.light,
    workflowId: workflowIds.reshard(ref),
    args: [input],
  });
  const stream = (number: number) => workflow.getHandle(workflowIds.replicate(ref, number));
  return {
    ref,
    root,
    stream,
    untilStatus: (handle, is, what) =>
      until(
        async () => {
          const status = await handle.query<TaskStatus>("status").catch(() => null);
          return status !== null && is(status) ? status : null;
        },
        { timeoutMs: 15_000, what, intervalMs: 50 },
      ),
    memo: async (handle) => (await handle.describe()).memo?.[TASK_MEMO] as TaskMemo,
    end: async () => {
      const running = `WorkflowId STARTS_WITH 'reshard/${ref.source}' OR WorkflowId STARTS_WITH 'replicate/${ref.source}' OR WorkflowId STARTS_WITH 'cutover/${ref.source}' OR WorkflowId STARTS_WITH 'copy/${ref.id}'`;
      for await (const { workflowId, status } of workflow.list({ query: running }))
        if (status.name === "RUNNING")
          await workflow
            .getHandle(workflowId)
            .terminate("test is over")
            .catch(() => {});
    },
  };
}

/** Names of activities that began, without those that anybody may play at any time. */
export function mainLine(stage: Stage): readonly string[] {
  const beside = ["verifyPass", "readiness", "runStream"];
  return stage.names().filter((name) => !name.endsWith(":end") && !beside.includes(name));
}
