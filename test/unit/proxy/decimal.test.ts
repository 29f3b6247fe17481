import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  addDecimals,
  compareDecimals,
  type Decimal,
  decodeDecimal,
  encodeDecimal,
  formatDecimal,
  parseDecimal,
} from "../../../src/proxy/sharded/scatter/decimal.js";

const finite = fc
  .record({ unscaled: fc.bigInt(-(10n ** 40n), 10n ** 40n), scale: fc.nat(20) })
  .map((value): Decimal => ({ kind: "finite", ...value }));

test("text and binary give back what they were given", () => {
  fc.assert(
    fc.property(finite, (value) => {
      expect(parseDecimal(formatDecimal(value))).toEqual(value);
      expect(decodeDecimal(encodeDecimal(value))).toEqual(value);
    }),
  );
});

test("a sum is exact and keeps the larger scale", () => {
  fc.assert(
    fc.property(finite, finite, (one, other) => {
      const sum = addDecimals(one, other);
      if (one.kind !== "finite" || other.kind !== "finite" || sum.kind !== "finite") return;
      expect(sum.scale).toBe(Math.max(one.scale, other.scale));
      const at = (value: typeof sum) => value.unscaled * 10n ** BigInt(30 - value.scale);
      expect(at(sum)).toBe(at(one) + at(other));
      expect(Math.sign(compareDecimals(one, other))).toBe(
        at(one) < at(other) ? -1 : at(one) > at(other) ? 1 : 0,
      );
    }),
  );
});

describe("what is no number", () => {
  const values = ["-Infinity", "-1", "0.0", "Infinity", "NaN"].map((text) => {
    const value = parseDecimal(text);
    if (value === null) throw new Error(text);
    return value;
  });

  test("sorts as PostgreSQL sorts it", () => {
    const reversed = [...values].reverse();
    expect(reversed.sort(compareDecimals)).toEqual(values);
  });

  test("travels in binary", () => {
    for (const value of values) expect(decodeDecimal(encodeDecimal(value))).toEqual(value);
  });

  test("adds up", () => {
    const [low, , , high, nan] = values;
    if (!low || !high || !nan) throw new Error("values");
    expect(formatDecimal(addDecimals(low, high))).toBe("NaN");
    expect(formatDecimal(addDecimals(nan, high))).toBe("NaN");
    expect(formatDecimal(addDecimals(high, high))).toBe("Infinity");
  });

  test.each(["", "1e5", "x", "1.", ".5"])("%j is none", (text) => {
    expect(parseDecimal(text)).toBeNull();
  });
});
