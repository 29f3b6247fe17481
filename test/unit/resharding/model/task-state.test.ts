import { describe, expect, test } from "vitest";
import {
  attemptDetails,
  currentDetails,
} from "../../../../src/resharding/model/current-details.js";
import {
  publishedKey,
  shownStatus,
  withSubtask,
} from "../../../../src/resharding/model/subtasks.js";
import { type TaskStatus, taskWords } from "../../../../src/resharding/model/tasks.js";

const PARKED = {
  step: "copyRange",
  code: "SLUICE_COPY_FAILED",
  message: "disk full",
  hint: "Room.",
};
const STATE: TaskStatus = {
  version: 1,
  type: "reshard a -> b",
  status: "running",
  innerStatus: "syncing data",
  startedAtMs: 0,
  updatedAtMs: 0,
  subtasks: [],
  isSwitchable: false,
  isReverse: false,
  waitingFor: [],
  lagBytes: null,
  predictedPauseMs: null,
  parked: null,
  lastSwitch: null,
  isSwitchWanted: false,
};

describe("rows below a task", () => {
  test("a new one runs from now on, at the end; a known one keeps its place and its start", () => {
    const one = withSubtask([], "one", { patch: { innerStatus: "x" }, nowMs: 5 });
    const two = withSubtask(one, "two", { patch: {}, nowMs: 6 });
    const changed = withSubtask(two, "one", { patch: { status: "finished" }, nowMs: 7 });
    expect(changed).toEqual([
      {
        type: "one",
        status: "finished",
        innerStatus: "x",
        startedAtMs: 5,
        updatedAtMs: 7,
        elapsedMs: null,
      },
      {
        type: "two",
        status: "running",
        innerStatus: "",
        startedAtMs: 6,
        updatedAtMs: 6,
        elapsedMs: null,
      },
    ]);
  });
});

describe("what is worth history events", () => {
  const changes: readonly (readonly [Partial<TaskStatus>, boolean])[] = [
    [{ innerStatus: "replicating" }, true],
    [{ status: "finished" }, true],
    [{ isSwitchable: true }, true],
    [{ parked: PARKED }, true],
    [{ subtasks: withSubtask([], "one", { patch: {}, nowMs: 1 }) }, true],
    [{ lagBytes: 7, predictedPauseMs: 8, waitingFor: ["a lane"], updatedAtMs: 9 }, false],
  ];
  test.each(changes)("%o: %s", (change, isWorth) => {
    expect(publishedKey({ ...STATE, ...change }) !== publishedKey(STATE)).toBe(isWorth);
  });
});

test("SHOW TASKS says that a step is parked; the search attribute has a word to filter by", () => {
  expect(shownStatus(STATE)).toEqual({ innerStatus: "syncing data", phase: "syncing data" });
  expect(shownStatus({ ...STATE, parked: PARKED })).toEqual({
    innerStatus: "syncing data, parked: SLUICE_COPY_FAILED",
    phase: "syncing data (parked)",
  });
});

test("R36: a node that has not saved its files is named at the end", () => {
  expect(taskWords.finalized([])).toBe("finalized");
  expect(taskWords.finalized(["n1", "n2"])).toBe("finalized, files not saved by n1, n2");
});

describe("current details", () => {
  const orders = (state: Partial<TaskStatus>) =>
    [...currentDetails({ ...STATE, ...state }, "w", 0).matchAll(/--name (\w+)/g)].map(
      ([, name]) => name,
    );

  test("say what can be ordered now", () => {
    expect(orders({})).toEqual(["cutover", "abort"]);
    expect(orders({ isReverse: true })).toEqual(["rollback", "finalize"]);
    expect(orders({ parked: PARKED })).toEqual(["cutover", "abort", "retryStep"]);
  });

  test("tell the time since the start, and what is in the way", () => {
    const text = currentDetails({ ...STATE, waitingFor: ["a | b"] }, "w", 7_260_000);
    expect(text).toContain("| phase | syncing data, for 2 h 1 min since the start |");
    expect(text).toContain("| waiting for | a \\| b |");
  });

  test("of an attempt: its step as declared, and why it is repeated", () => {
    const attempt = { step: "resolve", isReverse: true, parked: null } as const;
    const doing = "rolling back: read the decision and drive gates and nodes to what it says";
    expect(attemptDetails(attempt)).toBe(doing);
    expect(attemptDetails({ ...attempt, parked: { ...PARKED, step: "resolve" } })).toBe(
      `${doing}; it failed and is repeated: SLUICE_COPY_FAILED disk full Room.`,
    );
  });
});
