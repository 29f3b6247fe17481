import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InvariantBroken } from "../../../src/core/assert.js";
import { formatLsn, LSN_ZERO, parseLsn, toLsn } from "../../../src/core/lsn.js";

describe("a WAL position", () => {
  it.each([
    ["0/0", 0n],
    ["0/16B3748", 0x16b3748n],
    ["A/0", 0xa00000000n],
    ["FFFFFFFF/FFFFFFFF", (1n << 64n) - 1n],
  ])("%s", (text, bytes) => {
    expect(parseLsn(text)).toBe(bytes);
    expect(formatLsn(toLsn(bytes))).toBe(text);
  });

  it("comes back from its text, and compares as the server does where the text does not sort", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), (bytes) => {
        expect(parseLsn(formatLsn(toLsn(bytes)))).toBe(bytes);
      }),
    );
    expect(parseLsn("9/0") < parseLsn("10/0")).toBe(true);
    expect(["9/0", "10/0"].sort()).toEqual(["10/0", "9/0"]);
    expect(LSN_ZERO < parseLsn("0/1")).toBe(true);
  });

  it.each(["", "0", "0/", "/0", "0/0/0", "0x1/0", "G/0", "123456789/0", " 0/0", "0/0\n"])(
    'refuses "%s"',
    (text) => expect(() => parseLsn(text)).toThrow(RangeError),
  );

  it.each([-1n, 1n << 64n])("is no %s", (bytes) => {
    expect(() => toLsn(bytes)).toThrow(InvariantBroken);
  });
});
