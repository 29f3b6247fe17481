import { assert } from "../core/assert.js";
import { type ShardedTable, type ShardId, shardId } from "./topology.js";

/**
 * PostgreSQL's hash partitioning function for one column, so that shard n of m holds what the partition
 * `FOR VALUES WITH (MODULUS m, REMAINDER n)` would: lookup3 in its extended form under the seed of
 * `PARTITION BY HASH`, then the combination of hashes with a zero start, then the unsigned remainder.
 *
 * All in 32-bit halves: a BigInt per row would be the greatest cost of a copy.
 * @see src/common/hashfn.c and partbounds.c (HASH_PARTITION_SEED) of PostgreSQL
 */
export type KeyType = ShardedTable["dataType"];

/** The text is no value of the key's type; the server would refuse it too. */
export const NOT_A_KEY = -1;

/** Bounded so that the remainder below stays within 2^53. */
export const MAX_SHARDS = 1 << 20;

const SEED_HIGH = 0x7a5b2236;
const SEED_LOW = 0x7996dcfd;
const COMBINE_HIGH = 0x49a0f4dd;
const COMBINE_LOW = 0x15e5a8e3;
const TWO_32 = 0x1_0000_0000;

// The state of lookup3, and after `final` the hash: high half in b, low half in c. Module variables and not
// a tuple: nothing is allocated per key.
let a = 0;
let b = 0;
let c = 0;

function mix(): void {
  a = (a - c) ^ ((c << 4) | (c >>> 28));
  c = (c + b) | 0;
  b = (b - a) ^ ((a << 6) | (a >>> 26));
  a = (a + c) | 0;
  c = (c - b) ^ ((b << 8) | (b >>> 24));
  b = (b + a) | 0;
  a = (a - c) ^ ((c << 16) | (c >>> 16));
  c = (c + b) | 0;
  b = (b - a) ^ ((a << 19) | (a >>> 13));
  a = (a + c) | 0;
  c = (c - b) ^ ((b << 4) | (b >>> 28));
  b = (b + a) | 0;
}

function final(): void {
  c = ((c ^ b) - ((b << 14) | (b >>> 18))) | 0;
  a = ((a ^ c) - ((c << 11) | (c >>> 21))) | 0;
  b = ((b ^ a) - ((a << 25) | (a >>> 7))) | 0;
  c = ((c ^ b) - ((b << 16) | (b >>> 16))) | 0;
  a = ((a ^ c) - ((c << 4) | (c >>> 28))) | 0;
  b = ((b ^ a) - ((a << 14) | (a >>> 18))) | 0;
  c = ((c ^ b) - ((b << 24) | (b >>> 8))) | 0;
}

function start(length: number): void {
  c = (0x9e3779b9 + length + 3923095) | 0;
  a = (c + SEED_HIGH) | 0;
  b = (c + SEED_LOW) | 0;
  mix();
}

start(4);
const INT_A = a;
const INT_B = b;
const INT_C = c;

/** int2, int4 and int8 of one value hash alike. `high` is signed, as the value is. */
function hashInt(high: number, low: number): void {
  a = (INT_A + (low ^ (high >= 0 ? high : ~high))) | 0;
  b = INT_B;
  c = INT_C;
  final();
}

function hashBytes(bytes: Uint8Array, from: number, to: number): void {
  start(to - from);
  let at = from;
  for (; to - at >= 12; at += 12) {
    a = (a + word(bytes, at)) | 0;
    b = (b + word(bytes, at + 4)) | 0;
    c = (c + word(bytes, at + 8)) | 0;
    mix();
  }
  for (let index = 0; at + index < to; index++) {
    const byte = bytes[at + index] ?? 0;
    const shift = (index & 3) * 8;
    if (index < 4) a = (a + (byte << shift)) | 0;
    else if (index < 8) b = (b + (byte << shift)) | 0;
    // The lowest byte of c is the length's.
    else c = (c + (byte << (shift + 8))) | 0;
  }
  final();
}

function word(bytes: Uint8Array, at: number): number {
  return (
    (bytes[at] ?? 0) |
    ((bytes[at + 1] ?? 0) << 8) |
    ((bytes[at + 2] ?? 0) << 16) |
    ((bytes[at + 3] ?? 0) << 24)
  );
}

function remainder(shardCount: number): ShardId {
  assert(shardCount > 0 && shardCount <= MAX_SHARDS, `${shardCount} shards are out of range`);
  const sum = (c >>> 0) + COMBINE_LOW;
  const low = sum >>> 0;
  const high = ((b >>> 0) + COMBINE_HIGH + (sum >= TWO_32 ? 1 : 0)) >>> 0;
  return shardId(((high % shardCount) * TWO_32 + low) % shardCount);
}

/** The combined 64-bit value of the last key, to be compared with PostgreSQL's. @testonly */
export function combinedHash(key: string, type: KeyType): bigint {
  assert(shardOfText(key, type, 1) !== NOT_A_KEY, "not a key");
  return BigInt.asUintN(
    64,
    (BigInt(b >>> 0) << 32n) +
      BigInt(c >>> 0) +
      (BigInt(COMBINE_HIGH) << 32n) +
      BigInt(COMBINE_LOW),
  );
}

