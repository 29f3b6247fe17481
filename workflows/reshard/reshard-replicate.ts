import { CancelledFailure } from "@temporalio/workflow";
import { ALL_STEPS, statusOf } from "../../src/resharding/model/steps.js";
import {
  type LastSwitch,
  type ReplicateInput,
  type ReplicateResult,
  type ReshardResult,
  taskType,
  workflowIds,
} from "../../src/resharding/model/tasks.js";
import type { Begun, ReshardRun } from "./reshard-run.js";

/** Stream 0 until traffic is switched. A child that is ended from outside parks the task; it can run again. */
export async function replicateUntilSwitched(
  run: ReshardRun,
  begun: Begun,
): Promise<ReshardResult> {
  const result = await runChild(run, begun);
  switch (result.outcome) {
    case "committed":
      showEnd(run, result.lastSwitch);
      return { outcome: "switched", pauseMs: result.lastSwitch.pauseMs };
    case "aborted":
    case "finalized":
      throw new CancelledFailure("replication was ended before the decision");
  }
}

/** The child's own last report may come after it has ended, and then nobody reads it. */
function showEnd(run: ReshardRun, lastSwitch: LastSwitch): void {
  const type = taskType.replication(run.input.ref, 0);
  const innerStatus = statusOf(ALL_STEPS.cutover, { isReverse: false }) ?? "";
  run.view.subtask(type, { status: "finished", innerStatus });
  run.view.showSteps(lastSwitch.steps);
  run.view.change({ lastSwitch });
}

async function runChild(run: ReshardRun, begun: Begun): Promise<ReplicateResult> {
  const { ref } = run.input;
  const { policy, shards } = begun;
  const input: ReplicateInput = {
    version: 1,
    ref,
    stream: 0,
    shards,
    policy,
    autoCutover: run.wantsSwitch,
    needsSchema: !run.input.skipCopy,
    resume: null,
  };
  const workflowId = workflowIds.replicate(ref, 0);
  run.replicateId = workflowId;
  return await run.step(
    "replicate",
    {
      workflowId,
      summary: `stream 0 of ${ref.source} -> ${ref.destination}`,
      // One that switches by itself does not wait for CUTOVER.
      shows: { isSwitchable: !run.wantsSwitch },
    },
    input,
  );
}
