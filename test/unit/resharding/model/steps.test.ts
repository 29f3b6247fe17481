import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  type ActivityStep,
  ALL_STEPS,
  compensationsBefore,
  failurePlan,
  statusOf,
  stepsTable,
} from "../../../../src/resharding/model/steps.js";

const ACTIVITIES: readonly (readonly [string, ActivityStep])[] = Object.entries(ALL_STEPS).flatMap(
  ([name, step]) => (step.kind === "activity" ? [[name, step] as const] : []),
);

describe("the declaration of steps", () => {
  test("docs/steps.md has its table", () => {
    const page = readFileSync(new URL("../../../../docs/steps.md", import.meta.url), "utf8");
    expect(page).toContain(stepsTable().join("\n"));
  });

  test("a step that may wait for long beats, so that a dead process is noticed in seconds", () => {
    for (const [name, step] of ACTIVITIES)
      if (step.startToCloseMs > 60_000) {
        expect(step.heartbeatMs, name).not.toBeNull();
        expect(step.heartbeatMs ?? 0, name).toBeLessThanOrEqual(10_000);
      }
  });

  test("a node's own queue always has a limit to start, or a silent node would be waited for", () => {
    for (const [name, step] of ACTIVITIES)
      if (step.queue === "node") expect(step.scheduleToStartMs, name).toBeLessThanOrEqual(5_000);
  });

  test("R42, R43: the switch is never repeated, and what learns its outcome is repeated for ever", () => {
    expect(ALL_STEPS.switchTraffic).toMatchObject({ attempts: 1, onFailure: "undo" });
    expect(ALL_STEPS.resolve).toMatchObject({ attempts: null, onFailure: "retryForever" });
    for (const name of ["dropStream", "abortMigration", "finalizeMigration"] as const)
      expect(ALL_STEPS[name]).toMatchObject({ attempts: null, onFailure: "retryForever" });
  });

  test("each word for a failure means something else", () => {
    const plans = (["fail", "abort", "undo", "park", "retryForever"] as const).map((onFailure) =>
      failurePlan({ onFailure, longestRetryMs: 7 }),
    );
    expect(plans).toEqual([
      { kind: "endTask", undoes: false },
      { kind: "endTask", undoes: true },
      { kind: "endAttempt" },
      { kind: "stay", pauseMs: null },
      { kind: "stay", pauseMs: 7 },
    ]);
  });

  test("a step that undoes nothing when it fails comes before all that has to be undone", () => {
    const names = Object.keys(ALL_STEPS) as (keyof typeof ALL_STEPS)[];
    for (const name of names)
      if (ALL_STEPS[name].onFailure === "fail" && !name.endsWith("Task"))
        expect(compensationsBefore(name), name).toEqual([]);
    expect(compensationsBefore("planCopy")).toEqual(["abortMigration", "dropStream"]);
    expect(compensationsBefore("createStream")).toEqual(["abortMigration"]);
  });

  test("the way back has words of its own for its switch", () => {
    const words = (isReverse: boolean) => statusOf(ALL_STEPS.cutover, { isReverse });
    expect([words(false), words(true)]).toEqual(["cutting over", "rolling back"]);
    expect(statusOf(ALL_STEPS.readiness, { isReverse: true })).toBe("replicating");
    expect(statusOf(ALL_STEPS.dropStream, { isReverse: true })).toBeNull();
  });
});
