// Records the histories that replay.test.ts replays: `npx tsx test/replay/record.ts NAME...`. One per moment
// that a deployed worker may have to go on from. Only those that are named are written: histories of a release
// stay as they are until no run of it can live. Review the difference like code.
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { ApplicationFailure } from "@temporalio/common";
import { historyToJSON } from "@temporalio/common/lib/proto-utils.js";
import type { WorkflowHandle } from "@temporalio/client";
import { queues, workflowIds } from "../../src/resharding/model/tasks.js";
import { type MigrationTask, startMigration } from "../support/migration-task.js";
import { startTemporal } from "../support/temporal.js";
import {
  aborted,
  committed,
  openStage,
  type Stage,
  untilCancelled,
} from "../support/temporal-worker.js";
import { until } from "../support/until.js";

const folder = fileURLToPath(new URL("./recorded/", import.meta.url));
const checkout = fileURLToPath(new URL("../../", import.meta.url));
mkdirSync(folder, { recursive: true });
await using server = await startTemporal();
await using stage = await openStage(server);

const wanted = process.argv.slice(2);

async function save(name: string, handle: WorkflowHandle): Promise<void> {
  if (!wanted.includes(name)) return;
  // Where and by whom it was recorded is nobody's business, and differs each time.
  const text = historyToJSON(await handle.fetchHistory())
    .replaceAll(checkout, "/sluice/")
    .replaceAll(/"identity": *"[^"]*"/g, '"identity": "recorder"');
  writeFileSync(`${folder}${name}.json`, `${text}\n`);
}

async function scene(play: (stage: Stage) => Promise<MigrationTask>): Promise<void> {
  const task = await play(stage);
  await task.end();
  stage.reset();
}

await scene(async () => {
  const task = await startMigration(stage);
  await task.root.result();
  await save("reshard-switched", task.root);
  await save("replicate-forward-switched", task.stream(0));
  await save(
    "cutover-committed",
    stage.client.workflow.getHandle(`cutover/${task.ref.source}/${task.ref.destination}/0-1`),
  );
  await save("copy-table", stage.client.workflow.getHandle(`copy/${task.ref.id}/public.orders/0`));
  await task.untilStatus(
    task.stream(1),
    (status) => status.innerStatus === "replicating",
    "reverse",
  );
  await save("replicate-reverse-running", task.stream(1));
  await task.stream(1).executeUpdate("rollback");
  await task.stream(1).result();
  await save("replicate-rolled-back", task.stream(1));
  await task.untilStatus(task.stream(2), (status) => status.innerStatus === "replicating", "again");
  await task.stream(2).signal("finalize");
  await task.stream(2).result();
  await save("replicate-finalized", task.stream(2));
  return task;
});

await scene(async () => {
  let attempts = 0;
  stage.on("resolve", async ({ decision }) => {
    attempts += 1;
    return attempts === 1 ? aborted(decision, "too slow") : committed(decision);
  });
  const task = await startMigration(stage);
  await task.root.result();
  await save("replicate-undone-then-switched", task.stream(0));
  await save(
    "cutover-undone",
    stage.client.workflow.getHandle(`cutover/${task.ref.source}/${task.ref.destination}/0-1`),
  );
  return task;
});

await scene(async () => {
  stage.on("copyRange", async () => {
    throw ApplicationFailure.nonRetryable("disk full", "SLUICE_COPY_FAILED", {
      hint: "Make room.",
    });
  });
  const task = await startMigration(stage);
  await task.untilStatus(task.root, (status) => status.parked !== null, "a parked copy");
  await save("reshard-parked", task.root);
  await task.root.cancel();
  await until(async () => (await task.root.describe()).status.name === "CANCELLED", {
    timeoutMs: 20_000,
    what: "cancel",
  });
  await save("reshard-cancelled", task.root);
  return task;
});

await scene(async () => {
  const streams = () =>
    stage.played.filter(
      ({ name, input }) => name === "runStream" && (input as { stream: number }).stream === 0,
    ).length;
  // Its worker shut down in the middle of a switch.
  let end = () => {};
  const ended = new Promise<void>((wake) => {
    end = wake;
  });
  stage.on("runStream", async () => {
    await ended;
    return { outcome: "cancelled" };
  });
  const task = await startMigration(stage, { autoCutover: false });
  await until(() => streams() === 1, { timeoutMs: 20_000, what: "the stream" });
  stage.on("runStream", untilCancelled);
  stage.on("advanceSequences", async () => {
    end();
    await until(() => streams() === 2, { timeoutMs: 20_000, what: "its successor" });
  });
  await task.root.executeUpdate("cutover");
  await task.root.result();
  await save("replicate-stream-ended", task.stream(0));
  return task;
});

await scene(async () => {
  const task = await startMigration(stage, { autoCutover: false });
  const { ref } = task;
  const handle = await stage.client.workflow.start("schemaSync", {
    taskQueue: queues.light,
    workflowId: workflowIds.schemaSync(ref, "cutover"),
    args: [{ version: 1, ref, taskId: 0, phase: "cutover" }],
  });
  await handle.result();
  await save("schemaSync-finished", handle);
  return task;
});
