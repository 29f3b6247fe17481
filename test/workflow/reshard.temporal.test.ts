import { randomBytes } from "node:crypto";
import { Context } from "@temporalio/activity";
import type { WorkflowHandle } from "@temporalio/client";
import { ApplicationFailure } from "@temporalio/common";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { queues, type TaskMemo, workflowIds } from "../../src/resharding/model/tasks.js";
import { TASK_MEMO } from "../../workflows/task/messages.js";
import { type MigrationTask, mainLine, startMigration } from "../support/migration-task.js";
import { startTemporal, type TemporalServer } from "../support/temporal.js";
import {
  aborted,
  openStage,
  STEPS_MS,
  type Stage,
  untilCancelled,
} from "../support/temporal-worker.js";
import { until } from "../support/until.js";

let server: TemporalServer;
let stage: Stage;
let task: MigrationTask | null = null;

beforeAll(async () => {
  server = await startTemporal();
  stage = await openStage(server);
});
afterEach(async () => {
  await task?.end();
  task = null;
  stage.reset();
});
afterAll(async () => {
  await stage[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

async function start(options: Parameters<typeof startMigration>[1] = {}): Promise<MigrationTask> {
  task = await startMigration(stage, options);
  return task;
}

describe("reshard", () => {
  test("makes slots before it copies, gates before it switches, and leaves a way back", async () => {
    const { root, stream, memo } = await start();
    expect(await root.result()).toEqual({ outcome: "switched", pauseMs: 21 });
    const line = mainLine(stage);
    expect(line.slice(0, 7)).toEqual([
      "readPolicy",
      "preflight",
      "beginMigration",
      "syncSchema",
      "installGates",
      "createStream",
      "planCopy",
    ]);
    const copied = line.slice(7, 11);
    expect(copied).toEqual(["copyRange", "copyRange", "copyRange", "copyRange"]);
    expect(line.slice(11)).toEqual([
      "syncSchema",
      "syncSchema",
      "prepareDecision",
      "createStream",
      "awaitStandby",
      "advanceSequences",
      "listNodes",
      "armNode",
      "switchTraffic",
      "resolve",
      "allocateTaskId",
      "dropStream",
    ]);
    const phases = stage.played
      .filter(({ name }) => name === "syncSchema")
      .map(({ input }) => (input as { phase: string }).phase);
    expect(phases).toEqual(["pre", "post", "cutover"]);
    const ended = await memo(root);
    expect(ended).toMatchObject({ status: "finished", innerStatus: "replicating" });
    const way = await stream(1).describe();
    expect(way.status.name).toBe("RUNNING");
    const { ref } = task ?? { ref: null };
    expect((await memo(stream(1))).type).toBe(
      `replication ${ref?.source} -> ${ref?.destination} (reverse)`,
    );
  });

  test("shows the five steps of the switch with their milliseconds, after the subtasks", async () => {
    const { root, memo } = await start();
    await root.result();
    const rows = (await memo(root)).subtasks.map((row) => [
      row.type.replace(/ \S+ -> \S+/, ""),
      row.status,
      row.elapsedMs,
    ]);
    expect(rows).toEqual([
      ["schema_sync(pre)", "finished", null],
      ["copy_data", "finished", null],
      ["schema_sync(post)", "finished", null],
      ["replication", "finished", null],
      ["schema_sync(cutover)", "finished", null],
      ["cutover: pause traffic", "finished", STEPS_MS.pause],
      ["cutover: synchronize", "finished", STEPS_MS.synchronize],
      ["cutover: reverse replication", "finished", STEPS_MS.reverse],
      ["cutover: swap", "finished", STEPS_MS.swap],
      ["cutover: resume traffic", "finished", STEPS_MS.resume],
    ]);
  });

  test("ends as failed with every check that failed, and does nothing", async () => {
    stage.on("preflight", async () => ({
      ok: false,
      spec: null,
      checks: [
        {
          id: "wal-level",
          scope: "shard 0",
          severity: "error",
          evidence: "replica",
          remedy: "ALTER SYSTEM",
        },
        { id: "slots", scope: "shard 1", severity: "ok", evidence: "4 free", remedy: "" },
        {
          id: "destination-empty",
          scope: "public.a",
          severity: "error",
          evidence: "3 rows",
          remedy: "TRUNCATE",
        },
      ],
    }));
    const { root, memo } = await start();
    await expect(root.result()).rejects.toThrow();
    expect((await memo(root)).status).toBe(
      "failed: wal-level (shard 0): replica. ALTER SYSTEM; destination-empty (public.a): 3 rows. TRUNCATE",
    );
    expect(mainLine(stage)).toEqual(["readPolicy", "preflight"]);
  });

  test("COPY_DATA waits for CUTOVER, also for one that comes before it can wait", async () => {
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    stage.on("installGates", () => held);
    const { root, untilStatus, stream } = await start({ kind: "copy_data", autoCutover: false });
    await until(() => stage.names().includes("installGates"), { timeoutMs: 10_000, what: "gates" });
    expect(await root.executeUpdate("cutover", { args: [{ reason: "early" }] })).toContain("ready");
    release();
    expect(await root.result()).toMatchObject({ outcome: "switched" });
    await untilStatus(stream(1), (status) => status.innerStatus === "replicating", "the way back");
  });

  test("REPLICATE streams without schema and copy", async () => {
    const { root, untilStatus, stream } = await start({
      kind: "replicate",
      autoCutover: false,
      skipCopy: true,
    });
    await untilStatus(stream(0), (status) => status.lagBytes === 0, "a look at the lag");
    expect(mainLine(stage)).toEqual([
      "readPolicy",
      "preflight",
      "beginMigration",
      "installGates",
      "createStream",
    ]);
    await root.cancel();
    await expect(root.result()).rejects.toThrow();
  });

  test("a step that needs a person parks, shows why, and goes on after retryStep", async () => {
    let isFixed = false;
    stage.on("copyRange", async ({ table }) => {
      if (table === "orders" && !isFixed)
        throw ApplicationFailure.create({
          message: "copy of public.orders failed",
          type: "SLUICE_COPY_FAILED",
          nonRetryable: true,
          details: [{ hint: "Make room on shard 1.", detail: "disk full" }],
        });
      return { rowCount: 1, byteCount: 1 };
    });
    const { root, untilStatus } = await start();
    const parked = await untilStatus(root, (status) => status.parked !== null, "a parked step");
    expect(parked.parked).toEqual({
      step: "copyRange",
      code: "SLUICE_COPY_FAILED",
      message: "copy of public.orders failed: disk full",
      hint: "Make room on shard 1.",
    });
    const cli = await server.cli(
      "workflow",
      "list",
      "--query",
      "ReshardPhase = 'syncing data (parked)'",
      "--output",
      "json",
    );
    expect(cli.output).toContain(root.workflowId);
    isFixed = true;
    await root.executeUpdate("retryStep");
    expect(await root.result()).toMatchObject({ outcome: "switched" });
  });

  test("refuses orders that do not fit, and says why", async () => {
    const { root, stream, untilStatus } = await start({ autoCutover: false });
    await untilStatus(stream(0), (status) => status.innerStatus === "replicating", "replicating");
    for (const [handle, order, reason] of [
      [root, "finalize", "no switch yet to finalize"],
      [root, "rollback", "no switch yet to roll back"],
      [root, "retryStep", "no step waits"],
      [stream(0), "rollback", "no switch yet to roll back"],
    ] as const) {
      const refused: unknown = await handle.executeUpdate(order).catch((error: unknown) => error);
      expect(refused).toMatchObject({ cause: { message: expect.stringContaining(reason) } });
    }
    await root.executeUpdate("abort");
    expect(await root.result()).toEqual({ outcome: "aborted" });
  });
});

describe("a step that fails for good does what it declares", () => {
  const lost = () => {
    throw ApplicationFailure.nonRetryable("catalog is damaged", "XX001", { hint: "Look." });
  };

  test("fail: the task ends as failed, nothing is undone", async () => {
    stage.on("preflight", async () => lost());
    const { root, memo } = await start();
    await expect(root.result()).rejects.toMatchObject({ cause: { type: "XX001" } });
    expect(await memo(root)).toMatchObject({
      status: "failed: catalog is damaged",
      innerStatus: "checking",
    });
    expect(mainLine(stage)).toEqual(["readPolicy", "preflight"]);
  });

  test("abort: what was made is undone, also by the step that failed; then it ends as failed", async () => {
    stage.on("beginMigration", async () => lost());
    const { root, memo } = await start();
    await expect(root.result()).rejects.toMatchObject({ cause: { type: "XX001" } });
    expect((await memo(root)).status).toBe("failed: catalog is damaged");
    expect(mainLine(stage)).toEqual([
      ...["readPolicy", "preflight", "beginMigration"],
      "abortMigration",
    ]);
  });

  test("park: it waits for a person, and is aborted by one", async () => {
    stage.on("installGates", async () => lost());
    const { root, untilStatus } = await start();
    const { parked } = await untilStatus(root, (status) => status.parked !== null, "parked");
    expect(parked).toMatchObject({ step: "installGates", code: "XX001", hint: "Look." });
    await root.executeUpdate("abort");
    expect(await root.result()).toEqual({ outcome: "aborted" });
    expect(mainLine(stage).slice(-2)).toEqual(["installGates", "abortMigration"]);
  });

  test("undo: the attempt is undone with its reason, the task goes on to the next", async () => {
    let isFirst = true;
    stage.on("advanceSequences", async () => {
      if (isFirst) {
        isFirst = false;
        lost();
      }
    });
    stage.on("resolve", async ({ decision }) =>
      count("resolve") === 1
        ? aborted(decision, "")
        : { ...aborted(decision, ""), outcome: "committed" },
    );
    const { root, stream, untilStatus } = await start();
    const undone = await untilStatus(stream(0), (status) => status.lastSwitch !== null, "undone");
    expect(undone.lastSwitch).toMatchObject({ outcome: "aborted", reason: "catalog is damaged" });
    expect(undone.parked).toBeNull();
    expect(await root.result()).toMatchObject({ outcome: "switched" });
  });

  test("retryForever: shown as parked and repeated, at once when told to", async () => {
    let isGone = false;
    stage.on("abortMigration", async () => {
      if (!isGone) lost();
    });
    stage.on("installGates", async () => lost());
    const { root, untilStatus } = await start();
    await untilStatus(root, (status) => status.parked?.step === "installGates", "parked");
    await root.executeUpdate("abort");
    await untilStatus(root, (status) => status.parked?.step === "abortMigration", "the undo");
    const refused: unknown = await root.executeUpdate("cutover").catch((error: unknown) => error);
    expect(refused).toMatchObject({ cause: { message: "the task is ending" } });
    isGone = true;
    await root.executeUpdate("retryStep");
    expect(await root.result()).toEqual({ outcome: "aborted" });
  });

  function count(name: string): number {
    return stage.names().filter((each) => each === name).length;
  }
});

describe("SCHEMA_SYNC", () => {
  async function sync(phase: "pre" | "post" | "cutover") {
    const id = randomBytes(6).toString("hex");
    const ref = { id, source: `s${id}`, destination: `d${id}`, publication: "p" };
    return await stage.client.workflow.start("schemaSync", {
      taskQueue: queues.light,
      workflowId: workflowIds.schemaSync(ref, phase),
      args: [{ version: 1, ref, taskId: 0, phase }],
    });
  }
  const words = async (handle: WorkflowHandle) => {
    const memo = (await handle.describe()).memo?.[TASK_MEMO] as TaskMemo | undefined;
    return [memo?.status, memo?.innerStatus];
  };

  test.each([
    ["pre", "syncing tables"],
    ["post", "creating indexes"],
    ["cutover", "syncing cutover schema"],
  ] as const)("of phase %s says %s, and finishes", async (phase, innerStatus) => {
    const handle = await sync(phase);
    expect(await handle.result()).toBe(3);
    expect(await words(handle)).toEqual(["finished", innerStatus]);
    const asked = stage.played.find(({ name }) => name === "syncSchema")?.input;
    expect(asked).toMatchObject({ phase });
  });

  test("fails where a migration would wait for a person", async () => {
    stage.on("syncSchema", async () => {
      throw ApplicationFailure.nonRetryable("no such type", "SLUICE_SCHEMA_STATEMENT_FAILED");
    });
    const handle = await sync("post");
    await expect(handle.result()).rejects.toMatchObject({
      cause: { type: "SLUICE_SCHEMA_STATEMENT_FAILED", message: "no such type" },
    });
    expect(await words(handle)).toEqual(["failed: no such type", "creating indexes"]);
  });
});

describe("R42: abort undoes, newest first, and never beside the work that it undoes", () => {
  const cases = [
    { at: "beginMigration", undone: ["abortMigration"] },
    { at: "syncSchema", undone: ["abortMigration"] },
    { at: "createStream", undone: ["dropStream", "abortMigration"] },
    { at: "planCopy", undone: ["dropStream", "abortMigration"] },
    { at: "copyRange", undone: ["dropStream", "abortMigration"] },
    { at: "installGates", undone: ["abortMigration"] },
    { at: "runStream", undone: ["dropStream", "abortMigration"] },
    { at: "verifyPass", undone: ["dropStream", "abortMigration"] },
    { at: "awaitStandby", undone: ["dropStream", "abortMigration"] },
  ] as const;

  for (const [index, { at, undone }] of cases.entries()) {
    const way = index % 2 === 0 ? "cancel" : "abort";
    test(`${way} during ${at}`, async () => {
      // Whoever ends it late: an undo beside it would be caught here.
      const slow = async () => {
        await untilCancelled().catch(() => {});
        await new Promise((wake) => setTimeout(wake, 500));
        throw await Context.current().cancelled.catch((reason: unknown) => reason);
      };
      stage.on(at, slow);
      stage.on("resolve", async ({ decision }) => aborted(decision, "cancelled"));
      if (at === "runStream" || at === "verifyPass")
        stage.on("readiness", async () => {
          await new Promise((wake) => setTimeout(wake, 100));
          return { isReady: false, waitingFor: [], lagBytes: null, predictedPauseMs: null };
        });
      const { root, memo } = await start();
      await until(() => stage.names().includes(at), { timeoutMs: 10_000, what: at });
      if (way === "cancel") {
        await root.cancel();
        await expect(root.result()).rejects.toMatchObject({ cause: { name: "CancelledFailure" } });
      } else {
        await root.executeUpdate("abort", { args: [{ reason: "test" }] });
        expect(await root.result()).toEqual({ outcome: "aborted" });
      }
      const names = stage.names();
      const undo = names.filter(
        (name, position) =>
          (name === "dropStream" && isStreamZero(position)) || name === "abortMigration",
      );
      expect(undo).toEqual(undone);
      const before = names.slice(0, names.indexOf(undone[0]));
      const begun = names.filter((name) => name === at).length;
      expect(before.filter((name) => name === `${at}:end`)).toHaveLength(begun);
      expect((await memo(root)).status).toBe("cancelled");
    });
  }

  test("R43: a cancel after the decision undoes nothing and ends as switched", async () => {
    stage.on("switchTraffic", untilCancelled);
    const { root, stream, memo } = await start();
    await until(() => stage.names().includes("switchTraffic"), {
      timeoutMs: 15_000,
      what: "switch",
    });
    await root.cancel();
    // The script's `resolve` says committed: the activity had got that far before it heard of the cancel.
    expect(await root.result()).toMatchObject({ outcome: "switched" });
    expect(stage.names()).not.toContain("abortMigration");
    expect((await memo(root)).status).toBe("finished");
    expect((await stream(1).describe()).status.name).toBe("RUNNING");
  });

  function isStreamZero(position: number): boolean {
    const input = stage.played[position]?.input as { readonly stream: number } | undefined;
    return input?.stream === 0;
  }
});
