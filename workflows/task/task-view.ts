import {
  getExternalWorkflowHandle,
  setCurrentDetails,
  setHandler,
  upsertMemo,
  upsertSearchAttributes,
  workflowInfo,
} from "@temporalio/workflow";
import type { StepTimings } from "../../src/resharding/model/activities.js";
import { currentDetails } from "../../src/resharding/model/current-details.js";
import type { MigrationRef } from "../../src/resharding/model/migration.js";
import {
  ALL_STEPS,
  OPERATOR_STEPS,
  type StepName,
  statusOf,
} from "../../src/resharding/model/steps.js";
import { publishedKey, shownStatus, withSubtask } from "../../src/resharding/model/subtasks.js";
import {
  type ChildReport,
  type LastSwitch,
  type Parked,
  type Subtask,
  type TaskMemo,
  type TaskStatus,
  taskType,
} from "../../src/resharding/model/tasks.js";
import { childReportSignal, searchAttributes, statusQuery, TASK_MEMO } from "./messages.js";

export type TaskChange = Partial<Omit<TaskStatus, "version" | "updatedAtMs">>;

/** What people see of one workflow: query, memo, search attribute, current details, the parent's row. */
export interface TaskView {
  readonly state: () => TaskStatus;
  /** Shows it everywhere; costs history events only when more than figures changed. */
  change(patch: TaskChange): void;
  /** Shows the declared words of a step, and what else changes with it. */
  enter(step: StepName, shows?: Omit<TaskChange, "innerStatus">): void;
  /** Adds or changes the subtask row of this type. */
  subtask(type: string, patch: Partial<Subtask>): void;
  /** The five documented steps of a switch as rows, with their milliseconds. */
  showSteps(steps: StepTimings | null): void;
  park(parked: Parked): void;
  unpark(parked: Parked): void;
  /** A root from now on: memo and phase are written from here. */
  becomeRoot(): void;
}

export interface TaskViewOptions {
  readonly ref: MigrationRef;
  readonly type: string;
  readonly innerStatus: string;
  readonly isReverse: boolean;
  readonly startedAtMs: number;
  readonly subtasks: readonly Subtask[];
  readonly lastSwitch: LastSwitch | null;
  /** root: has memo and search attributes; child: reports to its parent; standby: shown to nobody yet. */
  readonly role: "root" | "child" | "standby";
}

export function createTaskView(options: TaskViewOptions): TaskView {
  let role = options.role;
  let published = "";
  const parked: Parked[] = [];
  let state: TaskStatus = {
    version: 1,
    type: options.type,
    status: "running",
    innerStatus: options.innerStatus,
    startedAtMs: options.startedAtMs,
    updatedAtMs: Date.now(),
    subtasks: options.subtasks,
    isSwitchable: false,
    isReverse: options.isReverse,
    waitingFor: [],
    lagBytes: null,
    predictedPauseMs: null,
    parked: null,
    lastSwitch: options.lastSwitch,
    isSwitchWanted: false,
  };
  const show = () => {
    const { workflowId } = workflowInfo();
    setCurrentDetails(currentDetails(state, workflowId, Date.now()));
    const key = publishedKey(state);
    if (key === published) return;
    published = key;
    if (role === "root") publishRoot(state);
    else if (role === "child") reportToParent(state);
  };
  const change: TaskView["change"] = (patch) => {
    state = { ...state, ...patch, updatedAtMs: Date.now() };
    show();
  };
  setHandler(statusQuery, () => state);
  show();
  const view: TaskView = {
    state: () => state,
    change,
    enter: (step, shows) => {
      const words = statusOf(ALL_STEPS[step], state);
      change({ ...shows, ...(words === null ? {} : { innerStatus: words }) });
    },
    subtask: (type, patch) =>
      change({ subtasks: withSubtask(state.subtasks, type, { patch, nowMs: Date.now() }) }),
    showSteps: (steps) => {
      for (const { key, text } of OPERATOR_STEPS)
        view.subtask(taskType.cutoverStep(text), {
          status: "finished",
          elapsedMs: steps === null ? null : steps[key],
        });
    },
    park: (item) => {
      parked.push(item);
      change({ parked: parked[0] ?? null });
    },
    unpark: (item) => {
      parked.splice(parked.indexOf(item), 1);
      change({ parked: parked[0] ?? null });
    },
    becomeRoot: () => {
      role = "root";
      published = "";
      show();
    },
  };
  return view;
}

function publishRoot(state: TaskStatus): void {
  const { waitingFor, lagBytes, predictedPauseMs, parked, lastSwitch, isSwitchWanted, ...rest } =
    state;
  const { innerStatus, phase } = shownStatus(state);
  const memo: TaskMemo = { ...rest, innerStatus };
  upsertMemo({ [TASK_MEMO]: memo });
  upsertSearchAttributes([{ key: searchAttributes.phase, value: phase }]);
}

function reportToParent(state: TaskStatus): void {
  const { parent, workflowId } = workflowInfo();
  if (parent === undefined) return;
  const own: Subtask = {
    type: state.type,
    status: state.status,
    innerStatus: state.innerStatus,
    startedAtMs: state.startedAtMs,
    updatedAtMs: state.updatedAtMs,
    elapsedMs: null,
  };
  const report: ChildReport = {
    workflowId,
    subtasks: [own, ...state.subtasks],
    waitingFor: state.waitingFor,
    lagBytes: state.lagBytes,
    predictedPauseMs: state.predictedPauseMs,
    parked: state.parked,
    lastSwitch: state.lastSwitch,
  };
  getExternalWorkflowHandle(parent.workflowId)
    .signal(childReportSignal, report)
    // A parent that has ended shows nothing any more, and nothing waits for this.
    .catch(() => undefined);
}
