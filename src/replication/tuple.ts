import { StreamMalformed } from "./stream-errors.js";

/**
 * A row as pgoutput sends it, left where it lies:
 *
 *     Int16 count | kind [Int32 length, bytes] | kind [Int32 length, bytes] | ...
 *                    n: NULL   u: unchanged TOAST, not sent   t: text
 *
 * No object per column and no string until somebody needs one: a column goes from here into a parameter
 * array by copying its bytes.
 */
export interface Tuple {
  readonly bytes: Buffer;
  /** Of the count. */
  readonly at: number;
}

export const COLUMN_NULL = 0x6e;
export const COLUMN_UNCHANGED = 0x75;
export const COLUMN_TEXT = 0x74;

export function columnCount(tuple: Tuple): number {
  return tuple.bytes.readUInt16BE(tuple.at);
}

/** Position of column `index`'s kind byte. */
export function columnAt(tuple: Tuple, index: number): number {
  const { bytes } = tuple;
  let at = tuple.at + 2;
  for (let i = 0; i < index; i++)
    at += bytes[at] === COLUMN_TEXT ? 5 + bytes.readUInt32BE(at + 1) : 1;
  return at;
}

/** The value's text; null: NULL; undefined: unchanged TOAST, which was not sent. */
export function columnText(tuple: Tuple, index: number): string | null | undefined {
  const { bytes } = tuple;
  const at = columnAt(tuple, index);
  const kind = bytes[at];
  if (kind === COLUMN_TEXT)
    return bytes.toString("utf8", at + 5, at + 5 + bytes.readUInt32BE(at + 1));
  return kind === COLUMN_NULL ? null : undefined;
}

export function tupleTexts(tuple: Tuple): (string | null | undefined)[] {
  return Array.from({ length: columnCount(tuple) }, (_, index) => columnText(tuple, index));
}

/** One character per column: "1" sent, "0" unchanged TOAST. Empty when every column was sent. */
export function unchangedMask(tuple: Tuple): string {
  const { bytes } = tuple;
  const count = columnCount(tuple);
  let at = tuple.at + 2;
  let mask = "";
  let isWhole = true;
  for (let i = 0; i < count; i++) {
    const kind = bytes[at];
    if (kind === COLUMN_UNCHANGED) isWhole = false;
    mask += kind === COLUMN_UNCHANGED ? "0" : "1";
    at += kind === COLUMN_TEXT ? 5 + bytes.readUInt32BE(at + 1) : 1;
  }
  return isWhole ? "" : mask;
}

export function hasUnchanged(tuple: Tuple): boolean {
  const { bytes } = tuple;
  const count = columnCount(tuple);
  let at = tuple.at + 2;
  for (let i = 0; i < count; i++) {
    const kind = bytes[at];
    if (kind === COLUMN_UNCHANGED) return true;
    at += kind === COLUMN_TEXT ? 5 + bytes.readUInt32BE(at + 1) : 1;
  }
  return false;
}

/**
 * `newer` with the columns that it does not carry taken from `older` (R12).
 * @param isIn whether `older` truly has that column: an old tuple of key columns holds NULL for the others
 */
export function fillUnchanged(
  newer: Tuple,
  older: Tuple,
  isIn: (column: number) => boolean,
): Tuple {
  if (!hasUnchanged(newer)) return newer;
  const before = tupleTexts(older);
  const values = tupleTexts(newer).map((value, index) =>
    value === undefined && isIn(index) ? before[index] : value,
  );
  return encodeTuple(values);
}

export function encodeTuple(values: readonly (string | null | undefined)[]): Tuple {
  let size = 2;
  for (const value of values) size += typeof value === "string" ? 5 + Buffer.byteLength(value) : 1;
  const bytes = Buffer.allocUnsafe(size);
  let at = bytes.writeUInt16BE(values.length, 0);
  for (const value of values) {
    if (typeof value === "string") {
      bytes[at] = COLUMN_TEXT;
      const length = bytes.write(value, at + 5, "utf8");
      bytes.writeUInt32BE(length, at + 1);
      at += 5 + length;
    } else {
      bytes[at++] = value === null ? COLUMN_NULL : COLUMN_UNCHANGED;
    }
  }
  return { bytes, at: 0 };
}

/**
 * Position after the tuple at `at`.
 * @throws StreamMalformed when it does not end before `end`, or carries a kind that we did not ask for
 */
export function tupleEnd(bytes: Buffer, at: number, end: number): number {
  if (at + 2 > end) throw new StreamMalformed("a tuple has no column count");
  const count = bytes.readUInt16BE(at);
  let next = at + 2;
  for (let i = 0; i < count; i++) {
    if (next >= end) throw new StreamMalformed(`a tuple ends in column ${i} of ${count}`);
    const kind = bytes[next];
    if (kind === COLUMN_NULL || kind === COLUMN_UNCHANGED) {
      next += 1;
    } else if (kind === COLUMN_TEXT && next + 5 <= end) {
      next += 5 + bytes.readUInt32BE(next + 1);
    } else {
      throw new StreamMalformed(`column kind ${String(kind)} in a tuple`);
    }
    if (next > end) throw new StreamMalformed("a column is longer than its message");
  }
  return next;
}
