import { describe, expect, test } from "vitest";
import { toFailure } from "../../../activities/failure.js";
import { NotReady, ServerUnreachable } from "../../../src/core/errors.js";
import { SqlError } from "../../../src/core/sql-error.js";

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

  test("nobody's message and cause stay behind too: histories are read by many", () => {
    const cause = new Error("Key (email)=(a@b.c) already exists");
    const failure = toFailure(new TypeError("a@b.c is no key", { cause }), 1);
    expect(JSON.stringify([failure.message, failure.details, failure.cause])).not.toMatch(/a@b/);
    expect(failure.cause).toBeUndefined();
    expect(failure.message).toMatch(/^TypeError, which nobody foresaw, at /);
  });

  test("a server's error: the SQLSTATE as type, and where its words are", () => {
    const error = new SqlError({
      code: "22P02",
      message: 'invalid input syntax for type integer: "a@b.c"',
    });
    const failure = toFailure(error, 5);
    expect(failure).toMatchObject({
      type: "22P02",
      message: "invalid text representation (SQLSTATE 22P02)",
      nonRetryable: true,
      details: [{ hint: expect.stringContaining("SHOW EVIDENCE"), detail: "" }],
    });
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
