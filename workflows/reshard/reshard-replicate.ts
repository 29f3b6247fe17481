import { CancelledFailure, executeChild, ParentClosePolicy } from "@temporalio/workflow";
import {
  type LastSwitch,
  type ReplicateInput,
  type ReplicateResult,
  taskType,
  workflowIds,
} from "../../src/resharding/model/tasks.js";
import type { replicate } from "../replicate/replicate.js";
import type { ReshardResult } from "./reshard.js";
import type { Begun, ReshardRun } from "./reshard-run.js";

/** Stream 0 until traffic is switched. A child that is ended from outside parks the task; it can run again. */
export async function replicateUntilSwitched(
  run: ReshardRun,
  begun: Begun,
): Promise<ReshardResult> {
  // One that switches by itself does not wait for CUTOVER.
  run.view.change({ innerStatus: "replicating", isSwitchable: !run.wantsSwitch });
  const result = await run.step("runStream", () => runChild(run, begun));
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
  run.view.subtask(type, { status: "finished", innerStatus: "cutting over" });
  run.view.showSteps(lastSwitch.steps);
  run.view.change({ lastSwitch });
}

function runChild(run: ReshardRun, begun: Begun): Promise<ReplicateResult> {
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
  return executeChild<typeof replicate>("replicate", {
    workflowId,
    args: [input],
    staticSummary: `stream 0 of ${ref.source} -> ${ref.destination}`,
    // R44: it must not end with a run of its parent; the parent cancels it through this scope.
    parentClosePolicy: ParentClosePolicy.ABANDON,
  });
}
