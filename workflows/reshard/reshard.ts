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
import type { ReshardInput, TaskMemo } from "../../src/resharding/model/tasks.js";
import { taskType } from "../../src/resharding/model/tasks.js";
import { activity } from "../task/activity-options.js";
import { failureOf } from "../task/failures.js";
import { copyAll } from "./copy-all.js";
import { handleReshardOrders, receiveChildReports } from "./reshard-orders.js";
import { replicateUntilSwitched } from "./reshard-replicate.js";
import { type Begun, createReshardRun, type ReshardRun } from "./reshard-run.js";

export type ReshardResult =
  | { readonly outcome: "switched"; readonly pauseMs: number | null }
  | { readonly outcome: "aborted" };

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
    await syncSchema(run, "post");
  }
  const result = await replicateUntilSwitched(run, begun);
  // The task ends as PgDog's does: finished, its last inner status kept.
  run.view.change({ status: "finished", isSwitchable: false, waitingFor: [] });
  return result;
}

/** Everything before the first row moves. The slots come before the copy: what they miss, snapshots have. */
async function prepareMigration(run: ReshardRun): Promise<Begun> {
  const { ref, skipCopy } = run.input;
  run.view.change({ innerStatus: "checking" });
  const policy = await run.step("readPolicy", () =>
    activity("readPolicy", { summary: "read policies" })(),
  );
  const checked = await run.step("preflight", () =>
    activity("preflight", { summary: `check ${ref.source} -> ${ref.destination}` })(ref),
  );
  const spec = specOf(checked);
  run.compensations.push("abortMigration");
  await run.step("beginMigration", () =>
    activity("beginMigration", { summary: `lock ${spec.tables.length} tables` })({ ref, spec }),
  );
  if (!skipCopy) await syncSchema(run, "pre");
  // Before the first row: from here on nobody but us writes the destination.
  await run.step("installGates", () =>
    activity("installGates", { summary: "gates: open at the source, closed at the destination" })(
      ref,
    ),
  );
  run.compensations.push("dropStream");
  run.view.change({ innerStatus: "syncing data" });
  await run.step("createStream", () =>
    activity("createStream", { summary: "slots on every source shard" })({ ref, stream: 0 }),
  );
  const { source, destination } = spec;
  return {
    policy,
    shards: { source: source.shardCount, destination: destination.shardCount },
  };
}

function specOf(checked: PreflightResult): NonNullable<PreflightResult["spec"]> {
  if (checked.ok && checked.spec !== null) return checked.spec;
  const errors = checked.checks.filter((check) => check.severity === "error");
  const text = errors
    .map((check) => `${check.id} (${check.scope}): ${check.evidence}. ${check.remedy}`.trim())
    .join("; ");
  throw ApplicationFailure.nonRetryable(
    text === "" ? "preflight made no plan" : text,
    "SLUICE_PREFLIGHT_FAILED",
    { hint: `${errors.length} checks failed; each says what to do. Nothing was changed.` },
  );
}

async function syncSchema(run: ReshardRun, phase: "pre" | "post"): Promise<void> {
  const { ref } = run.input;
  const type = taskType.schemaSync(ref, phase);
  const innerStatus = phase === "pre" ? "syncing tables" : "creating indexes";
  run.view.change({ innerStatus: phase === "pre" ? "syncing schema" : "finalizing schema" });
  run.view.subtask(type, { status: "running", innerStatus });
  await run.step(phase === "pre" ? "schemaPre" : "schemaPost", () =>
    activity(phase === "pre" ? "schemaPre" : "schemaPost", { summary: `schema, ${phase}-data` })({
      ref,
      phase,
    }),
  );
  run.view.subtask(type, { status: "finished" });
}

async function copy(run: ReshardRun, { policy }: Begun): Promise<"done" | "interrupted"> {
  const { ref } = run.input;
  run.view.change({ innerStatus: "syncing data" });
  run.view.subtask(taskType.copyData(ref), { status: "running" });
  const plans = await run.step("planCopy", () =>
    activity("planCopy", { summary: "cut tables into key ranges" })(ref),
  );
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
  if (run.compensations.length > 0) run.view.change({ status: "cancelling", isSwitchable: false });
  for (const undo of run.compensations.toReversed()) await compensate(run, undo);
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

async function compensate(run: ReshardRun, undo: "dropStream" | "abortMigration"): Promise<void> {
  const { ref } = run.input;
  if (undo === "dropStream")
    await run.step("dropStream", () =>
      activity("dropStream", { summary: "drop stream 0" })({ ref, stream: 0 }),
    );
  else
    await run.step("abortMigration", () =>
      activity("abortMigration", { summary: `undo ${ref.source} -> ${ref.destination}` })(ref),
    );
}
