import { CancelledFailure, executeChild, ParentClosePolicy } from "@temporalio/workflow";
import {
  type ReplicateInput,
  type ReplicateResult,
  type ShardCounts,
  workflowIds,
} from "../src/resharding/model/tasks.js";
import type { replicate } from "./replicate.js";
import type { ReshardResult } from "./reshard.js";
import type { ReshardRun } from "./reshard-run.js";

/** Stream 0 until traffic is switched. A child that is ended from outside parks the task; it can run again. */
export async function replicateUntilSwitched(
  run: ReshardRun,
  shards: ShardCounts,
): Promise<ReshardResult> {
  run.view.change({ innerStatus: "replicating", isSwitchable: true });
  const result = await run.step("runStream", () => runChild(run, shards));
  switch (result.outcome) {
    case "committed":
      return { outcome: "switched", pauseMs: result.lastSwitch.pauseMs };
    case "aborted":
    case "finalized":
      throw new CancelledFailure("replication was ended before the decision");
  }
}

function runChild(run: ReshardRun, shards: ShardCounts): Promise<ReplicateResult> {
  const { ref, policy } = run.input;
  const input: ReplicateInput = {
    version: 1,
    ref,
    stream: 0,
    shards,
    policy,
    autoCutover: run.wantsSwitch,
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
