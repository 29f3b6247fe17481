import { CancellationScope, condition } from "@temporalio/workflow";
import { undoneAttempt } from "../../src/resharding/model/cutover-plan.js";
import { backoffMs } from "../../src/resharding/model/replicate-plan.js";
import {
  type CutoverInput,
  type CutoverResult,
  type LastSwitch,
  workflowIds,
} from "../../src/resharding/model/tasks.js";
import { describeFailure } from "../task/failures.js";
import type { ReplicateRun } from "./replicate-run.js";

/** One attempt. Null: it was undone; the reason is shown, and the next attempt waits out its back-off. */
export async function switchWhenReady(run: ReplicateRun): Promise<LastSwitch | null> {
  const { policy } = run.input;
  const attempt = run.nextAttempt();
  run.isReady = false;
  run.isSwitching = true;
  run.flags.isHurried = false;
  const result = await attemptCutover(run, attempt);
  const lastSwitch = run.noteSwitch(result);
  if (result.outcome === "committed") {
    run.isSwitched = true;
    run.view.showSteps(result.steps);
    run.view.change({ lastSwitch });
    return lastSwitch;
  }
  run.isSwitching = false;
  run.notBeforeMs = Date.now() + backoffMs(policy.switchRetryMs, attempt);
  run.view.enter("readiness", {
    lastSwitch,
    waitingFor: [`attempt ${attempt} was undone: ${result.reason}`],
  });
  return null;
}

async function attemptCutover(run: ReplicateRun, attempt: number): Promise<CutoverResult> {
  const { ref, stream, shards, policy } = run.input;
  const input: CutoverInput = { version: 1, ref, stream, shards, policy };
  const call = {
    workflowId: workflowIds.cutover(ref, stream, attempt),
    summary: `switch ${attempt} of stream ${stream}: ${ref.source} -> ${ref.destination}`,
    shows: { waitingFor: [] },
  };
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
    return await scope.run(() => run.step("cutover", call, input));
  } catch (error) {
    // Ended from outside without an answer: the next attempt's `prepareDecision` refuses if it had committed.
    return undoneAttempt(`cutover workflow ended without an answer: ${describeFailure(error)}`);
  } finally {
    aborting.cancel();
    await watchAbort;
  }
}
