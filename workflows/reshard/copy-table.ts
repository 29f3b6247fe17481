import { allHandlersFinished, condition, continueAsNew, workflowInfo } from "@temporalio/workflow";
import { rangesToCopy } from "../../src/resharding/model/reshard-plan.js";
import type { TaskStepName } from "../../src/resharding/model/steps.js";
import { type CopyTableInput, taskType } from "../../src/resharding/model/tasks.js";
import { handleOrders } from "../task/order-handlers.js";
import { together } from "../task/side-by-side.js";
import { createStepRunner, type Retries, type StepRunner } from "../task/step-runner.js";
import { createTaskView } from "../task/task-view.js";

/** Copies one table of one source shard, range by range, several side by side. Returns ranges copied. */
export async function copyTable(input: CopyTableInput): Promise<number> {
  const { ref, plan } = input;
  const retries: Retries = { count: 0 };
  const view = createTaskView({
    ref,
    type: `${taskType.copyData(ref)}: ${plan.schema}.${plan.table}`,
    innerStatus: "",
    isReverse: false,
    startedAtMs: Date.now(),
    subtasks: [],
    lastSwitch: null,
    role: "child",
  });
  handleOrders({ view, retries, phase: () => "copyTable", take: () => undefined });
  const step = createStepRunner<TaskStepName>({ view, retries, made: [] });
  const done = new Set(input.doneRanges);
  const queue = rangesToCopy(plan, input.doneRanges);
  const copyNext = async () => {
    // Between two ranges only: what runs is waited for, so nothing is copied twice.
    while (!workflowInfo().continueAsNewSuggested) {
      const range = queue.shift();
      if (range === undefined) return;
      await copyRange(step, input, range);
      done.add(range);
    }
  };
  await together(Array.from({ length: input.rangesAtOnce }, () => copyNext));
  if (queue.length > 0) {
    await condition(allHandlersFinished);
    await continueAsNew<typeof copyTable>({ ...input, doneRanges: [...done].sort(ascending) });
  }
  view.change({ status: "finished" });
  return done.size;
}

async function copyRange(
  step: StepRunner<TaskStepName>,
  { ref, plan }: CopyTableInput,
  range: number,
): Promise<void> {
  const { schema, table, sourceShard, rangeCount } = plan;
  const summary = `copy ${schema}.${table} range ${range + 1}/${rangeCount} of shard ${sourceShard}`;
  await step("copyRange", { summary }, { ref, schema, table, sourceShard, range });
}

function ascending(a: number, b: number): number {
  return a - b;
}
