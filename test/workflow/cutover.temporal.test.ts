import { Context } from "@temporalio/activity";
import { ApplicationFailure } from "@temporalio/common";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type MigrationTask, mainLine, startMigration } from "../support/migration-task.js";
import { startTemporal, type TemporalServer } from "../support/temporal.js";
import {
  aborted,
  committed,
  NODE,
  openStage,
  POLICY,
  type Stage,
  untilCancelled,
} from "../support/temporal-worker.js";
import { until } from "../support/until.js";

let server: TemporalServer;
let stage: Stage;
let task: MigrationTask | null = null;

beforeAll(async () => {
  // Small, so that a task that waits continues as new within the test.
  server = await startTemporal({ dynamicConfig: ["limit.historyCount.suggestContinueAsNew=60"] });
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

function count(name: string): number {
  return stage.names().filter((each) => each === name).length;
}

/** The first attempt is undone with this reason, later ones are committed. */
function undoOnce(reason: string): void {
  let attempts = 0;
  stage.on("resolve", async ({ decision }) => {
    attempts += 1;
    return attempts === 1 ? aborted(decision, reason) : committed(decision);
  });
}

describe("a switch that is undone", () => {
  test("says why, replicates on, and is tried again with the same standby", async () => {
    undoOnce("shard 1 has 9 MB to apply");
    const { root, stream, untilStatus } = await start();
    const undone = await untilStatus(
      stream(0),
      (status) => status.lastSwitch !== null,
      "an attempt",
    );
    expect(undone).toMatchObject({
      lastSwitch: { outcome: "aborted", reason: "shard 1 has 9 MB to apply" },
    });
    const standby = (await stream(1).describe()).runId;
    expect(await root.result()).toMatchObject({ outcome: "switched" });
    expect((await stream(1).describe()).runId).toBe(standby);
    expect(count("switchTraffic")).toBe(2);
    const streams = stage.played.filter(
      ({ name, input }) => name === "runStream" && (input as { stream: number }).stream === 1,
    );
    // One per destination shard, from the first attempt on.
    expect(streams).toHaveLength(2);
  });

  test("by a node that is silent names the node, and nothing was held", async () => {
    let isUp = false;
    stage.on("listNodes", async () => (isUp ? [NODE] : [NODE, { ...NODE, nodeId: "n2" }]));
    stage.on("resolve", async ({ decision }) =>
      isUp ? committed(decision) : aborted(decision, ""),
    );
    const { root, stream, untilStatus } = await start();
    const undone = await untilStatus(
      stream(0),
      (status) => status.lastSwitch !== null,
      "an attempt",
    );
    expect(undone.lastSwitch?.reason).toMatch(/^node did not arm: n2 \(no answer in time/);
    expect(count("switchTraffic")).toBe(0);
    isUp = true;
    expect(await root.result()).toMatchObject({ outcome: "switched" });
  });

  test("a silent node is left to the gate where the policy says so", async () => {
    stage.on("readPolicy", async () => ({ ...POLICY, silentNode: "fence" }));
    stage.on("listNodes", async () => [NODE, { ...NODE, nodeId: "n2" }]);
    const { root } = await start();
    await root.result();
    const { input } = stage.played.find(({ name }) => name === "switchTraffic") ?? { input: null };
    expect((input as { nodes: readonly { nodeId: string }[] }).nodes).toEqual([NODE]);
  });

  test("because nothing could be planned needs no resolve", async () => {
    let isFirst = true;
    stage.on("prepareDecision", async ({ serving, stream }) => {
      if (isFirst) {
        isFirst = false;
        throw ApplicationFailure.nonRetryable("the source does not serve", "SLUICE_NOT_READY");
      }
      return { epoch: 1, token: "t", serving, stream };
    });
    const { root } = await start();
    await root.result();
    expect(count("resolve")).toBe(1);
  });
});

test("a stream whose worker shuts down in a switch goes on in it: the drain waits for its lanes", async () => {
  const begun = () =>
    stage.played.filter(
      ({ name, input }) => name === "runStream" && (input as { stream: number }).stream === 0,
    ).length;
  let end = () => {};
  const ended = new Promise<void>((wake) => {
    end = wake;
  });
  stage.on("runStream", async () => {
    await ended;
    return { outcome: "cancelled" };
  });
  const { root } = await start({ autoCutover: false });
  await until(() => begun() === 1, { timeoutMs: 20_000, what: "the stream" });
  stage.on("runStream", untilCancelled);
  stage.on("advanceSequences", async () => {
    end();
    await until(() => begun() === 2, { timeoutMs: 10_000, what: "its successor" });
  });
  await root.executeUpdate("cutover");
  expect(await root.result()).toMatchObject({ outcome: "switched" });
  expect(count("switchTraffic")).toBe(1);
});

describe("R43: resolve runs, whatever became of the switch, and only it is believed", () => {
  test("after success", async () => {
    stage.on("switchTraffic", async () => ({
      outcome: "committed",
      reason: "",
      pauseMs: 5,
      steps: { pause: 1, synchronize: 1, swap: 1, reverse: 1, resume: 1 },
    }));
    undoOnce("the database was restored from before the decision");
    const { root, stream, untilStatus } = await start();
    const undone = await untilStatus(
      stream(0),
      (status) => status.lastSwitch !== null,
      "an attempt",
    );
    expect(undone.lastSwitch?.outcome).toBe("aborted");
    await root.result();
    expect(count("resolve")).toBe(2);
  });

  test("after a failure: the switch had happened", async () => {
    stage.on("switchTraffic", async () => {
      throw ApplicationFailure.retryable("connection lost", "SLUICE_SERVER_UNREACHABLE");
    });
    const { root } = await start();
    expect(await root.result()).toMatchObject({ outcome: "switched" });
    // Never repeated: a second one beside a first that is only slow would find its token used.
    expect(count("switchTraffic")).toBe(1);
    expect(count("resolve")).toBe(1);
  });

  test("after a cancel: the switch had not happened", async () => {
    stage.on("switchTraffic", untilCancelled);
    stage.on("resolve", async ({ decision }) => aborted(decision, "cancelled"));
    const { root } = await start();
    await until(() => stage.names().includes("switchTraffic"), {
      timeoutMs: 15_000,
      what: "switch",
    });
    await root.cancel();
    await expect(root.result()).rejects.toThrow();
    const names = stage.names();
    expect(names.indexOf("resolve")).toBeGreaterThan(names.indexOf("switchTraffic:end"));
    expect(names.indexOf("abortMigration")).toBeGreaterThan(names.indexOf("resolve:end"));
  });

  test("again and again, also when it fails in a way that nobody would repeat", async () => {
    let tries = 0;
    stage.on("resolve", async ({ decision }) => {
      tries += 1;
      if (tries < 3) throw ApplicationFailure.nonRetryable("control database is gone", "XX000");
      return committed(decision);
    });
    const { root } = await start();
    expect(await root.result()).toMatchObject({ outcome: "switched" });
    expect(tries).toBe(3);
  });
});

describe("R44: no run's end takes another workflow with it", () => {
  test("the standby outlives the attempt that made it, and its parent's continue-as-new", async () => {
    undoOnce("not yet");
    let isReady = true;
    stage.on("readiness", async () => {
      await new Promise((wake) => setTimeout(wake, 20));
      const waitingFor = isReady
        ? []
        : [{ code: "WAITING" as const, message: "a long transaction" }];
      return { isReady, waitingFor, lagBytes: 0, predictedPauseMs: 1 };
    });
    const { root, stream, untilStatus } = await start();
    await untilStatus(stream(0), (status) => status.lastSwitch !== null, "an attempt");
    isReady = false;
    const [first, standby] = await Promise.all([stream(0).describe(), stream(1).describe()]);
    await until(async () => (await stream(0).describe()).runId !== first.runId, {
      timeoutMs: 20_000,
      what: "continue-as-new of replicate",
    });
    expect(await stream(1).describe()).toMatchObject({
      runId: standby.runId,
      status: { name: "RUNNING" },
    });
    expect((await root.describe()).status.name).toBe("RUNNING");
    isReady = true;
    expect(await root.result()).toMatchObject({ outcome: "switched" });
    expect((await stream(1).describe()).runId).toBe(standby.runId);
  }, 60_000);

  test("an order that comes while streams stop for continue-as-new is not lost with the run", async () => {
    stage.on("readPolicy", async () => ({ ...POLICY, observeMs: 20 }));
    const { root, stream, untilStatus } = await start();
    await root.result();
    await untilStatus(stream(1), (status) => status.innerStatus === "replicating", "way back");
    // From here on nothing stops but when told to: the order comes in between.
    let stopped = () => {};
    const mayStop = new Promise<void>((wake) => {
      stopped = wake;
    });
    const stopping = new Set<number>();
    stage.on("runStream", async ({ stream: number }) => {
      await untilCancelled().catch(() => {});
      stopping.add(number);
      await mayStop;
      throw await Context.current().cancelled.catch((reason: unknown) => reason);
    });
    const { runId } = await stream(1).describe();
    // Its present streams were started before: this run continues, and the next one has the slow ones.
    await until(async () => (await stream(1).describe()).runId !== runId, {
      timeoutMs: 30_000,
      what: "a run with slow streams",
    });
    await until(() => stopping.has(1), { timeoutMs: 30_000, what: "its continue-as-new" });
    expect(await stream(1).executeUpdate("finalize")).toBe("drops the way back");
    stopped();
    expect(await stream(1).result()).toMatchObject({ outcome: "finalized" });
  }, 90_000);

  test("a copy with a long history continues as new and copies nothing twice", async () => {
    stage.on("planCopy", async () => [
      {
        schema: "public",
        table: "big",
        sourceShard: 0,
        rangeCount: 40,
        doneRanges: [7],
        estimatedRows: 1,
      },
    ]);
    const { root } = await start();
    expect(await root.result()).toMatchObject({ outcome: "switched" });
    const copied = stage.played
      .filter(({ name }) => name === "copyRange")
      .map(({ input }) => (input as { range: number }).range);
    expect(copied.toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: 40 }, (_, range) => range).filter((range) => range !== 7),
    );
  }, 60_000);

  test("many tables: the root continues as new between copies, and plans again", async () => {
    const done: string[] = [];
    stage.on("planCopy", async () =>
      Array.from({ length: 24 }, (_, index) => ({
        schema: "public",
        table: `t${index}`,
        sourceShard: 0,
        rangeCount: 1,
        doneRanges: done.includes(`t${index}`) ? [0] : [],
        estimatedRows: 1,
      })),
    );
    stage.on("copyRange", async ({ table }) => {
      done.push(table);
      return { rowCount: 1, byteCount: 1 };
    });
    const { root } = await start();
    expect(await root.result()).toMatchObject({ outcome: "switched" });
    expect(done).toHaveLength(24);
    expect(count("planCopy")).toBeGreaterThan(1);
    expect(mainLine(stage).filter((name) => name === "beginMigration")).toHaveLength(1);
  }, 60_000);
});
