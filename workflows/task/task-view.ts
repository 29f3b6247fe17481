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
import { OPERATOR_STEPS } from "../../src/resharding/model/steps.js";
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

/** What people see of one workflow: query, memo, search attribute, current details, the parent's row. */
export interface TaskView {
  readonly state: () => TaskStatus;
  /** Shows it everywhere; costs history events only when more than figures changed. */
  change(patch: Partial<Omit<TaskStatus, "version" | "updatedAtMs">>): void;
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
    subtask: (type, patch) => change({ subtasks: withSubtask(state.subtasks, type, patch) }),
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

/** What is worth events: words, not figures that change with every look. */
function publishedKey(state: TaskStatus): string {
  const rows = state.subtasks.map((row) => [row.type, row.status, row.innerStatus, row.elapsedMs]);
  const { status, innerStatus, parked, lastSwitch, isSwitchable } = state;
  return JSON.stringify([status, innerStatus, rows, parked, lastSwitch, isSwitchable]);
}

function publishRoot(state: TaskStatus): void {
  const { waitingFor, lagBytes, predictedPauseMs, parked, lastSwitch, ...rest } = state;
  // SHOW TASKS says that it waits for a person; message and hint are in `sluice migrate status`.
  const innerStatus =
    parked === null ? state.innerStatus : `${state.innerStatus}, parked: ${parked.code}`;
  const memo: TaskMemo = { ...rest, innerStatus };
  upsertMemo({ [TASK_MEMO]: memo });
  const phase = parked === null ? state.innerStatus : `${state.innerStatus} (parked)`;
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

export function withSubtask(
  rows: readonly Subtask[],
  type: string,
  patch: Partial<Subtask>,
): readonly Subtask[] {
  const nowMs = Date.now();
  const old = rows.find((row) => row.type === type);
  const row: Subtask = {
    type,
    status: "running",
    innerStatus: "",
    startedAtMs: nowMs,
    elapsedMs: null,
    ...old,
    updatedAtMs: nowMs,
    ...patch,
  };
  return old === undefined ? [...rows, row] : rows.map((each) => (each === old ? row : each));
}
