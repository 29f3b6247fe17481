/** A numeric value: `unscaled / 10^scale`, or one of the three that are no number. */
export type Decimal =
  | { readonly kind: "finite"; readonly unscaled: bigint; readonly scale: number }
  | { readonly kind: "nan" }
  | { readonly kind: "infinity"; readonly sign: 1 | -1 };

const NAN: Decimal = { kind: "nan" };
const INFINITY: Decimal = { kind: "infinity", sign: 1 };
const MINUS_INFINITY: Decimal = { kind: "infinity", sign: -1 };

/** @returns null for what PostgreSQL does not write as a numeric */
export function parseDecimal(text: string): Decimal | null {
  if (text === "NaN") return NAN;
  if (text === "Infinity") return INFINITY;
  if (text === "-Infinity") return MINUS_INFINITY;
  const match = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text);
  if (match === null) return null;
  const [, sign, whole = "0", fraction = ""] = match;
  const unscaled = BigInt(whole + fraction);
  return { kind: "finite", unscaled: sign === "-" ? -unscaled : unscaled, scale: fraction.length };
}

export function formatDecimal(value: Decimal): string {
  if (value.kind === "nan") return "NaN";
  if (value.kind === "infinity") return value.sign > 0 ? "Infinity" : "-Infinity";
  const isNegative = value.unscaled < 0n;
  const digits = String(isNegative ? -value.unscaled : value.unscaled).padStart(
    value.scale + 1,
    "0",
  );
  const point = digits.length - value.scale;
  const fraction = value.scale === 0 ? "" : `.${digits.slice(point)}`;
  return `${isNegative ? "-" : ""}${digits.slice(0, point)}${fraction}`;
}

/** As PostgreSQL adds: the larger scale stays, NaN wins, opposite infinities are NaN. */
export function addDecimals(one: Decimal, other: Decimal): Decimal {
  if (one.kind === "nan" || other.kind === "nan") return NAN;
  if (one.kind === "infinity") {
    return other.kind === "infinity" && other.sign !== one.sign ? NAN : one;
  }
  if (other.kind === "infinity") return other;
  const scale = Math.max(one.scale, other.scale);
  return { kind: "finite", unscaled: scaled(one, scale) + scaled(other, scale), scale };
}

const LEAST_DIGITS = 16;
const GROUP_DIGITS = 4;
const LARGEST_SCALE = 1000;

/**
 * What PostgreSQL's `avg` makes of a sum and a count: its division of numerics, with the scale that
 * `select_div_scale` gives the quotient.
 * @param count above 0
 */
export function averageOf(sum: Decimal, count: bigint): Decimal {
  if (sum.kind !== "finite") return sum;
  const [weight, first] = leadingGroup(sum.unscaled, sum.scale);
  const [countWeight, countFirst] = leadingGroup(count, 0);
  const quotientWeight = weight - countWeight - (first <= countFirst ? 1 : 0);
  const wanted = Math.max(LEAST_DIGITS - quotientWeight * GROUP_DIGITS, sum.scale, 0);
  const scale = Math.min(wanted, LARGEST_SCALE);
  const isNegative = sum.unscaled < 0n;
  const dividend = (isNegative ? -sum.unscaled : sum.unscaled) * 10n ** BigInt(scale);
  const divisor = count * 10n ** BigInt(sum.scale);
  // Half away from zero.
  const unscaled = (dividend * 2n + divisor) / (divisor * 2n);
  return { kind: "finite", unscaled: isNegative ? -unscaled : unscaled, scale };
}

/** The first digit to the base 10,000 and which power of it it stands for; 0 is all zeros. */
function leadingGroup(unscaled: bigint, scale: number): readonly [weight: number, digit: number] {
  if (unscaled === 0n) return [0, 0];
  const fractionGroups = Math.ceil(scale / GROUP_DIGITS);
  const padding = fractionGroups * GROUP_DIGITS - scale;
  const digits = String(unscaled < 0n ? -unscaled : unscaled) + "0".repeat(padding);
  const groups = Math.ceil(digits.length / GROUP_DIGITS);
  const length = digits.length - (groups - 1) * GROUP_DIGITS;
  return [groups - fractionGroups - 1, Number(digits.slice(0, length))];
}