// Long enough for every bigint and uuid; longer keys get a buffer of their own.
const scratch = Buffer.allocUnsafe(1024);

/**
 * Where a key lives that is given as PostgreSQL's text input takes it.
 * @returns NOT_A_KEY when the text is no value of this type
 */
export function shardOfText(
  text: string,
  type: KeyType,
  shardCount: number,
): ShardId | typeof NOT_A_KEY {
  if (text.length * 3 <= scratch.length) {
    return shardOfTextBytes(scratch, 0, scratch.write(text, "utf8"), type, shardCount);
  }
  const bytes = Buffer.from(text, "utf8");
  return shardOfTextBytes(bytes, 0, bytes.length, type, shardCount);
}

/** The same for UTF-8 bytes as they lie in a message: `bytes[from..to)`. */
export function shardOfTextBytes(
  bytes: Uint8Array,
  from: number,
  to: number,
  type: KeyType,
  shardCount: number,
): ShardId | typeof NOT_A_KEY {
  if (type === "varchar") hashBytes(bytes, from, to);
  else if (type === "bigint" ? !hashIntegerText(bytes, from, to) : !hashUuidText(bytes, from, to)) {
    return NOT_A_KEY;
  }
  return remainder(shardCount);
}

/**
 * Where a key lives that is given as PostgreSQL's binary output has it (Bind, COPY BINARY, pgoutput):
 * integers of 2, 4 or 8 bytes, 16 bytes of a uuid, text as it is.
 * @returns NOT_A_KEY when the length fits no value of this type
 */
export function shardOfBinary(
  bytes: Uint8Array,
  from: number,
  to: number,
  type: KeyType,
  shardCount: number,
): ShardId | typeof NOT_A_KEY {
  const length = to - from;
  if (type === "varchar" || (type === "uuid" && length === 16)) hashBytes(bytes, from, to);
  else if (type === "bigint" && (length === 8 || length === 4 || length === 2)) {
    const low =
      length === 2 ? (bigEndian(bytes, to - 2, 2) << 16) >> 16 : bigEndian(bytes, to - 4, 4);
    hashInt(length === 8 ? bigEndian(bytes, from, 4) : low >> 31, low);
  } else return NOT_A_KEY;
  return remainder(shardCount);
}

function bigEndian(bytes: Uint8Array, at: number, length: number): number {
  let value = 0;
  for (let index = 0; index < length; index++) value = (value << 8) | (bytes[at + index] ?? 0);
  return value;
}

const DIGITS_IN_DOUBLE = 15;

/** Blanks around, one sign, decimal digits; PostgreSQL 16's 0x10 and 1_000 are refused, not guessed. */
function hashIntegerText(bytes: Uint8Array, from: number, to: number): boolean {
  let at = from;
  let end = to;
  while (at < end && isBlank(bytes[at])) at++;
  while (end > at && isBlank(bytes[end - 1])) end--;
  const isNegative = bytes[at] === 45;
  if (isNegative || bytes[at] === 43) at++;
  if (at >= end) return false;
  const firstDigit = at;
  let value = 0;
  for (; at < end; at++) {
    const digit = (bytes[at] ?? 0) - 48;
    if (digit < 0 || digit > 9) return false;
    value = value * 10 + digit;
  }
  if (end - firstDigit > DIGITS_IN_DOUBLE)
    return hashLongInteger(bytes, firstDigit, end, isNegative);
  if (isNegative) value = -value;
  hashInt(Math.floor(value / TWO_32), value | 0);
  return true;
}

function hashLongInteger(
  bytes: Uint8Array,
  from: number,
  to: number,
  isNegative: boolean,
): boolean {
  const digits = BigInt(
    Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from).toString("latin1"),
  );
  const value = isNegative ? -digits : digits;
  if (BigInt.asIntN(64, value) !== value) return false;
  hashInt(Number(BigInt.asIntN(32, value >> 32n)), Number(BigInt.asIntN(32, value)));
  return true;
}

function isBlank(code: number | undefined): boolean {
  return code === 32 || (code !== undefined && code >= 9 && code <= 13);
}

const uuidBytes = new Uint8Array(16);

/** As uuid_in: braces around, a dash after any even group of digits, either case. */
function hashUuidText(bytes: Uint8Array, from: number, to: number): boolean {
  let at = from;
  const hasBraces = bytes[at] === 123;
  if (hasBraces) at++;
  for (let index = 0; index < 16; index++) {
    const high = hexDigit(bytes[at]);
    const low = hexDigit(bytes[at + 1]);
    if (high < 0 || low < 0 || at + 2 > to) return false;
    uuidBytes[index] = (high << 4) | low;
    at += 2;
    if (bytes[at] === 45 && at < to && index % 2 === 1 && index < 15) at++;
  }
  if (hasBraces && (at >= to || bytes[at++] !== 125)) return false;
  if (at !== to) return false;
  hashBytes(uuidBytes, 0, 16);
  return true;
}

function hexDigit(code: number | undefined): number {
  if (code === undefined) return -1;
  if (code >= 48 && code <= 57) return code - 48;
  const lower = code | 32;
  return lower >= 97 && lower <= 102 ? lower - 87 : -1;
}
