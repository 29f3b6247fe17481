import {
  ApplicationFailure,
  allHandlersFinished,
  CancellationScope,
  CancelledFailure,
  ContinueAsNew,
  condition,
  continueAsNew,
  isCancellation,
} from "@temporalio/workflow";
import type { PreflightResult } from "../../src/resharding/model/activities.js";
import type { MigrationSpec } from "../../src/resharding/model/migration.js";
import { checkedBy } from "../../src/resharding/model/reshard-plan.js";
import {
  type ReshardInput,
  type ReshardResult,
  type TaskMemo,
  taskType,
} from "../../src/resharding/model/tasks.js";
import { failureOf } from "../task/failures.js";
import { answeredBadly, undoes } from "../task/step-failed.js";
import { copyAll } from "./copy-all.js";
import { handleReshardOrders, receiveChildReports } from "./reshard-orders.js";
import { replicateUntilSwitched } from "./reshard-replicate.js";
import { type Begun, createReshardRun, type ReshardRun } from "./reshard-run.js";

/**
 * RESHARD, COPY_DATA and REPLICATE: from the checks to the first switch. What follows, the way back, is a task
 * of its own (`replicate`). Before the switch everything is undone on abort or cancel.
 */
export async function reshard(input: ReshardInput): Promise<ReshardResult> {
  const run = createReshardRun(input);
  handleReshardOrders(run);
  receiveChildReports(run);
  try {
    const result = await run.scope.run(() => pipeline(run));
    // Non-cancellable: a cancel that came after the decision must not undo what is decided.
    await CancellationScope.nonCancellable(() => condition(allHandlersFinished));
    return result;
  } catch (error) {
    // How the SDK leaves a run that goes on in another one: no failure.
    if (error instanceof ContinueAsNew) throw error;
    return CancellationScope.nonCancellable(() => giveUp(run, error));
  }
}

async function pipeline(run: ReshardRun): Promise<ReshardResult> {
  const { input } = run;
  const begun = input.resume ?? (await prepareMigration(run));
  if (!input.skipCopy) {
    const copied = await copy(run, begun);
    if (copied === "interrupted") {
      await condition(allHandlersFinished);
      return continueAsNew<typeof reshard>(
        run.continued({ policy: begun.policy, shards: begun.shards }),
      );
    }
    await syncSchema(run, "schemaPost", "post");
  }
  const result = await replicateUntilSwitched(run, begun);
  // The task ends as PgDog's does: finished, its last inner status kept.
  run.view.change({ status: "finished", isSwitchable: false, waitingFor: [] });
  return result;
}

/** Everything before the first row moves. The slots come before the copy: what they miss, snapshots have. */
async function prepareMigration(run: ReshardRun): Promise<Begun> {
  const { ref, skipCopy } = run.input;
  const policy = await run.step("readPolicy", { summary: "read policies" });
  const between = `${ref.source} -> ${ref.destination}`;
  const spec = specOf(await run.step("preflight", { summary: `check ${between}` }, ref));
  const { source, destination, tables } = spec;
  await run.step("beginMigration", { summary: `lock ${tables.length} tables` }, { ref, spec });
  if (!skipCopy) await syncSchema(run, "schemaPre", "pre");
  // Before the first row: from here on nobody but us writes the destination.
  const gates = "gates: open at the source, closed at the destination";
  await run.step("installGates", { summary: gates }, ref);
  await run.step("createStream", { summary: "slots on every source shard" }, { ref, stream: 0 });
  return {
    policy,
    shards: { source: source.shardCount, destination: destination.shardCount },
  };
}

function specOf(preflight: PreflightResult): MigrationSpec {
  const checked = checkedBy(preflight);
  if (checked.kind === "passed") return checked.spec;
  const { message, hint } = checked;
  throw answeredBadly("preflight", { code: "SLUICE_PREFLIGHT_FAILED", message, hint });
}

async function syncSchema(
  run: ReshardRun,
  name: "schemaPre" | "schemaPost",
  phase: "pre" | "post",
): Promise<void> {
  const { ref } = run.input;
  const row = taskType.schemaSync(ref, phase);
  await run.step(name, { summary: `schema, ${phase}-data`, row }, { ref, phase });
}

async function copy(run: ReshardRun, { policy }: Begun): Promise<"done" | "interrupted"> {
  const { ref } = run.input;
  run.view.subtask(taskType.copyData(ref), { status: "running" });
  const plans = await run.step("planCopy", { summary: "cut tables into key ranges" }, ref);
  const outcome = await copyAll(run, { plans, policy });
  if (outcome === "done") run.view.subtask(taskType.copyData(ref), { status: "finished" });
  return outcome;
}

/** Undoes what was made, newest first, and ends the task. Non-cancellable; every undo is repeated for ever. */
async function giveUp(run: ReshardRun, error: unknown): Promise<ReshardResult> {
  const { ref } = run.input;
  const status: TaskMemo["status"] = isCancellation(error)
    ? "cancelled"
    : `failed: ${failureOf(error).message}`;
  run.isGivenUp = true;
  if (undoes(error) && run.hasMade()) {
    run.view.change({ status: "cancelling", isSwitchable: false });
    await run.undoAll();
  }
  const rows = run.view.state().subtasks;
  for (const row of rows.filter(({ status: each }) => each === "running"))
    run.view.subtask(row.type, { status: isCancellation(error) ? "cancelled" : "failed" });
  run.view.change({ status, waitingFor: [], isSwitchable: false });
  await condition(allHandlersFinished);
  if (!isCancellation(error)) {
    const { message, code, hint } = failureOf(error);
    throw ApplicationFailure.nonRetryable(
      `${message} (${ref.source} -> ${ref.destination})`,
      code,
      {
        hint,
      },
    );
  }
  // Cancelled from outside: the run shows as Canceled. By the order "abort": it completes and says so.
  if (run.isCancelledFromOutside()) throw new CancelledFailure("cancelled before the decision");
  return { outcome: "aborted" };
}
