import type { StepTimings } from "./activities.js";
import { type OrderName, offeredOrders } from "./orders.js";
import { ALL_STEPS, OPERATOR_STEPS, type StepName, statusOf } from "./steps.js";
import type { Parked, TaskStatus } from "./tasks.js";

/**
 * The markdown that the Temporal UI shows as "current details": phase, what is in the way, and the lines to
 * type. Rebuilt on every change; makes no history.
 */
export function currentDetails(state: TaskStatus, workflowId: string, nowMs: number): string {
  const rows: (readonly [string, string])[] = [
    ["task", state.type],
    ["status", state.status],
    ["phase", `${state.innerStatus}, for ${inWords(nowMs - state.startedAtMs)} since the start`],
    ["lag", state.lagBytes === null ? "not known yet" : `${state.lagBytes} bytes`],
    [
      "predicted pause",
      state.predictedPauseMs === null ? "not known yet" : `${state.predictedPauseMs} ms`,
    ],
    ["waiting for", state.waitingFor.length === 0 ? "nothing" : state.waitingFor.join("; ")],
  ];
  if (state.parked !== null)
    rows.push([
      "parked",
      `${state.parked.step}: ${state.parked.code}: ${state.parked.message} ${state.parked.hint}`,
    ]);
  if (state.lastSwitch !== null) rows.push(["last switch", lastSwitchInWords(state.lastSwitch)]);
  const table = rows.map(([name, value]) => `| ${name} | ${value.replaceAll("|", "\\|")} |`);
  const lines = ordersFor(state).map(
    (order) =>
      `    temporal workflow signal --workflow-id ${workflowId} --name ${order} --input '{"reason":"..."}'`,
  );
  return ["| | |", "| --- | --- |", ...table, "", ...lines].join("\n");
}

/** The same for an attempt at a switch: what it does, or what it repeats and why. */
export function attemptDetails(attempt: {
  readonly step: StepName;
  readonly isReverse: boolean;
  readonly parked: Parked | null;
}): string {
  const { step, parked } = attempt;
  const declared = ALL_STEPS[step];
  const doing = `${statusOf(declared, attempt) ?? step}: ${declared.text}`;
  if (parked === null) return doing;
  return `${doing}; it failed and is repeated: ${parked.code} ${parked.message} ${parked.hint}`.trim();
}

function ordersFor({ isReverse, parked }: TaskStatus): readonly OrderName[] {
  return offeredOrders(isReverse ? "reverse" : "forward", { isParked: parked !== null });
}

function lastSwitchInWords(last: NonNullable<TaskStatus["lastSwitch"]>): string {
  if (last.outcome === "aborted") return `undone: ${last.reason}`;
  const steps = last.steps === null ? "" : ` (${stepsInWords(last.steps)})`;
  return `committed, pause ${last.pauseMs ?? "?"} ms${steps}`;
}

function stepsInWords(steps: StepTimings): string {
  return OPERATOR_STEPS.map(({ key, text }) => `${text} ${steps[key]}`).join(", ");
}

function inWords(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
