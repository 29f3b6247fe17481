import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  answerOf,
  ORDERS,
  type OrderName,
  offeredOrders,
  orderRefusal,
  ordersTable,
  replicatePhase,
  type TaskPhase,
} from "../../../../src/resharding/model/orders.js";

const QUIET = { isParked: false };
const PARKED = { isParked: true };

/** c: cutover, R: rollback, f: finalize, a: abort, g: go, r: retryStep. */
const LETTERS: Readonly<Record<OrderName, string>> = {
  cutover: "c",
  rollback: "R",
  finalize: "f",
  abort: "a",
  go: "g",
  retryStep: "r",
};

function taken(phase: TaskPhase, now = QUIET): string {
  return ORDERS.filter((order) => orderRefusal(phase, order, now) === null)
    .map((order) => LETTERS[order])
    .join("");
}

describe("orders", () => {
  const cases: readonly (readonly [TaskPhase, string])[] = [
    ["forward", "cag"],
    ["aborting", "a"],
    ["switched", ""],
    ["standby", "a"],
    ["reverse", "cRfg"],
    ["reverseSwitching", "cRg"],
    ["finalizing", "f"],
    ["copyTable", ""],
    ["schemaSync", ""],
  ];
  test.each(cases)("%s takes %s", (phase, letters) => {
    expect(taken(phase)).toBe(letters);
    // `retryStep` belongs to a parked step, in every task that parks.
    expect(taken(phase, PARKED)).toBe(phase === "schemaSync" ? "" : `${letters}r`);
  });

  const words: readonly (readonly [TaskPhase, OrderName, string])[] = [
    ["forward", "rollback", "there is no switch yet to roll back; abort undoes it all"],
    ["forward", "finalize", "there is no switch yet to finalize"],
    ["forward", "retryStep", "no step waits for a person"],
    ["aborting", "cutover", "the task is ending"],
    ["switched", "abort", "the switch is made; what follows is the task of the way back"],
    ["standby", "cutover", "this standby does not serve yet"],
    ["reverse", "abort", "after the switch there is rollback or finalize"],
    ["reverseSwitching", "finalize", "a switch is running; say it again when it is over"],
    ["finalizing", "rollback", "the task is ending"],
    ["schemaSync", "retryStep", 'a schemaSync task knows no "retryStep"'],
  ];
  test.each(words)("%s refuses %s: %s", (phase, order, why) => {
    expect(orderRefusal(phase, order, QUIET)).toBe(why);
  });

  test("what is offered to a person is taken, and each way on is offered", () => {
    const offered = (phase: "forward" | "reverse", now = QUIET) => offeredOrders(phase, now);
    for (const phase of ["forward", "reverse"] as const)
      for (const now of [QUIET, PARKED])
        for (const order of offered(phase, now)) expect(orderRefusal(phase, order, now)).toBeNull();
    expect(offered("forward")).toEqual(["cutover", "abort"]);
    expect(offered("reverse")).toEqual(["rollback", "finalize"]);
    expect(offered("reverse", PARKED)).toEqual(["rollback", "finalize", "retryStep"]);
    expect(answerOf("rollback")).toBe(answerOf("cutover"));
  });

  test("docs/protocol.md has the table", () => {
    const page = readFileSync(new URL("../../../../docs/protocol.md", import.meta.url), "utf8");
    expect(page).toContain(ordersTable().join("\n"));
  });
});

describe("where a replicate task stands", () => {
  const nothing = {
    isForward: false,
    isServing: true,
    isSwitching: false,
    isSwitched: false,
    isAborted: false,
    isFinalized: false,
  };
  const cases: readonly (readonly [Partial<typeof nothing>, TaskPhase])[] = [
    [{ isForward: true }, "forward"],
    // Stream 0 may be aborted in the middle of a switch, so that one takes orders as before it.
    [{ isForward: true, isSwitching: true }, "forward"],
    [{ isForward: true, isAborted: true }, "aborting"],
    // An abort that came too late does not undo a decision, and is not said to.
    [{ isForward: true, isAborted: true, isSwitched: true }, "switched"],
    [{ isServing: false }, "standby"],
    [{ isServing: false, isAborted: true }, "aborting"],
    [{}, "reverse"],
    [{ isSwitching: true }, "reverseSwitching"],
    [{ isSwitching: true, isSwitched: true }, "switched"],
    [{ isFinalized: true }, "finalizing"],
  ];
  test.each(cases)("%o: %s", (state, phase) => {
    expect(replicatePhase({ ...nothing, ...state })).toBe(phase);
  });
});
