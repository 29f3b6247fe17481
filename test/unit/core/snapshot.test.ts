import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InvariantBroken } from "../../../src/core/assert.js";
import { isVisible, parseSnapshot, widenXid } from "../../../src/core/snapshot.js";

describe("pg_current_snapshot()", () => {
  it("is read with its running transactions, 64 bits wide", () => {
    expect(parseSnapshot("10:20:")).toEqual({ xmin: 10n, xmax: 20n, running: new Set() });
    expect(parseSnapshot("4294967297:4294967305:4294967299,4294967301")).toEqual({
      xmin: 4294967297n,
      xmax: 4294967305n,
      running: new Set([4294967299n, 4294967301n]),
    });
  });

  it.each(["", "1:2", "1:2:3:4", "a:2:", "1:2:x", "-1:2:"])('refuses "%s"', (text) => {
    expect(() => parseSnapshot(text)).toThrow(RangeError);
  });

  it.each([
    [9n, true, "before all that were running"],
    [10n, false, "running"],
    [12n, true, "ended among those that were running"],
    [15n, false, "running"],
    [19n, true, "the last one that had ended"],
    [20n, false, "not begun"],
    [21n, false, "not begun"],
  ] as const)("R1: sees of %s: %s (%s)", (xid, expected, _why) => {
    expect(isVisible(xid, parseSnapshot("10:20:10,15"))).toBe(expected);
  });
});

describe("R4: the full id of a transaction that the stream names by 32 bits", () => {
  const FAR = 1n << 30n;

  it("is the one nearest to the snapshot's xmax, over the wrap of 32 bits, too", () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: FAR, max: 1n << 40n }),
        fc.bigInt({ min: -FAR, max: FAR }),
        (xmax, distance) => {
          const xid = xmax + distance;
          const snapshot = { xmin: xmax, xmax, running: new Set<bigint>() };
          expect(widenXid(Number(xid & 0xffffffffn), snapshot)).toBe(xid);
        },
      ),
    );
  });

  it("is refused where either side could be meant", () => {
    const xmax = 1n << 34n;
    const snapshot = { xmin: xmax, xmax, running: new Set<bigint>() };
    for (const distance of [FAR + 1n, -FAR - 1n, 1n << 31n])
      expect(() => widenXid(Number((xmax + distance) & 0xffffffffn), snapshot)).toThrow(
        InvariantBroken,
      );
  });
});
