import { condition, executeChild, ParentClosePolicy, workflowInfo } from "@temporalio/workflow";
import type { TableCopyPlan } from "../../src/resharding/model/activities.js";
import {
  type CopyTableInput,
  type TaskPolicy,
  workflowIds,
} from "../../src/resharding/model/tasks.js";
import { together } from "../task/step-runner.js";
import type { copyTable } from "./copy-table.js";
import type { ReshardRun } from "./reshard-run.js";

/** Ranges of one table at once; a table takes no more of the budget than it has ranges. */
const RANGES_AT_ONCE = 2;
const FEWEST_AT_ONCE = 2;

/**
 * One child per table and source shard, at most `parallelCopies` ranges over all of them. The largest go
 * first, so that the end is not one big table alone.
 * @returns "interrupted" when the history is long: all children have ended and the rest is for the next run
 */
export async function copyAll(
  run: ReshardRun,
  work: { readonly plans: readonly TableCopyPlan[]; readonly policy: TaskPolicy },
): Promise<"done" | "interrupted"> {
  const budget = Math.max(FEWEST_AT_ONCE, work.policy.parallelCopies);
  const queue = work.plans
    .filter((plan) => rangesLeft(plan) > 0)
    .sort((a, b) => b.estimatedRows - a.estimatedRows);
  let used = 0;
  const copyNext = async () => {
    while (!workflowInfo().continueAsNewSuggested) {
      const plan = queue.shift();
      if (plan === undefined) return;
      const weight = Math.min(RANGES_AT_ONCE, rangesLeft(plan));
      await condition(() => used + weight <= budget);
      used += weight;
      await run.step("copyRange", () => copyOne(run, plan, weight));
      used -= weight;
    }
  };
  await together(Array.from({ length: budget }, () => copyNext));
  return queue.length > 0 ? "interrupted" : "done";
}

function rangesLeft(plan: TableCopyPlan): number {
  return plan.rangeCount - plan.doneRanges.length;
}

function copyOne(run: ReshardRun, plan: TableCopyPlan, rangesAtOnce: number): Promise<number> {
  const { ref } = run.input;
  const input: CopyTableInput = { version: 1, ref, plan, rangesAtOnce, doneRanges: [] };
  return executeChild<typeof copyTable>("copyTable", {
    workflowId: workflowIds.copyTable(ref, plan),
    args: [input],
    staticSummary: `copy ${plan.schema}.${plan.table}, shard ${plan.sourceShard}, ${plan.rangeCount} ranges`,
    // R44: ended only by the scope that it was started in.
    parentClosePolicy: ParentClosePolicy.ABANDON,
  });
}
