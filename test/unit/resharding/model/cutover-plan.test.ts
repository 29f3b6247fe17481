import { describe, expect, test } from "vitest";
import type {
  LaneStatus,
  ResolveResult,
  StreamStatus,
  SwitchReport,
} from "../../../../src/resharding/model/activities.js";
import {
  afterArming,
  attemptResult,
  standbyRefusal,
  undoneAttempt,
} from "../../../../src/resharding/model/cutover-plan.js";

function status(...states: readonly LaneStatus["state"][]): StreamStatus {
  const lanes = states.map((state, toShard) => ({
    fromShard: 0,
    toShard,
    state,
    appliedLsn: "0/1",
    changeCount: 0,
  }));
  return { stream: 1, lanes, lagBytes: 0, asideKeys: 0, blocker: null };
}

describe("the way back is ready", () => {
  test("when every lane reads its slot, at the start or since an undone attempt", () => {
    expect(standbyRefusal(status("standby", "applying"), 60_000)).toBeNull();
  });

  const refused = "the way back is not ready after 60000 ms: a lane has not begun";
  test("not when a lane is missing or stopped, or there is none", () => {
    expect(standbyRefusal(status("standby", "missing"), 60_000)).toBe(refused);
    expect(standbyRefusal(status("stopped"), 60_000)).toBe(refused);
    expect(standbyRefusal(status(), 60_000)).toBe(refused);
  });

  test("and a blocker is told", () => {
    const blocker = { code: "WAITING" as const, message: "lane 0 to 1 stopped" };
    expect(standbyRefusal({ ...status("stopped"), blocker }, 5)).toBe(
      "the way back is not ready after 5 ms: lane 0 to 1 stopped",
    );
  });
});

describe("after arming", () => {
  const nodes = ["n1", "n2", "n3"].map((nodeId) => ({
    nodeId,
    incarnation: "i",
    address: "",
    epoch: 0,
    configHash: "",
  }));
  const silent = new Map([
    ["n2", "no answer in time"],
    ["n3", "no such epoch"],
  ]);

  test("all go on when none is silent, whatever the policy", () => {
    for (const silentNode of ["abort", "fence"] as const)
      expect(afterArming(nodes, new Map(), { silentNode })).toEqual({ kind: "goOn", nodes });
  });

  test("silent ones end the attempt, each by name and reason", () => {
    expect(afterArming(nodes, silent, { silentNode: "abort" })).toEqual({
      kind: "undo",
      reason: "node did not arm: n2 (no answer in time), n3 (no such epoch)",
    });
  });

  test("or are left to the gate, by policy", () => {
    expect(afterArming(nodes, silent, { silentNode: "fence" })).toEqual({
      kind: "goOn",
      nodes: nodes.slice(0, 1),
    });
  });
});

describe("the answer of an attempt", () => {
  const steps = { pause: 1, synchronize: 2, swap: 3, reverse: 4, resume: 5 };
  const committed: ResolveResult = {
    outcome: "committed",
    reason: "",
    serving: "destination",
    steps,
    pauseMs: 15,
  };
  const aborted: ResolveResult = { ...committed, outcome: "aborted", steps: null, pauseMs: null };
  const report: SwitchReport = { outcome: "undone", reason: "drain too slow", pauseMs: 9, steps };

  test("R43: resolve says on which side we are, whatever the switch reported or failed with", () => {
    expect(attemptResult(committed, { report: null, failure: "connection lost" })).toEqual({
      outcome: "committed",
      reason: "",
      pauseMs: 15,
      steps,
    });
    const wrong = { ...report, outcome: "committed" as const, reason: "" };
    expect(attemptResult(aborted, { report: wrong, failure: "" }).outcome).toBe("aborted");
  });

  test("its reason, else the report's, else what it failed with", () => {
    const reason = (resolved: string, reported: SwitchReport | null) =>
      attemptResult({ ...aborted, reason: resolved }, { report: reported, failure: "cancelled" })
        .reason;
    expect(reason("expired", report)).toBe("expired");
    expect(reason("", report)).toBe("drain too slow");
    expect(reason("", null)).toBe("cancelled");
  });

  test("milliseconds from the row, else from the report", () => {
    expect(attemptResult(aborted, { report, failure: "" })).toMatchObject({ pauseMs: 9, steps });
    expect(attemptResult(aborted, { report: null, failure: "" })).toMatchObject({
      pauseMs: null,
      steps: null,
    });
    expect(undoneAttempt("why")).toEqual({
      outcome: "aborted",
      reason: "why",
      pauseMs: null,
      steps: null,
    });
  });
});
