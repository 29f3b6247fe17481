import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type MigrationTask, startMigration } from "../support/migration-task.js";
import { startTemporal, type TemporalServer } from "../support/temporal.js";
import { openStage, type Stage } from "../support/temporal-worker.js";

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

/** A migration that has been switched once. */
async function switched(): Promise<MigrationTask> {
  task = await startMigration(stage);
  await task.root.result();
  await task.untilStatus(task.stream(1), (s) => s.innerStatus === "replicating", "the way back");
  return task;
}

function inputs(name: string): readonly unknown[] {
  return stage.played.filter((each) => each.name === name).map(({ input }) => input);
}

describe("the way back", () => {
  test("rollback by the CLI's update: the same switch, other side, next stream", async () => {
    const { stream, untilStatus, memo } = await switched();
    const order = await server.cli(
      ...["workflow", "update", "execute", "--workflow-id", stream(1).workflowId],
      ...["--name", "rollback", "--input", '{"reason":"errors in app"}'],
    );
    expect(order).toMatchObject({ status: 0 });
    expect(order.output).toContain("switches as soon as it is ready");
    expect(await stream(1).result()).toMatchObject({ outcome: "committed" });
    expect(inputs("prepareDecision")).toMatchObject([
      { stream: 0, serving: "destination" },
      { stream: 1, serving: "source" },
    ]);
    const ended = await memo(stream(1));
    expect(ended).toMatchObject({ status: "finished", innerStatus: "rolling back" });
    expect(ended.subtasks.map(({ type }) => type)).toContain("cutover: swap");
    // And forward again.
    await untilStatus(stream(2), (status) => status.innerStatus === "replicating", "stream 2");
    await stream(2).executeUpdate("cutover");
    expect(await stream(2).result()).toMatchObject({ outcome: "committed" });
    await untilStatus(stream(3), (status) => status.innerStatus === "replicating", "stream 3");
  });

  test("R33: SHOW TASKS says on which unique constraints it depends", async () => {
    const unique = ["users.users_email_key (email)", "tenants.tenants_slug_key (slug)"];
    stage.on("readiness", async () => ({
      ...{ isReady: true, waitingFor: [], lagBytes: 0, predictedPauseMs: 20 },
      rollbackDependsOn: unique,
    }));
    const { stream, root, untilStatus, memo } = await switched();
    const row = expect.objectContaining({
      type: `rollback depends on: ${unique.join(", ")}`,
      status: "noted",
      innerStatus: "unique on each shard alone",
    });
    await untilStatus(stream(1), (status) => status.lagBytes !== null, "a first look");
    expect((await memo(stream(1))).subtasks).toContainEqual(row);
    expect((await memo(root)).subtasks).toContainEqual(row);
    // The way back has been gone: nothing depends on anything.
    await stream(1).executeUpdate("cutover");
    await stream(1).result();
    expect((await memo(stream(1))).subtasks).not.toContainEqual(row);
    await untilStatus(stream(2), (status) => status.lagBytes !== null, "a first look");
    const again = await memo(stream(2));
    expect(again.type).toMatch(/ \(forward\)$/);
    expect(again.subtasks).not.toContainEqual(row);
  });

  test("rollback by the CLI's signal", async () => {
    const { stream } = await switched();
    const order = await server.cli(
      ...["workflow", "signal", "--workflow-id", stream(1).workflowId],
      ...["--name", "rollback", "--input", '{"reason":"no worker up"}'],
    );
    expect(order).toMatchObject({ status: 0 });
    expect(await stream(1).result()).toMatchObject({ outcome: "committed" });
  });

  for (const how of ["update", "signal"] as const)
    test(`finalize by the CLI's ${how} drops it and ends the task`, async () => {
      const { stream, memo } = await switched();
      const words = how === "update" ? ["update", "execute"] : ["signal"];
      const order = await server.cli(
        ...["workflow", ...words, "--workflow-id", stream(1).workflowId],
        ...["--name", "finalize", "--input", '{"reason":"verified"}'],
      );
      expect(order).toMatchObject({ status: 0 });
      expect(await stream(1).result()).toEqual({ outcome: "finalized", unsavedNodes: [] });
      const names = stage.names();
      expect(names.indexOf("finalizeMigration")).toBeGreaterThan(
        names.lastIndexOf("runStream:end"),
      );
      expect(await memo(stream(1))).toMatchObject({ status: "finished", innerStatus: "finalized" });
    });

  test("a bare cancel is no rollback and no finalize: it is ignored, and said so", async () => {
    const { stream, untilStatus } = await switched();
    await stream(1).cancel();
    await stream(1)
      .executeUpdate("go")
      .catch(() => {});
    // The order above was taken after the cancel; its switch comes to its end.
    expect(await stream(1).result()).toMatchObject({ outcome: "committed" });
    await untilStatus(stream(2), (status) => status.innerStatus === "replicating", "stream 2");
    expect(stage.names()).not.toContain("finalizeMigration");
  });

  test("current details and the status query say what to type", async () => {
    const { stream } = await switched();
    const metadata = await server.cli(
      "workflow",
      "metadata",
      "--workflow-id",
      stream(1).workflowId,
    );
    expect(metadata.output).toContain("--name rollback");
    expect(metadata.output).toContain("--name finalize");
    const status = await server.cli(
      ...["workflow", "query", "--workflow-id", stream(1).workflowId, "--name", "status"],
    );
    expect(status.output).toContain('"isReverse":true');
  });
});
