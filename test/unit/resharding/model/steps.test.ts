import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { ALL_STEPS, stepsTable } from "../../../../src/resharding/model/steps.js";

describe("the declaration of steps", () => {
  test("docs/steps.md has its table", () => {
    const page = readFileSync(new URL("../../../../docs/steps.md", import.meta.url), "utf8");
    expect(page).toContain(stepsTable().join("\n"));
  });

  test("a step that may wait for long beats, so that a dead process is noticed in seconds", () => {
    for (const [name, step] of Object.entries(ALL_STEPS))
      if (step.startToCloseMs > 60_000) {
        expect(step.heartbeatMs, name).not.toBeNull();
        expect(step.heartbeatMs ?? 0, name).toBeLessThanOrEqual(10_000);
      }
  });

  test("a node's own queue always has a limit to start, or a silent node would be waited for", () => {
    for (const [name, step] of Object.entries(ALL_STEPS))
      if (step.queue === "node") expect(step.scheduleToStartMs, name).toBeLessThanOrEqual(5_000);
  });

  test("R42, R43: the switch is never repeated, and what learns its outcome is repeated for ever", () => {
    expect(ALL_STEPS.switchTraffic).toMatchObject({ attempts: 1, onFailure: "undo" });
    expect(ALL_STEPS.resolve).toMatchObject({ attempts: null, onFailure: "retryForever" });
    for (const name of ["dropStream", "abortMigration", "finalizeMigration"] as const)
      expect(ALL_STEPS[name]).toMatchObject({ attempts: null, onFailure: "retryForever" });
  });
});
