import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type TaskClient, TemporalUnreachable } from "../../src/control/task-api.js";
import { connectTasks } from "../../src/control/temporal/task-client.js";
import { allocateTaskId } from "../../src/control/temporal/task-ids.js";
import { createLog } from "../../src/observe/log.js";
import { freePort } from "../support/postgres.js";
import { startTemporal, type TemporalServer } from "../support/temporal.js";
import { openStage, type Stage } from "../support/temporal-worker.js";
import { until } from "../support/until.js";

let server: TemporalServer;
let stage: Stage;
let tasks: TaskClient;
const log = createLog({}, "silent");

beforeAll(async () => {
  server = await startTemporal({ dynamicConfig: ["limit.historyCount.suggestContinueAsNew=60"] });
  stage = await openStage(server);
  tasks = clientOf(server.address);
  // As the control process does: ids come from the counter.
  stage.on("allocateTaskId", () => allocateTaskId(stage.client, `${Math.random()}`));
});
afterEach(() => {
  stage.played.length = 0;
});
afterAll(async () => {
  await tasks.close();
  await stage[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

function clientOf(address: string): TaskClient {
  return connectTasks({ temporal: { address, namespace: "default" }, timeoutMs: 5_000, log });
}

function names(prefix: string) {
  return { source: `${prefix}_a`, destination: `${prefix}_b`, publication: "p" };
}

test("task ids count from 0; a repeated request gets the same, clients at once get different ones", async () => {
  const ask = (requestId: string) => allocateTaskId(stage.client, requestId);
  expect([await ask("a"), await ask("b"), await ask("c")]).toEqual([0, 1, 2]);
  // A repeat after a lost answer takes no second id.
  expect(await ask("b")).toBe(1);
  // More than the counter takes at once, and over its continue-as-new. A request that is cut off there may
  // use up a second number; none is ever given to two.
  const ids = await Promise.all(Array.from({ length: 20 }, (_, index) => ask(`request-${index}`)));
  expect(new Set(ids).size).toBe(20);
  expect(Math.min(...ids)).toBeGreaterThan(2);
});

describe("a task through the client", () => {
  test("RESHARD, SHOW TASKS, CUTOVER as rollback, STOP_TASK as finalize", async () => {
    const started = await tasks.start({ kind: "reshard", ...names("one"), slot: null });
    expect(started.workflowId).toBe("reshard/one_a/one_b");
    expect(started.replicationSlot).toMatch(/^sluice_[0-9a-f]{12}_0$/);
    const reverse = await untilReverse("one", started.taskId);
    const rows = await tasks.list();
    const roots = rows.filter((row) => row.scope === "root");
    expect(roots.map(({ id }) => id)).toEqual([reverse, started.taskId]);
    expect(rows[0]).toMatchObject({
      type: "replication one_a -> one_b (reverse)",
      status: "running",
      innerStatus: "replicating",
    });
    expect(await tasks.cutover(reverse)).toMatchObject({ taskId: reverse });
    const again = await untilReverse("one", reverse);
    expect((await tasks.status(again)).lastSwitch).toMatchObject({ outcome: "committed" });
    expect(await tasks.stop(again)).toBe("OK");
    await untilRow(
      again,
      ({ status, innerStatus }) => `${status} ${innerStatus}` === "finished finalized",
    );
    expect(await tasks.stop(again)).toBe("task not found");
  });

  test("COPY_DATA waits; CUTOVER without an id takes the lowest that waits", async () => {
    const { taskId } = await tasks.start({ kind: "copy_data", ...names("two"), slot: null });
    await untilRow(taskId, ({ innerStatus }) => innerStatus === "replicating");
    expect(await tasks.cutover(null)).toMatchObject({ taskId });
    const reverse = await untilReverse("two", taskId);
    await tasks.stop(reverse);
  });

  test("STOP_TASK before the switch undoes and ends as cancelled", async () => {
    const { taskId } = await tasks.start({ kind: "copy_data", ...names("three"), slot: null });
    await untilRow(taskId, ({ innerStatus }) => innerStatus === "replicating");
    expect(await tasks.stop(taskId)).toBe("OK");
    await untilRow(taskId, ({ status }) => status === "cancelled");
    expect(stage.names()).toContain("abortMigration");
  });

  test("a second one for the same databases is refused, and takes no id", async () => {
    const { taskId } = await tasks.start({ kind: "copy_data", ...names("four"), slot: null });
    await expect(
      tasks.start({ kind: "reshard", ...names("four"), slot: null }),
    ).rejects.toMatchObject({ code: "SLUICE_TASK_EXISTS" });
    await tasks.stop(taskId);
    await untilRow(taskId, ({ status }) => status === "cancelled");
    const next = await tasks.start({ kind: "schema_sync", ...names("four"), phase: "pre" });
    expect(next.taskId).toBe(taskId + 1);
    await untilRow(next.taskId, ({ status }) => status === "finished");
  });

  test("REPLICATE with the slot that COPY_DATA gave goes on with that migration", async () => {
    const { taskId } = await tasks.start({
      kind: "replicate",
      ...names("five"),
      slot: "sluice_0123456789ab_0",
    });
    await until(() => stage.names().includes("createStream"), {
      timeoutMs: 10_000,
      what: "stream",
    });
    const { input } = stage.played.find(({ name }) => name === "createStream") ?? { input: null };
    expect(input).toMatchObject({ ref: { id: "0123456789ab" } });
    await tasks.stop(taskId);
  });

  test("unknown tasks, as the reference has it", async () => {
    await expect(tasks.cutover(9_999)).rejects.toMatchObject({
      message: "task is not a replication task",
      code: "SLUICE_TASK_UNKNOWN",
    });
    expect(await tasks.stop(9_999)).toBe("task not found");
  });
});

test("without Temporal every command ends in time and says so", async () => {
  const address = `127.0.0.1:${await freePort()}`;
  const alone = connectTasks({ temporal: { address, namespace: "default" }, timeoutMs: 300, log });
  const begun = performance.now();
  const failed: unknown = await alone.list().catch((error: unknown) => error);
  expect(failed).toBeInstanceOf(TemporalUnreachable);
  expect(failed).toMatchObject({
    sqlState: "58000",
    message: `Temporal at ${address} does not answer`,
  });
  expect(performance.now() - begun).toBeLessThan(2_000);
  await alone.close();
});

async function untilRow(
  id: number,
  is: (row: { readonly status: string; readonly innerStatus: string }) => boolean,
): Promise<void> {
  await until(async () => (await tasks.list()).some((row) => row.id === id && is(row)), {
    timeoutMs: 20_000,
    what: `task ${id}`,
    intervalMs: 100,
  });
}

/** The newest reverse task of these names with an id above `after`. */
async function untilReverse(prefix: string, after: number): Promise<number> {
  return await until(
    async () => {
      const rows = await tasks.list();
      const types = ["reverse", "forward"].map(
        (way) => `replication ${prefix}_a -> ${prefix}_b (${way})`,
      );
      return rows.find((row) => types.includes(row.type) && (row.id ?? 0) > after)?.id;
    },
    { timeoutMs: 20_000, what: "the reverse task", intervalMs: 100 },
  );
}
