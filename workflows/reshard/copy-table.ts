import { allHandlersFinished, condition, continueAsNew, workflowInfo } from "@temporalio/workflow";
import type { CopyRangeResult } from "../../src/resharding/model/activities.js";
import { type CopyTableInput, taskType } from "../../src/resharding/model/tasks.js";
import { activity } from "../task/activity-options.js";
import { handleOrders } from "../task/orders.js";
import { createStepRunner, type Retries, together } from "../task/step-runner.js";
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
  handleOrders(
    {
      retryStep: {
        refusal: () => (view.state().parked === null ? "no step waits for a person" : null),
        take: () => {
          retries.count += 1;
          return "tries the step again";
        },
      },
    },
    "copyTable",
  );
  const step = createStepRunner(view, retries);
  const done = new Set(input.doneRanges);
  const queue = rangesToCopy(input);
  const copyNext = async () => {
    // Between two ranges only: what runs is waited for, so nothing is copied twice.
    while (!workflowInfo().continueAsNewSuggested) {
      const range = queue.shift();
      if (range === undefined) return;
      await step("copyRange", () => copyRange(input, range));
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

function rangesToCopy({ plan, doneRanges }: CopyTableInput): number[] {
  const done = new Set([...plan.doneRanges, ...doneRanges]);
  return Array.from({ length: plan.rangeCount }, (_, range) => range).filter(
    (range) => !done.has(range),
  );
}

function copyRange(input: CopyTableInput, range: number): Promise<CopyRangeResult> {
  const { ref, plan } = input;
  const { schema, table, sourceShard, rangeCount } = plan;
  const summary = `copy ${schema}.${table} range ${range + 1}/${rangeCount} of shard ${sourceShard}`;
  return activity("copyRange", { summary })({ ref, schema, table, sourceShard, range });
}

function ascending(a: number, b: number): number {
  return a - b;
}
