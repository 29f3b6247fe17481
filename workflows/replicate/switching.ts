import {
  CancellationScope,
  ChildWorkflowCancellationType,
  condition,
  executeChild,
  ParentClosePolicy,
} from "@temporalio/workflow";
import {
  type CutoverInput,
  type CutoverResult,
  type LastSwitch,
  workflowIds,
} from "../../src/resharding/model/tasks.js";
import type { cutover } from "../cutover/cutover.js";
import { describeFailure } from "../task/failures.js";
import type { ReplicateRun } from "./replicate-run.js";

/** One attempt. Null: it was undone; the reason is shown, and the next attempt waits out its back-off. */
export async function switchWhenReady(run: ReplicateRun): Promise<LastSwitch | null> {
  const { stream, policy } = run.input;
  const attempt = run.nextAttempt();
  run.isReady = false;
  run.isSwitching = true;
  run.flags.isHurried = false;
  run.view.change({ innerStatus: stream === 0 ? "cutting over" : "rolling back", waitingFor: [] });
  const result = await attemptCutover(run, attempt);
  const lastSwitch = run.noteSwitch(result);
  if (result.outcome === "committed") {
    run.view.showSteps(result.steps);
    run.view.change({ lastSwitch });
    return lastSwitch;
  }
  run.isSwitching = false;
  run.notBeforeMs = Date.now() + backoffMs(policy.switchRetryMs, attempt);
  run.view.change({
    innerStatus: "replicating",
    lastSwitch,
    waitingFor: [`attempt ${attempt} was undone: ${result.reason}`],
  });
  return null;
}

async function attemptCutover(run: ReplicateRun, attempt: number): Promise<CutoverResult> {
  const { ref, stream, shards, policy } = run.input;
  const input: CutoverInput = { version: 1, ref, stream, shards, policy };
  const scope = new CancellationScope();
  // The child undoes itself when cancelled, and always answers with what was decided.
  const aborting = new CancellationScope();
  const watchAbort = aborting
    .run(async () => {
      await condition(() => run.flags.isAborted);
      scope.cancel();
    })
    .catch(() => undefined);
  try {
    return await scope.run(() =>
      executeChild<typeof cutover>("cutover", {
        workflowId: workflowIds.cutover(ref, stream, attempt),
        args: [input],
        staticSummary: `switch ${attempt} of stream ${stream}: ${ref.source} -> ${ref.destination}`,
        // R44: a parent that continues as new would end it otherwise.
        parentClosePolicy: ParentClosePolicy.ABANDON,
        cancellationType: ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
      }),
    );
  } catch (error) {
    // Ended from outside without an answer: the next attempt's `prepareDecision` refuses if it had committed.
    const reason = `cutover workflow ended without an answer: ${describeFailure(error)}`;
    return { outcome: "aborted", reason, pauseMs: null, steps: null };
  } finally {
    aborting.cancel();
    await watchAbort;
  }
}

const LONGEST_BACKOFF_MS = 60_000;

function backoffMs(firstMs: number, attempt: number): number {
  return Math.min(firstMs * 2 ** Math.min(attempt - 1, 8), LONGEST_BACKOFF_MS);
}
