import { assertNever } from "../../core/assert.js";

/**
 * What a person, or another workflow, may order from a task, and when. Declared once: the workflows wire and
 * answer orders from here, current details offer them, docs/protocol.md has the table (held to it by a test).
 */
export const ORDERS = ["cutover", "rollback", "finalize", "abort", "go", "retryStep"] as const;
export type OrderName = (typeof ORDERS)[number];

/**
 * Where a task stands, as far as orders go.
 * - forward: before the first switch; a root task and its child that streams answer alike.
 * - aborting: what was made is being undone, by order or after a failure.
 * - switched: the switch away from the side that it reads is committed; the task is about to end.
 * - standby: the way back of a switch that is not decided yet.
 * - reverse: the way back of a committed switch; its `rollback` is a switch like any other.
 * - reverseSwitching: in an attempt at that switch.
 * - finalizing: the way back is being given up.
 * - copyTable, schemaSync: tasks below or beside a migration.
 */
export type TaskPhase =
  | "forward"
  | "aborting"
  | "switched"
  | "standby"
  | "reverse"
  | "reverseSwitching"
  | "finalizing"
  | "copyTable"
  | "schemaSync";

type Answer =
  | { readonly kind: "taken" }
  /** Only while a step waits for a person. */
  | { readonly kind: "takenIfParked" }
  | { readonly kind: "refused"; readonly why: string };

const TAKEN: Answer = { kind: "taken" };
const IF_PARKED: Answer = { kind: "takenIfParked" };

function refused(why: string): Answer {
  return { kind: "refused", why };
}

const NO_SWITCH_TO_ROLL_BACK = refused("there is no switch yet to roll back; abort undoes it all");
const NO_SWITCH_TO_FINALIZE = refused("there is no switch yet to finalize");
const ENDING = refused("the task is ending");
const NOT_SERVING = refused("this standby does not serve yet");
const IS_SWITCHED = refused("the switch is made; what follows is the task of the way back");
const AFTER_SWITCH = refused("after the switch there is rollback or finalize");

/** Complete: a phase or an order more fails to compile here. */
const ANSWERS: Readonly<Record<TaskPhase, Readonly<Record<OrderName, Answer>>>> = {
  forward: {
    cutover: TAKEN,
    rollback: NO_SWITCH_TO_ROLL_BACK,
    finalize: NO_SWITCH_TO_FINALIZE,
    abort: TAKEN,
    go: TAKEN,
    retryStep: IF_PARKED,
  },
  aborting: {
    cutover: ENDING,
    rollback: ENDING,
    finalize: ENDING,
    // Given twice, it changes nothing.
    abort: TAKEN,
    go: ENDING,
    retryStep: IF_PARKED,
  },
  switched: {
    cutover: IS_SWITCHED,
    rollback: IS_SWITCHED,
    finalize: IS_SWITCHED,
    abort: IS_SWITCHED,
    go: IS_SWITCHED,
    retryStep: IF_PARKED,
  },
  standby: {
    cutover: NOT_SERVING,
    rollback: NOT_SERVING,
    finalize: NOT_SERVING,
    abort: TAKEN,
    go: NOT_SERVING,
    retryStep: IF_PARKED,
  },
  reverse: {
    // The same order by its name of the other direction: CUTOVER of the admin database knows no other.
    cutover: TAKEN,
    rollback: TAKEN,
    finalize: TAKEN,
    abort: AFTER_SWITCH,
    go: TAKEN,
    retryStep: IF_PARKED,
  },
  reverseSwitching: {
    cutover: TAKEN,
    rollback: TAKEN,
    finalize: refused("a switch is running; say it again when it is over"),
    abort: AFTER_SWITCH,
    go: TAKEN,
    retryStep: IF_PARKED,
  },
  finalizing: {
    cutover: ENDING,
    rollback: ENDING,
    finalize: TAKEN,
    abort: AFTER_SWITCH,
    go: ENDING,
    retryStep: IF_PARKED,
  },
  copyTable: { ...unknownTo("a copyTable task"), retryStep: IF_PARKED },
  schemaSync: unknownTo("a schemaSync task"),
};

