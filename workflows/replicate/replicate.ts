import {
  allHandlersFinished,
  CancellationScope,
  CancelledFailure,
  condition,
  continueAsNew,
  getExternalWorkflowHandle,
  setHandler,
  upsertSearchAttributes,
  workflowInfo,
} from "@temporalio/workflow";
import {
  type ReplicateInput,
  type ReplicateResult,
  workflowIds,
} from "../../src/resharding/model/tasks.js";
import { activity } from "../task/activity-options.js";
import { abortSignal, beginSignal, searchAttributes } from "../task/messages.js";
import { inBackground } from "../task/step-runner.js";
import { handleReplicateOrders } from "./replicate-orders.js";
import { createReplicateRun, type ReplicateRun } from "./replicate-run.js";
import { keepStreaming } from "./streams.js";
import { switchWhenReady } from "./switching.js";
import { watch } from "./watch.js";

/**
 * Streams one direction until traffic is switched away from the side that it reads, forward or back. Stream 0
 * is a child of `reshard`; every later one begins as a standby of the switch before it and is a root task.
 *
 * The main line sits in a non-cancellable scope and sees a cancel request as a flag: before the decision it
 * undoes, after it there is only forward.
 */
export async function replicate(input: ReplicateInput): Promise<ReplicateResult> {
  const run = createReplicateRun(input);
  handleReplicateOrders(run);
  setHandler(beginSignal, (result) => {
    run.flags.begun ??= result;
  });
  CancellationScope.current().cancelRequested.catch(() => noteCancel(run));
  const result = await CancellationScope.nonCancellable(async () => {
    const ended = await mainLine(run);
    await condition(allHandlersFinished);
    return ended;
  });
  // As Canceled, not Completed: that is what the one who cancelled expects to see.
  if (result.outcome === "aborted" && run.flags.isCancelled)
    throw new CancelledFailure("cancelled before the decision");
  return result;
}

function noteCancel(run: ReplicateRun): void {
  run.flags.isCancelled = true;
  if (run.isServing() && run.input.stream > 0)
    run.notice = "cancel ignored: after the switch there is rollback or finalize";
  else run.flags.isAborted = true;
}

async function mainLine(run: ReplicateRun): Promise<ReplicateResult> {
  const streams = inBackground(() => keepStreaming(run));
  run.onStop(() => streams.stop());
  if (!run.isServing()) {
    await condition(() => run.flags.begun !== null || run.flags.isAborted);
    if (run.flags.begun === null) return giveUpStandby(run);
    await becomeServing(run);
  }
  for (;;) {
    const watching = inBackground(() => watch(run));
    await condition(() => run.next(streams, watching) !== "wait");
    const next = run.next(streams, watching);
    await watching.stop();
    switch (next) {
      case "switch": {
        const done = await switchWhenReady(run);
        if (done !== null) return finishCommitted(run, done);
        break;
      }
      case "finalize":
        return finalize(run);
      case "abort":
        return giveUp(run);
      case "continueAsNew":
        await run.stopAll();
        await condition(allHandlersFinished);
        return continueAsNew<typeof replicate>(run.continued());
      case "failed":
        throw (streams.failure() ?? watching.failure())?.error;
      case "wait":
        break;
    }
  }
}

/** The switch that made this standby is committed: it is the way back now, and a task of its own. */
async function becomeServing(run: ReplicateRun): Promise<void> {
  const { ref, stream } = run.input;
  const taskId = await run.step("allocateTaskId", () =>
    activity("allocateTaskId", { summary: "take a task id for the way back" })(),
  );
  run.begin(taskId);
  upsertSearchAttributes([
    { key: searchAttributes.task, value: taskId },
    { key: searchAttributes.kind, value: "replicate" },
    { key: searchAttributes.cluster, value: `${ref.source}/${ref.destination}` },
  ]);
  run.view.change({
    innerStatus: "replicating",
    isSwitchable: true,
    startedAtMs: run.startedAtMs(),
    lastSwitch: run.flags.begun === null ? null : run.noteSwitch(run.flags.begun),
  });
  run.view.becomeRoot();
  run.log(`serves as the way back of stream ${stream - 1}`);
}

async function finishCommitted(
  run: ReplicateRun,
  lastSwitch: Extract<ReplicateResult, { outcome: "committed" }>["lastSwitch"],
): Promise<ReplicateResult> {
  const { ref, stream } = run.input;
  await run.stopAll();
  await run.step("dropStream", () =>
    activity("dropStream", { summary: `drop stream ${stream}` })({ ref, stream }),
  );
  run.view.change({ status: "finished", isSwitchable: false, waitingFor: [] });
  return { outcome: "committed", lastSwitch };
}

async function finalize(run: ReplicateRun): Promise<ReplicateResult> {
  const { ref } = run.input;
  run.view.change({ innerStatus: "stopping", isSwitchable: false, waitingFor: [] });
  await run.stopAll();
  await abortNextStandby(run);
  const { unsavedNodes } = await run.step("finalizeMigration", () =>
    activity("finalizeMigration", {
      summary: `finalize: drop the way back of ${ref.source} -> ${ref.destination}`,
    })(ref),
  );
  // R36: an operator has to know which node would still start with the files of before.
  const innerStatus =
    unsavedNodes.length === 0
      ? "finalized"
      : `finalized, files not saved by ${unsavedNodes.join(", ")}`;
  run.view.change({ status: "finished", innerStatus });
  return { outcome: "finalized", unsavedNodes };
}

/** Stream 0 before the decision. Slots and the rest are the parent's to remove. */
async function giveUp(run: ReplicateRun): Promise<ReplicateResult> {
  run.view.change({ innerStatus: "stopping", isSwitchable: false, waitingFor: [] });
  await run.stopAll();
  await abortNextStandby(run);
  run.view.change({ status: "cancelled" });
  return { outcome: "aborted" };
}

async function giveUpStandby(run: ReplicateRun): Promise<ReplicateResult> {
  const { ref, stream } = run.input;
  await run.stopAll();
  await run.step("dropStream", () =>
    activity("dropStream", { summary: `drop the standby stream ${stream}` })({ ref, stream }),
  );
  run.view.change({ status: "cancelled" });
  return { outcome: "aborted" };
}

/** An attempt at a switch that was undone has left the standby of the way back running. */
async function abortNextStandby(run: ReplicateRun): Promise<void> {
  const { ref, stream } = run.input;
  if (run.attempts() === 0) return;
  await getExternalWorkflowHandle(workflowIds.replicate(ref, stream + 1))
    .signal(abortSignal, { reason: `${workflowInfo().workflowId} ends` })
    // It may have ended, or the attempt failed before it began.
    .catch(() => undefined);
}
