import type { EnumLabels } from "../../../router/route.js";
import type { ColumnDescription } from "../../../wire/backend.js";
import { compareDecimals, type Decimal, decodeDecimal, parseDecimal } from "./decimal.js";
import { UnmergeableResult } from "./scatter-errors.js";

/** A value in a form that compares as PostgreSQL sorts it. */
export type Comparable = number | bigint | string | Buffer | Decimal;

/** One column's bytes as a comparable. */
export type Decoder = (bytes: Buffer) => Comparable;

const OID = {
  bool: 16,
  bytea: 17,
  name: 19,
  int8: 20,
  int2: 21,
  int4: 23,
  text: 25,
  oid: 26,
  float4: 700,
  float8: 701,
  bpchar: 1042,
  varchar: 1043,
  date: 1082,
  time: 1083,
  timestamp: 1114,
  timestamptz: 1184,
  numeric: 1700,
  uuid: 2950,
} as const;

export const SUM_OIDS = { int8: OID.int8, int4: OID.int4, int2: OID.int2 } as const;
export const FLOAT_OIDS: ReadonlySet<number> = new Set([OID.float4, OID.float8]);
export const INTEGER_OIDS: ReadonlySet<number> = new Set([OID.int2, OID.int4, OID.int8]);
export const NUMERIC_OID: number = OID.numeric;

/**
 * How to compare values of a column.
 * @param isBytewise text of this column sorts by its bytes
 * @param labels of the enum that it is, as the schema was last read; null: not known to be one
 * @throws UnmergeableResult for a type that we do not sort as PostgreSQL does
 */
export function decoderOf(
  column: ColumnDescription,
  isBytewise: boolean,
  labels: EnumLabels | null,
): Decoder {
  const isBinary = column.format === 1;
  switch (column.typeId) {
    case OID.int2:
      return isBinary ? (bytes) => bytes.readInt16BE(0) : integerText;
    case OID.int4:
      return isBinary ? (bytes) => bytes.readInt32BE(0) : integerText;
    case OID.oid:
      return isBinary ? (bytes) => bytes.readUInt32BE(0) : integerText;
    case OID.int8:
      return isBinary ? (bytes) => bytes.readBigInt64BE(0) : integerText;
    case OID.float4:
      return isBinary
        ? (bytes) => bytes.readFloatBE(0)
        : (bytes) => Number(bytes.toString("latin1"));
    case OID.float8:
      return isBinary
        ? (bytes) => bytes.readDoubleBE(0)
        : (bytes) => Number(bytes.toString("latin1"));
    case OID.numeric:
      return isBinary ? decodeDecimal : decimalText;
    case OID.bytea:
      return isBinary ? (bytes) => bytes : byteaText;
    // One byte, 0 or 1, and "f" or "t"; hex digits of one case; the catalog's own collation.
    case OID.bool:
    case OID.uuid:
    case OID.name:
      return (bytes) => bytes;
    case OID.date:
      return isBinary ? (bytes) => bytes.readInt32BE(0) : timestampText;
    case OID.time:
      return isBinary ? (bytes) => bytes.readBigInt64BE(0) : timeText;
    case OID.timestamp:
    case OID.timestamptz:
      return isBinary ? (bytes) => bytes.readBigInt64BE(0) : timestampText;
    case OID.text:
    case OID.varchar:
    case OID.bpchar:
      if (isBytewise)
        return column.typeId === OID.bpchar ? withoutTrailingBlanks : (bytes) => bytes;
      throw new UnmergeableResult(
        `text column "${column.name}" sorts by a collation that the proxy does not have`,
        'Write COLLATE "C" behind it, or name the sharding key.',
      );
    default:
      if (labels !== null && isOwnType(column)) return placeAmong(labels, column);
      throw new UnmergeableResult(
        `column "${column.name}" has a type (OID ${column.typeId}) that cannot be compared between shards`,
        "Cast it to a number, text, timestamp or uuid, or name the sharding key.",
      );
  }
}

/** FirstNormalObjectId: below it are PostgreSQL's own types, none of which is an enum. */
const FIRST_OWN_TYPE = 16_384;

function isOwnType({ typeId }: ColumnDescription): boolean {
  return typeId >= FIRST_OWN_TYPE;
}

/** Of an enum's value, which is its label in either format. A label that is not there is one of a later enum. */
function placeAmong(labels: EnumLabels, { name }: ColumnDescription): (bytes: Buffer) => number {
  const places = new Map(
    labels.map((label, place) => [Buffer.from(label).toString("latin1"), place]),
  );
  return (bytes) => {
    const place = places.get(bytes.toString("latin1"));
    if (place !== undefined) return place;
    throw new UnmergeableResult(
      `enum column "${name}" has a label that the proxy does not know`,
      "RECONNECT on the admin console makes it read the schema again.",
    );
  };
}

export function compareValues(one: Comparable, other: Comparable): number {
  if (typeof one === "number" || typeof one === "bigint") {
    return typeof other === "number" || typeof other === "bigint" ? compareNumbers(one, other) : 0;
  }
  if (Buffer.isBuffer(one)) return Buffer.isBuffer(other) ? one.compare(other) : 0;
  if (typeof one === "string")
    return one < (other as string) ? -1 : one > (other as string) ? 1 : 0;
  return compareDecimals(one, other as Decimal);
}

/** NaN sorts above everything and equals itself. */
function compareNumbers(one: number | bigint, other: number | bigint): number {
  if (one < other) return -1;
  if (one > other) return 1;
  return Number(Number.isNaN(one)) - Number(Number.isNaN(other));
}

const SAFE_DIGITS = 15;

