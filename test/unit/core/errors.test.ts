import { describe, expect, it } from "vitest";
import { assertNever, InvariantBroken } from "../../../src/core/assert.js";
import {
  DatabaseUnknown,
  NotReady,
  ServerUnreachable,
  SluiceError,
} from "../../../src/core/errors.js";
import { parseSqlState, SQLSTATE } from "../../../src/core/sqlstate.js";

describe("an error that is thrown on purpose", () => {
  it("carries what a client sees, keeps its cause, and is named after its class", () => {
    const cause = new Error("refused");
    const error = new ServerUnreachable("10.0.0.1:5432/app", { cause, detail: "port closed" });
    expect(error).toBeInstanceOf(SluiceError);
    expect(error).toMatchObject({
      name: "ServerUnreachable",
      message: "cannot reach server 10.0.0.1:5432/app",
      code: "SLUICE_SERVER_UNREACHABLE",
      sqlState: "08006",
      recovery: "retry",
      detail: "port closed",
      hint: undefined,
      cause,
    });
    expect("cause" in new NotReady("not yet")).toBe(false);
  });

  it("has a hint of its own that a caller may replace", () => {
    expect(new DatabaseUnknown("x").hint).toMatch(/SHOW POOLS/);
    expect(new DatabaseUnknown("x", { hint: "other" }).hint).toBe("other");
  });
});

describe("SQLSTATE", () => {
  it("has five characters, each state once", () => {
    const states = Object.values(SQLSTATE);
    expect(new Set(states).size).toBe(states.length);
    for (const state of states) expect(parseSqlState(state)).toBe(state);
  });

  it.each([undefined, "", "0800", "080061", "o8006", "08-06", "ECONNREFUSED"])(
    "is not %s",
    (code) => {
      expect(parseSqlState(code)).toBeNull();
    },
  );
});

describe("a broken invariant", () => {
  it("says what met it", () => {
    expect(() => assertNever({ kind: "new" } as never, "route")).toThrow(
      new InvariantBroken('unexpected route: {"kind":"new"}'),
    );
  });
});
