import { describe, expect, test } from "vitest";
import {
  type AfterAnswer,
  afterAnswer,
  backoffMs,
  type Next,
  nextOf,
  nextPassDue,
  questionMs,
  type ReplicateState,
  uncleanPauseMs,
} from "../../../../src/resharding/model/replicate-plan.js";

const NOTHING: ReplicateState = {
  hasFailed: false,
  isAborted: false,
  isFinalized: false,
  wantsSwitch: false,
  isReady: false,
  isHistoryLong: false,
};

describe("what replicate does next", () => {
  const cases: readonly (readonly [Partial<ReplicateState>, Next])[] = [
    [{}, "wait"],
    [{ isReady: true }, "wait"],
    [{ wantsSwitch: true }, "wait"],
    [{ wantsSwitch: true, isReady: true }, "switch"],
    // A switch that can be made is not put off for housekeeping.
    [{ wantsSwitch: true, isReady: true, isHistoryLong: true }, "switch"],
    [{ isHistoryLong: true }, "continueAsNew"],
    [{ wantsSwitch: true, isHistoryLong: true }, "continueAsNew"],
    [{ isFinalized: true, wantsSwitch: true, isReady: true }, "finalize"],
    [{ isAborted: true, isFinalized: true, wantsSwitch: true, isReady: true }, "abort"],
    [{ isFinalized: true, isHistoryLong: true }, "finalize"],
    [{ hasFailed: true, isAborted: true }, "failed"],
  ];
  test.each(cases)("%o: %s", (state, next) => {
    expect(nextOf({ ...NOTHING, ...state })).toBe(next);
  });
});

test("the pause after an undone switch doubles up to a minute", () => {
  expect([1, 2, 3, 4, 5, 6, 7, 8].map((attempt) => backoffMs(1_000, attempt))).toEqual([
    1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000,
  ]);
  expect(backoffMs(1, 1_000)).toBe(256);
  expect(backoffMs(90_000, 1)).toBe(60_000);
});

test("readiness waits for a yes only when somebody wants it and it can come", () => {
  const ask = (wantsSwitch: boolean, needsSchema: boolean) =>
    questionMs({ wantsSwitch, needsSchema, observeMs: 500 });
  expect([ask(true, false), ask(true, true), ask(false, false), ask(false, true)]).toEqual([
    500, 0, 0, 0,
  ]);
});

describe("after an answer of readiness", () => {
  const ASKED = {
    wantsSwitch: true,
    needsSchema: false,
    observeMs: 500,
    backoffMs: -1,
    isHurried: false,
  };
  const ready = { isReady: true, lagBytes: 0 };
  const behind = { isReady: false, lagBytes: 1_000_001 };
  const near = { isReady: false, lagBytes: 1_000_000 };
  const unknown = { isReady: false, lagBytes: null };
  const cases: readonly (readonly [
    string,
    Parameters<typeof afterAnswer>[0],
    Partial<typeof ASKED>,
    AfterAnswer,
  ])[] = [
    ["ready", ready, {}, { kind: "switch" }],
    ["ready, but nobody wants it", ready, { wantsSwitch: false }, { kind: "idle", forMs: 500 }],
    ["not ready", behind, {}, { kind: "askAgain" }],
    ["in the back-off", ready, { backoffMs: 70 }, { kind: "waitOut", forMs: 70 }],
    ["hurried through it", ready, { backoffMs: 70, isHurried: true }, { kind: "switch" }],
    ["its end", ready, { backoffMs: 0 }, { kind: "switch" }],
    ["schema, far behind", behind, { needsSchema: true }, { kind: "lookAgain", afterMs: 1_000 }],
    ["schema, unknown", unknown, { needsSchema: true }, { kind: "lookAgain", afterMs: 1_000 }],
    ["schema, near", near, { needsSchema: true }, { kind: "completeSchema" }],
    // Also when nobody wants to switch: it takes long, and is due before.
    [
      "schema, unwanted",
      ready,
      { needsSchema: true, wantsSwitch: false },
      { kind: "completeSchema" },
    ],
  ];
  test.each(cases)("%s", (_, answer, asked, next) => {
    expect(afterAnswer(answer, { ...ASKED, ...asked })).toEqual(next);
  });
});

describe("when verification is stale", () => {
  test("at once while there is no clean pass", () => {
    expect(nextPassDue(null, { verifyMaxAgeMs: 60_000 })).toBeNull();
  });

  test("at half of the age at which it counts no more; unwanted, every ten minutes", () => {
    expect(nextPassDue(1_000_000, { verifyMaxAgeMs: 60_000 })).toEqual({
      atMs: 1_030_000,
      unwantedAtMs: 1_600_000,
    });
    // An age longer than that: never before it is due at all.
    expect(nextPassDue(0, { verifyMaxAgeMs: 3_600_000 })).toEqual({
      atMs: 1_800_000,
      unwantedAtMs: 1_800_000,
    });
    // No busy loop, whatever the policy says.
    expect(nextPassDue(0, { verifyMaxAgeMs: 1 })?.atMs).toBe(1_000);
  });

  test("differences that stay are not asked for at every moment", () => {
    expect([1, 2, 3, 4, 5, 6, 7].map(uncleanPauseMs)).toEqual([
      2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000,
    ]);
    expect(uncleanPauseMs(5_000)).toBe(60_000);
    // Rows in motion only.
    expect(uncleanPauseMs(0)).toBe(2_000);
  });
});
