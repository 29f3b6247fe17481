import { condition, workflowInfo } from "@temporalio/workflow";
import type { TableCopyPlan } from "../../src/resharding/model/activities.js";
import type { TaskPolicy } from "../../src/resharding/model/policy.js";
import { copyBudget, copyQueue, copyWeight } from "../../src/resharding/model/reshard-plan.js";
import { workflowIds } from "../../src/resharding/model/tasks.js";
import { together } from "../task/side-by-side.js";
import type { ReshardRun } from "./reshard-run.js";

/**
 * One child per table and source shard, at most `parallelCopies` ranges over all of them.
 * @returns "interrupted" when the history is long: all children have ended and the rest is for the next run
 */
export async function copyAll(
  run: ReshardRun,
  work: { readonly plans: readonly TableCopyPlan[]; readonly policy: TaskPolicy },
): Promise<"done" | "interrupted"> {
  const budget = copyBudget(work.policy);
  const queue = [...copyQueue(work.plans)];
  let used = 0;
  const copyNext = async () => {
    while (!workflowInfo().continueAsNewSuggested) {
      const plan = queue.shift();
      if (plan === undefined) return;
      const weight = copyWeight(plan);
      await condition(() => used + weight <= budget);
      used += weight;
      await copyOne(run, plan, weight);
      used -= weight;
    }
  };
  await together(Array.from({ length: budget }, () => copyNext));
  return queue.length > 0 ? "interrupted" : "done";
}

async function copyOne(run: ReshardRun, plan: TableCopyPlan, rangesAtOnce: number): Promise<void> {
  const { ref } = run.input;
  const { schema, table, sourceShard, rangeCount } = plan;
  await run.step(
    "copyTable",
    {
      workflowId: workflowIds.copyTable(ref, plan),
      summary: `copy ${schema}.${table}, shard ${sourceShard}, ${rangeCount} ranges`,
    },
    { version: 1, ref, plan, rangesAtOnce, doneRanges: [] },
  );
}
