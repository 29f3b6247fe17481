import { CancellationScope } from "@temporalio/workflow";
import {
  type ReshardInput,
  type ReshardResume,
  type ShardCounts,
  type TaskPolicy,
  taskType,
} from "../../src/resharding/model/tasks.js";
import { createStepRunner, type Retries, type StepRunner } from "../task/step-runner.js";
import { createTaskView, type TaskView } from "../task/task-view.js";

/** What is known once the migration has begun. */
export interface Begun {
  readonly policy: TaskPolicy;
  readonly shards: ShardCounts;
}

/** The state of one `reshard` run. */
export interface ReshardRun {
  readonly input: ReshardInput;
  readonly view: TaskView;
  readonly step: StepRunner;
  readonly retries: Retries;
  /** Everything before the switch runs in it; the order "abort" cancels it. */
  readonly scope: CancellationScope;
  /** Pushed before the step that they undo, for it may half happen. */
  readonly compensations: ("dropStream" | "abortMigration")[];
  /** CUTOVER before the child is there is kept for it. */
  wantsSwitch: boolean;
  isAborted: boolean;
  /** Child that streams, once it runs. */
  replicateId: string | null;
  /** Children that wait for `retryStep`, by workflow id. */
  readonly parkedChildren: Set<string>;
  readonly isCancelledFromOutside: () => boolean;
  continued(begun: Begun): ReshardInput;
}

export function createReshardRun(input: ReshardInput): ReshardRun {
  const { ref, resume, kind } = input;
  const startedAtMs = resume?.startedAtMs ?? Date.now();
  const view = createTaskView({
    ref,
    type: kind === "replicate" ? taskType.replication(ref, 0) : taskType.reshard(ref),
    innerStatus: "checking",
    isReverse: false,
    startedAtMs,
    subtasks: resume?.subtasks ?? [],
    lastSwitch: null,
    role: "root",
  });
  const retries: Retries = { count: 0 };
  let isCancelled = false;
  CancellationScope.current().cancelRequested.catch(() => {
    isCancelled = true;
  });
  const run: ReshardRun = {
    input,
    view,
    retries,
    step: createStepRunner(view, retries),
    scope: new CancellationScope(),
    compensations: resume === null ? [] : ["abortMigration", "dropStream"],
    wantsSwitch: resume?.autoCutover ?? input.autoCutover,
    isAborted: false,
    replicateId: null,
    parkedChildren: new Set(),
    isCancelledFromOutside: () => isCancelled,
    continued: (begun) => {
      const next: ReshardResume = {
        ...begun,
        autoCutover: run.wantsSwitch,
        subtasks: view.state().subtasks,
        startedAtMs,
      };
      return { ...input, resume: next };
    },
  };
  return run;
}
