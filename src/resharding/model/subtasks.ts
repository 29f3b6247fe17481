import type { Subtask, TaskStatus } from "./tasks.js";

/** Adds or changes the row of this type; the others, and their order, stay. */
export function withSubtask(
  rows: readonly Subtask[],
  type: string,
  change: { readonly patch: Partial<Subtask>; readonly nowMs: number },
): readonly Subtask[] {
  const { patch, nowMs } = change;
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

/** Without what was only noted: rows that are no work. */
export function withoutNotes(rows: readonly Subtask[]): readonly Subtask[] {
  return rows.filter(({ status }) => status !== "noted");
}

/**
 * Equal for two states between which nothing is worth history events: words count, figures that change with
 * every look do not.
 */
export function publishedKey(state: TaskStatus): string {
  const rows = state.subtasks.map((row) => [row.type, row.status, row.innerStatus, row.elapsedMs]);
  const { status, innerStatus, parked, lastSwitch, isSwitchable } = state;
  return JSON.stringify([status, innerStatus, rows, parked, lastSwitch, isSwitchable]);
}

/** SHOW TASKS says that it waits for a person; message and hint are in `sluice migrate status`. */
export function shownStatus({ innerStatus, parked }: TaskStatus): {
  readonly innerStatus: string;
  /** The search attribute ReshardPhase: a word to filter by, without a code in it. */
  readonly phase: string;
} {
  return parked === null
    ? { innerStatus, phase: innerStatus }
    : { innerStatus: `${innerStatus}, parked: ${parked.code}`, phase: `${innerStatus} (parked)` };
}
