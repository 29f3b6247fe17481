import { CancellationScope } from "@temporalio/workflow";
import type { TaskPolicy } from "../../src/resharding/model/policy.js";
import {
  ALL_STEPS,
  compensationsBefore,
  statusOf,
  type TaskStepName,
} from "../../src/resharding/model/steps.js";
import {
  type ReshardInput,
  type ReshardResume,
  type ShardCounts,
  taskType,
} from "../../src/resharding/model/tasks.js";
import {
  createStepRunner,
  type Retries,
  type StepRunner,
  type StepRunnerOptions,
  undoAll,
} from "../task/step-runner.js";
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
  readonly step: StepRunner<TaskStepName>;
  readonly retries: Retries;
  /** Everything before the switch runs in it; the order "abort" cancels it. */
  readonly scope: CancellationScope;
  /** Something is there that has to be undone if the migration is given up. */
  readonly hasMade: () => boolean;
  /** Newest first. */
  undoAll(): Promise<void>;
  /** CUTOVER before the child is there is kept for it. */
  wantsSwitch: boolean;
  /** By the order "abort". */
  isAborted: boolean;
  /** It is being undone, whatever the reason. */
  isGivenUp: boolean;
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
    innerStatus: statusOf(ALL_STEPS.readPolicy, { isReverse: false }) ?? "",
    isReverse: false,
    startedAtMs,
    subtasks: resume?.subtasks ?? [],
    lastSwitch: null,
    role: "root",
  });
  const retries: Retries = { count: 0 };
  // A run goes on from another one between two copies, never earlier.
  const made = resume === null ? [] : [...compensationsBefore("planCopy")];
  const steps: StepRunnerOptions = { view, retries, made };
  let isCancelled = false;
  CancellationScope.current().cancelRequested.catch(() => {
    isCancelled = true;
  });
  const run: ReshardRun = {
    input,
    view,
    retries,
    step: createStepRunner(steps),
    scope: new CancellationScope(),
    hasMade: () => made.length > 0,
    undoAll: () => undoAll(steps, ref),
    wantsSwitch: resume?.autoCutover ?? input.autoCutover,
    isAborted: false,
    isGivenUp: false,
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
