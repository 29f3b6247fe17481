import { COLUMN_TEXT, type Tuple } from "./tuple.js";

const TEXT_OID = 25;
const HEADER_BYTES = 20;

/**
 * A `text[]` parameter in PostgreSQL's binary form, filled by copying bytes: dimensions, has-null flag,
 * element type, length, lower bound, then length and bytes per element. `pg` sends a Buffer as binary.
 */
export class TextArray {
  #bytes = Buffer.allocUnsafe(1024);
  #end = HEADER_BYTES;
  #count = 0;
  #hasNull = false;

  append(bytes: Buffer, start: number, end: number): void {
    const length = end - start;
    this.#reserve(4 + length);
    this.#bytes.writeInt32BE(length, this.#end);
    bytes.copy(this.#bytes, this.#end + 4, start, end);
    this.#end += 4 + length;
    this.#count++;
  }

  appendNull(): void {
    this.#reserve(4);
    this.#end = this.#bytes.writeInt32BE(-1, this.#end);
    this.#hasNull = true;
    this.#count++;
  }

  /** The parameter; the array must not be appended to any more. */
  finish(): Buffer {
    const bytes = this.#bytes;
    bytes.writeInt32BE(1, 0);
    bytes.writeInt32BE(this.#hasNull ? 1 : 0, 4);
    bytes.writeInt32BE(TEXT_OID, 8);
    bytes.writeInt32BE(this.#count, 12);
    bytes.writeInt32BE(1, 16);
    return bytes.subarray(0, this.#end);
  }

  #reserve(count: number): void {
    const needed = this.#end + count;
    if (needed <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(needed, this.#bytes.length * 2));
    this.#bytes.copy(grown, 0, 0, this.#end);
    this.#bytes = grown;
  }
}

/**
 * Appends each column of `tuple` to the array at its index; null at an index skips that column. A column
 * that was not sent becomes NULL: callers pick columns by mask, so it lands nowhere.
 */
export function appendTuple(arrays: readonly (TextArray | null)[], tuple: Tuple): void {
  const { bytes } = tuple;
  let at = tuple.at + 2;
  for (const array of arrays) {
    const kind = bytes[at];
    if (kind === COLUMN_TEXT) {
      const end = at + 5 + bytes.readUInt32BE(at + 1);
      array?.append(bytes, at + 5, end);
      at = end;
    } else {
      array?.appendNull();
      at += 1;
    }
  }
}
