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
import { orderRefusal } from "../../src/resharding/model/orders.js";
import { withoutNotes } from "../../src/resharding/model/subtasks.js";
import {
  type ReplicateInput,
  type ReplicateResult,
  taskWords,
  workflowIds,
} from "../../src/resharding/model/tasks.js";
import { beginSignal, orderMessages, searchAttributes } from "../task/messages.js";
import { inBackground } from "../task/side-by-side.js";
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

/** A cancel request is the order to abort, where that is taken; elsewhere it is neither of the other two. */
function noteCancel(run: ReplicateRun): void {
  run.flags.isCancelled = true;
  const refusal = orderRefusal(run.phase(), "abort", { isParked: false });
  if (refusal === null) run.flags.isAborted = true;
  else run.notice = `cancel ignored: ${refusal}`;
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
        // Streams take their time to stop; an order that was taken meanwhile would be lost with this run.
        if (run.flags.isAborted) return giveUp(run);
        if (run.flags.isFinalized) return finalize(run);
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
  const summary = "take a task id for the way back";
  const taskId = await run.step("allocateTaskId", { summary });
  run.begin(taskId);
  upsertSearchAttributes([
    { key: searchAttributes.task, value: taskId },
    { key: searchAttributes.kind, value: "replicate" },
    { key: searchAttributes.cluster, value: `${ref.source}/${ref.destination}` },
  ]);
  run.view.enter("readiness", {
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
  await run.step("dropStream", { summary: `drop stream ${stream}` }, { ref, stream });
  const state = run.view.state();
  run.view.change({
    ...{ status: "finished", isSwitchable: false, waitingFor: [], isSwitchWanted: false },
    // What the way back depends on is nothing any more when it has been gone.
    subtasks: stream === 0 ? state.subtasks : withoutNotes(state.subtasks),
  });
  return { outcome: "committed", lastSwitch };
}

async function finalize(run: ReplicateRun): Promise<ReplicateResult> {
  const { ref } = run.input;
  // Its words from here on: the streams are stopped for it.
  run.view.enter("finalizeMigration", { isSwitchable: false, waitingFor: [] });
  await run.stopAll();
  await abortNextStandby(run);
  const summary = `finalize: drop the way back of ${ref.source} -> ${ref.destination}`;
  const { unsavedNodes } = await run.step("finalizeMigration", { summary }, ref);
  run.view.change({ status: "finished", innerStatus: taskWords.finalized(unsavedNodes) });
  return { outcome: "finalized", unsavedNodes };
}

/** Stream 0 before the decision. Slots and the rest are the parent's to remove. */
async function giveUp(run: ReplicateRun): Promise<ReplicateResult> {
  run.view.change({ innerStatus: taskWords.stopping, isSwitchable: false, waitingFor: [] });
  await run.stopAll();
  await abortNextStandby(run);
  run.view.change({ status: "cancelled" });
  return { outcome: "aborted" };
}

async function giveUpStandby(run: ReplicateRun): Promise<ReplicateResult> {
  const { ref, stream } = run.input;
  await run.stopAll();
  await run.step("dropStream", { summary: `drop the standby stream ${stream}` }, { ref, stream });
  run.view.change({ status: "cancelled" });
  return { outcome: "aborted" };
}

/** An attempt at a switch that was undone has left the standby of the way back running. */
async function abortNextStandby(run: ReplicateRun): Promise<void> {
  const { ref, stream } = run.input;
  if (run.attempts() === 0) return;
  await getExternalWorkflowHandle(workflowIds.replicate(ref, stream + 1))
    .signal(orderMessages.abort.signal, { reason: `${workflowInfo().workflowId} ends` })
    // It may have ended, or the attempt failed before it began.
    .catch(() => undefined);
}
