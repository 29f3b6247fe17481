import { describe, expect, it } from "vitest";
import { parseSnapshot } from "../../../src/core/snapshot.js";
import {
  type CopiedRange,
  isInRange,
  RangeMap,
} from "../../../src/resharding/stream/lanes/copied-ranges.js";

const range = (lower: string | null, upper: string | null, snapshot = "1:1:"): CopiedRange => ({
  lower,
  upper,
  snapshot: parseSnapshot(snapshot),
});

describe("ranges of integers", () => {
  const ranges = new RangeMap(
    [range("9", "100"), range(null, "-5"), range("100", null), range("-5", "9")],
    "int",
  );
  it.each([
    ["-6", null],
    ["-9223372036854775808", null],
    ["-5", "-5"],
    ["8", "-5"],
    ["9", "9"],
    ["10", "9"],
    ["99", "9"],
    ["100", "100"],
    ["9223372036854775807", "100"],
  ])("%s", (key, lower) => {
    expect(ranges.find(key)?.lower).toBe(lower);
  });
});

it("uuids are ordered by their bytes", () => {
  const ranges = new RangeMap(
    [
      range("80000000-0000-0000-0000-000000000000", null),
      range(null, "80000000-0000-0000-0000-000000000000"),
    ],
    "uuid",
  );
  expect(ranges.find("7fffffff-ffff-ffff-ffff-ffffffffffff")?.lower).toBeNull();
  expect(ranges.find("80000000-0000-0000-0000-000000000000")?.lower).not.toBeNull();
  expect(ranges.find("a0000000-0000-0000-0000-000000000000")?.lower).not.toBeNull();
});

it("a table that is one range needs no order", () => {
  expect(new RangeMap([range(null, null)], null).find("anything")).not.toBeNull();
});

describe("R4: 32-bit ids are widened to the nearest of the snapshot", () => {
  const around = range(null, null, "8589934590:8589934600:8589934595");
  it.each([
    [4294967289, true],
    [4294967290, true],
    [4294967295, true],
    [0, true],
    [3, false],
    [8, false],
    [100, false],
  ])("%s is in the range: %s", (xid, isThere) => {
    expect(isInRange(around, xid)).toBe(isThere);
  });

  it("and an id that could mean either side is an error", () => {
    expect(() => isInRange(around, 2_000_000_000)).toThrow(/away from the snapshot/);
  });
});