/** NaN sorts above everything. */
export function compareDecimals(one: Decimal, other: Decimal): number {
  const difference = rank(one) - rank(other);
  if (difference !== 0 || one.kind !== "finite" || other.kind !== "finite") return difference;
  const scale = Math.max(one.scale, other.scale);
  const left = scaled(one, scale);
  const right = scaled(other, scale);
  return left < right ? -1 : left > right ? 1 : 0;
}

function rank(value: Decimal): number {
  switch (value.kind) {
    case "nan":
      return 2;
    case "infinity":
      return value.sign;
    case "finite":
      return 0;
  }
}

function scaled(
  value: { readonly unscaled: bigint; readonly scale: number },
  scale: number,
): bigint {
  return value.unscaled * 10n ** BigInt(scale - value.scale);
}

const NEGATIVE = 0x4000;
const NAN_SIGN = 0xc000;
const INFINITY_SIGN = 0xd000;
const MINUS_INFINITY_SIGN = 0xf000;

/** numeric_send: digits to the base 10,000, weight of the first, sign, scale. */
export function decodeDecimal(bytes: Buffer): Decimal {
  const count = bytes.readUInt16BE(0);
  const weight = bytes.readInt16BE(2);
  const sign = bytes.readUInt16BE(4);
  const scale = bytes.readUInt16BE(6);
  if (sign === NAN_SIGN) return NAN;
  if (sign === INFINITY_SIGN) return INFINITY;
  if (sign === MINUS_INFINITY_SIGN) return MINUS_INFINITY;
  let digits = 0n;
  for (let index = 0; index < count; index++) {
    digits = digits * 10_000n + BigInt(bytes.readUInt16BE(8 + index * 2));
  }
  // The last digit stands for 10^(4 * lowest).
  const lowest = weight - count + 1;
  const shift = lowest * 4 + scale;
  const unscaled = shift >= 0 ? digits * 10n ** BigInt(shift) : digits / 10n ** BigInt(-shift);
  return { kind: "finite", unscaled: sign === NEGATIVE ? -unscaled : unscaled, scale };
}

export function encodeDecimal(value: Decimal): Buffer {
  if (value.kind !== "finite") {
    const sign =
      value.kind === "nan" ? NAN_SIGN : value.sign > 0 ? INFINITY_SIGN : MINUS_INFINITY_SIGN;
    return header({ count: 0, weight: 0, sign, scale: 0 });
  }
  const isNegative = value.unscaled < 0n;
  const fractionGroups = Math.ceil(value.scale / 4);
  let rest = isNegative ? -value.unscaled : value.unscaled;
  rest *= 10n ** BigInt(fractionGroups * 4 - value.scale);
  const groups: number[] = [];
  for (; rest > 0n; rest /= 10_000n) groups.unshift(Number(rest % 10_000n));
  const weight = groups.length - fractionGroups - 1;
  while (groups.at(-1) === 0) groups.pop();
  const sign = isNegative ? NEGATIVE : 0;
  const count = groups.length;
  const bytes = header({ count, weight: count === 0 ? 0 : weight, sign, scale: value.scale });
  for (const [index, group] of groups.entries()) bytes.writeUInt16BE(group, 8 + index * 2);
  return bytes;
}

function header(fields: {
  readonly count: number;
  readonly weight: number;
  readonly sign: number;
  readonly scale: number;
}): Buffer {
  const bytes = Buffer.alloc(8 + fields.count * 2);
  bytes.writeUInt16BE(fields.count, 0);
  bytes.writeInt16BE(fields.weight, 2);
  bytes.writeUInt16BE(fields.sign, 4);
  bytes.writeUInt16BE(fields.scale, 6);
  return bytes;
}
