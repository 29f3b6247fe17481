import {
  ActivityFailure,
  ApplicationFailure,
  CancelledFailure,
  RetryState,
  TimeoutFailure,
  TimeoutType,
} from "@temporalio/common";
import { describe, expect, test } from "vitest";
import { ALL_STEPS } from "../../../src/resharding/model/steps.js";
import { failureOf } from "../../../workflows/task/failures.js";
import { answeredBadly, StepFailed, undoes } from "../../../workflows/task/step-failed.js";

function ofActivity(cause: Error): ActivityFailure {
  return new ActivityFailure("a", "a", "1", RetryState.NON_RETRYABLE_FAILURE, "w", cause);
}

const FAILURE = { code: "SLUICE_NOT_READY" as const, message: "not yet", hint: "Wait." };

describe("what is known of a failure", () => {
  test("code, message and hint, as the activity wrote them", () => {
    const failure = ApplicationFailure.nonRetryable("copy failed", "SLUICE_COPY_FAILED", {
      hint: "Make room.",
    });
    expect(failureOf(ofActivity(failure))).toMatchObject({
      code: "SLUICE_COPY_FAILED",
      message: "copy failed",
      hint: "Make room.",
    });
  });

  test("a silence is told as one", () => {
    const silence = new TimeoutFailure("t", undefined, TimeoutType.SCHEDULE_TO_START);
    expect(failureOf(ofActivity(silence))).toMatchObject({
      code: "TIMEOUT_SCHEDULE_TO_START",
      message: "no answer in time (schedule to start)",
    });
  });

  test("anything else at least by its message", () => {
    expect(failureOf(new TypeError("x is null"))).toMatchObject({
      code: "UNKNOWN",
      message: "x is null",
    });
    expect(failureOf("text").message).toBe("text");
  });

  test("a step's own failure says the same as what it failed with", () => {
    expect(failureOf(answeredBadly("preflight", FAILURE))).toEqual(FAILURE);
  });
});

describe("what a failed step ends", () => {
  test("is what it declares", () => {
    const planOf = (name: Parameters<typeof answeredBadly>[0]) => {
      const error = answeredBadly(name, FAILURE);
      return error instanceof StepFailed ? error.plan : null;
    };
    expect(ALL_STEPS.preflight.onFailure).toBe("fail");
    expect(planOf("preflight")).toEqual({ kind: "endTask", undoes: false });
    expect(ALL_STEPS.beginMigration.onFailure).toBe("abort");
    expect(planOf("beginMigration")).toEqual({ kind: "endTask", undoes: true });
    expect(ALL_STEPS.armNode.onFailure).toBe("undo");
    expect(planOf("armNode")).toEqual({ kind: "endAttempt" });
    expect(() => planOf("copyRange")).toThrow("copyRange stays");
  });

  test("everything is undone but after a step that says that nothing is to be", () => {
    expect(undoes(answeredBadly("preflight", FAILURE))).toBe(false);
    expect(undoes(answeredBadly("beginMigration", FAILURE))).toBe(true);
    expect(undoes(new CancelledFailure("cancelled"))).toBe(true);
    expect(undoes(new TypeError("a bug"))).toBe(true);
  });
});