/** Its bytes, of either `bytea_output`: escaped text would sort a backslash, or `\\000`, by its letters. */
function byteaText(bytes: Buffer): Buffer {
  const text = bytes.toString("latin1");
  if (text.startsWith("\\x")) return Buffer.from(text.slice(2), "hex");
  const plain = text.replace(/\\(\\|[0-7]{3})/g, (_, escaped: string) =>
    escaped === "\\" ? escaped : String.fromCharCode(Number.parseInt(escaped, 8)),
  );
  return Buffer.from(plain, "latin1");
}

function integerText(bytes: Buffer): number | bigint {
  const text = bytes.toString("latin1");
  return text.length <= SAFE_DIGITS ? Number(text) : BigInt(text);
}

function decimalText(bytes: Buffer): Decimal {
  const value = parseDecimal(bytes.toString("latin1"));
  if (value === null) throw new UnmergeableResult("a numeric value cannot be read", "Report this.");
  return value;
}

function withoutTrailingBlanks(bytes: Buffer): Buffer {
  let { length } = bytes;
  while (length > 0 && bytes[length - 1] === 32) length--;
  return bytes.subarray(0, length);
}

const BEFORE_ALL = -(2n ** 63n);
const AFTER_ALL = 2n ** 63n - 1n;
const DAY_MS = 86_400_000;
const ISO =
  /^(\d{4,})-(\d\d)-(\d\d)(?: (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?(?:([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?)?( BC)?$/;

/** Microseconds since 1970 of a date, a timestamp with or without its zone, in DateStyle ISO. */
function timestampText(bytes: Buffer): bigint {
  const text = bytes.toString("latin1");
  if (text === "infinity") return AFTER_ALL;
  if (text === "-infinity") return BEFORE_ALL;
  const match = ISO.exec(text);
  if (match === null) {
    throw new UnmergeableResult(
      "dates in this DateStyle cannot be compared between shards",
      "SET datestyle = 'ISO', or name the sharding key.",
    );
  }
  const part = (index: number) => Number(match[index] ?? 0);
  const year = match[12] === undefined ? part(1) : 1 - part(1);
  const days = daysOf(year, part(2), part(3));
  const offset = (part(9) * 60 + part(10)) * 60 + part(11);
  const seconds = (part(4) * 60 + part(5)) * 60 + part(6) - (match[8] === "-" ? -offset : offset);
  const micros = BigInt((match[7] ?? "").padEnd(6, "0"));
  return (BigInt(days) * 86_400n + BigInt(seconds)) * 1_000_000n + micros;
}

/** JavaScript's dates end in 275760; PostgreSQL's go on, so only the place in 400 years is asked of them. */
function daysOf(year: number, month: number, day: number): number {
  const cycle = Math.floor(year / 400);
  const inCycle = Date.UTC(2000 + (year - cycle * 400), month - 1, day) / DAY_MS;
  return inCycle + (cycle - 5) * 146_097;
}

function timeText(bytes: Buffer): bigint {
  const match = /^(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?$/.exec(bytes.toString("latin1"));
  const part = (index: number) => Number(match?.[index] ?? 0);
  const seconds = BigInt((part(1) * 60 + part(2)) * 60 + part(3));
  return seconds * 1_000_000n + BigInt((match?.[4] ?? "").padEnd(6, "0"));
}

/** Types whose values are equal exactly where their bytes are, numbers apart, which are brought to one form. */
const GROUPABLE: ReadonlySet<number> = new Set([
  ...Object.values(OID).filter((oid) => oid !== OID.bpchar),
]);

/**
 * What stands for a value in a group's key: equal for values that GROUP BY takes for equal.
 * @throws UnmergeableResult for a type whose equality is not that of its bytes
 */
export function groupKeyOf(
  column: ColumnDescription,
  labels: EnumLabels | null,
): (bytes: Buffer) => string {
  if (labels !== null && isOwnType(column)) {
    const place = placeAmong(labels, column);
    return (bytes) => String(place(bytes));
  }
  if (!GROUPABLE.has(column.typeId)) {
    throw new UnmergeableResult(
      `column "${column.name}" has a type (OID ${column.typeId}) that cannot be grouped between shards`,
      "Cast it to text, a number, a timestamp or a uuid, or group by the sharding key.",
    );
  }
  if (column.typeId === NUMERIC_OID) {
    return (bytes) => normalized(column.format === 1 ? decodeDecimal(bytes) : decimalText(bytes));
  }
  if (FLOAT_OIDS.has(column.typeId)) {
    const decode = decoderOf(column, true, null);
    // -0 equals 0.
    return (bytes) => String(Number(decode(bytes)) + 0);
  }
  return (bytes) => bytes.toString("latin1");
}

/**
 * The same where equal texts may be of other bytes, by a collation of the application's: only values whose type has no
 * collation can be told apart here.
 */
export function looseGroupKeyOf(
  column: ColumnDescription,
  labels: EnumLabels | null,
): (bytes: Buffer) => string {
  if (column.typeId === OID.text || column.typeId === OID.varchar)
    throw new UnmergeableResult(
      `text column "${column.name}" may be equal in other letters, and the proxy does not have its collation`,
      'Write COLLATE "C" behind it, or group by the sharding key.',
    );
  return groupKeyOf(column, labels);
}

function normalized(value: Decimal): string {
  if (value.kind === "nan") return "NaN";
  if (value.kind === "infinity") return String(value.sign);
  let { unscaled, scale } = value;
  while (scale > 0 && unscaled % 10n === 0n) {
    unscaled /= 10n;
    scale--;
  }
  return `${unscaled}e-${scale}`;
}