function unknownTo(task: string): Readonly<Record<OrderName, Answer>> {
  const answer = (order: OrderName) => refused(`${task} knows no "${order}"`);
  return {
    cutover: answer("cutover"),
    rollback: answer("rollback"),
    finalize: answer("finalize"),
    abort: answer("abort"),
    go: answer("go"),
    retryStep: answer("retryStep"),
  };
}

/** Why the order is refused now, in words for whoever gave it; null: it is taken. */
export function orderRefusal(
  phase: TaskPhase,
  order: OrderName,
  now: { readonly isParked: boolean },
): string | null {
  const answer = ANSWERS[phase][order];
  switch (answer.kind) {
    case "taken":
      return null;
    case "takenIfParked":
      return now.isParked ? null : "no step waits for a person";
    case "refused":
      return answer.why;
    default:
      return assertNever(answer, "answer");
  }
}

const SWITCHES = "switches as soon as it is ready";
const ANSWERED: Readonly<Record<OrderName, string>> = {
  cutover: SWITCHES,
  rollback: SWITCHES,
  finalize: "drops the way back",
  abort: "undoes what was made",
  go: SWITCHES,
  retryStep: "tries the step again",
};

/** What the giver of an order that is taken reads. */
export function answerOf(order: OrderName): string {
  return ANSWERED[order];
}

/**
 * The orders of `sluice migrate` and of current details, each with the direction of its task. The words name a
 * direction, so none is taken by a task of the other one: an abort that in truth finalizes would give up the
 * way back.
 */
export const COMMAND_ORDERS = {
  cutover: { phase: "forward", text: "switch as soon as it is ready" },
  rollback: { phase: "reverse", text: "switch back: takes the id of the reverse task" },
  finalize: { phase: "reverse", text: "give up the way back: takes the id of the reverse task" },
  abort: { phase: "forward", text: "undo a migration that has not switched" },
} as const satisfies Readonly<
  Partial<Record<OrderName, { readonly phase: TaskPhase; readonly text: string }>>
>;
export type CommandOrder = keyof typeof COMMAND_ORDERS;
export const COMMANDS = Object.keys(COMMAND_ORDERS) as readonly CommandOrder[];

/** The orders to show to a person who looks at a task. */
export function offeredOrders(
  phase: "forward" | "reverse",
  now: { readonly isParked: boolean },
): readonly OrderName[] {
  const orders = COMMANDS.filter((order) => COMMAND_ORDERS[order].phase === phase);
  return now.isParked ? [...orders, "retryStep"] : orders;
}

/** Where a `replicate` task stands. */
export function replicatePhase(state: {
  readonly isForward: boolean;
  readonly isServing: boolean;
  readonly isSwitching: boolean;
  readonly isSwitched: boolean;
  readonly isAborted: boolean;
  readonly isFinalized: boolean;
}): TaskPhase {
  // Nothing takes a committed switch back, whatever was asked meanwhile.
  if (state.isSwitched) return "switched";
  if (state.isAborted) return "aborting";
  if (state.isForward) return "forward";
  if (!state.isServing) return "standby";
  if (state.isFinalized) return "finalizing";
  return state.isSwitching ? "reverseSwitching" : "reverse";
}

/** The table of docs/protocol.md, lines without their ends. @testonly */
export function ordersTable(): readonly string[] {
  const rows = Object.entries(ANSWERS).map(
    ([phase, answers]) =>
      `| ${phase} | ${ORDERS.map((order) => inWords(answers[order])).join(" | ")} |`,
  );
  return [
    `| task | ${ORDERS.map((order) => `\`${order}\``).join(" | ")} |`,
    `| --- |${ORDERS.map(() => " --- |").join("")}`,
    ...rows,
  ];
}

function inWords(answer: Answer): string {
  switch (answer.kind) {
    case "taken":
      return "**taken**";
    case "takenIfParked":
      return "**taken** while a step is parked";
    case "refused":
      return answer.why;
    default:
      return assertNever(answer, "answer");
  }
}
