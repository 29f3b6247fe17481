import { describe, expect, test } from "vitest";
import { toFailure } from "../../../activities/failure.js";
import { NotReady, ServerUnreachable } from "../../../src/core/errors.js";

describe("what an activity throws", () => {
  test("ours: code as type, hint and detail as details, repeated only if time alone helps", () => {
    const failure = toFailure(new NotReady("not now", { hint: "wait", detail: "lag" }), 1);
    expect(failure).toMatchObject({
      type: "SLUICE_NOT_READY",
      message: "not now",
      nonRetryable: true,
      details: [{ hint: "wait", detail: "lag" }],
    });
    expect(toFailure(new ServerUnreachable("h:1/d"), 99).nonRetryable).toBe(false);
  });

  test("ours leaves its cause behind, as a server's words may hold values", () => {
    const cause = new Error("Key (email)=(a@b.c) already exists");
    expect(toFailure(new NotReady("duplicate", { cause }), 1).cause).toBeUndefined();
  });

  test.each([
    ["08006", true],
    ["40001", true],
    ["53300", true],
    ["57P01", true],
    ["55P03", true],
    ["ECONNREFUSED", true],
    ["42P01", false],
    ["23505", false],
  ])("a server's %s is repeated for ever: %s", (code, isPassing) => {
    const error = Object.assign(new Error("x"), { code });
    expect(toFailure(error, 1_000)).toMatchObject({ type: code, nonRetryable: !isPassing });
  });

  test("what nobody foresaw is tried some times and then shown to a person", () => {
    const attempts = [1, 2, 3, 4, 5].map(
      (attempt) => toFailure(new TypeError("x is undefined"), attempt).nonRetryable,
    );
    expect(attempts).toEqual([false, false, false, false, true]);
  });
});
