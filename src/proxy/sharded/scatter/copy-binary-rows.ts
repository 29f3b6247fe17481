import {
  BINARY_HEADER_BYTES,
  binaryHeaderLength,
  hasCriticalFlags,
  isBinaryHeader,
  TRAILER_COUNT,
} from "../../../wire/copy-format.js";
import {
  ALL_SHARDS,
  type CopyEmit,
  type CopyRows,
  type KeyLookup,
  LARGEST_ROW_BYTES,
  NO_SHARD_YET,
  RowPieces,
  shardOfKeyBinary,
  tooFewColumns,
} from "./copy-rows.js";
import { CopyDataUnroutable } from "./scatter-errors.js";

/**
 * COPY FROM in the binary format: header, per row a count of fields and each with its length, -1 at the end.
 * The header and the end go to every shard.
 *
 *     [PGCOPY.. flags ext][2 |8|key| |4|..|][2 ...]...[-1]
 */
export class BinaryCopyRows implements CopyRows {
  readonly #lookup: KeyLookup;
  readonly #emit: CopyEmit;
  readonly #pieces = new RowPieces();
  #phase: "header" | "rows" | "over" = "header";
  #rowNumber = 0;
  /** Bytes that the header or row at hand needs before anything new can be read in it. */
  #needed = BINARY_HEADER_BYTES;

  constructor(lookup: KeyLookup, emit: CopyEmit) {
    this.#lookup = lookup;
    this.#emit = emit;
  }

  push(chunk: Buffer): void {
    if (this.#pieces.length + chunk.length < this.#needed) {
      this.#pieces.add(chunk);
      return;
    }
    const bytes = this.#pieces.take(chunk);
    let at = 0;
    while (this.#phase !== "over") {
      const end = this.#phase === "header" ? this.#headerEnd(bytes, at) : this.#rowEnd(bytes, at);
      if (end === null) break;
      at = end;
    }
    if (this.#phase !== "over") this.#pieces.add(bytes.subarray(at));
  }

  finish(): void {
    if (this.#phase !== "over" && this.#pieces.length > 0) {
      throw new CopyDataUnroutable(
        "the data ends within it",
        this.#rowNumber + 1,
        "Send the whole stream, its trailer included.",
      );
    }
  }

  #headerEnd(bytes: Buffer, at: number): number | null {
    if (!this.#has(bytes, at, BINARY_HEADER_BYTES)) return null;
    if (!isBinaryHeader(bytes, at) || hasCriticalFlags(bytes, at)) {
      throw new CopyDataUnroutable("this is no header of COPY BINARY", 0, "Check the format.");
    }
    const size = binaryHeaderLength(bytes, at);
    if (!this.#has(bytes, at, size)) return null;
    this.#emit(ALL_SHARDS, bytes.subarray(at, at + size));
    this.#phase = "rows";
    return at + size;
  }

  #rowEnd(bytes: Buffer, start: number): number | null {
    if (!this.#has(bytes, start, 2)) return null;
    const count = bytes.readInt16BE(start);
    if (count === TRAILER_COUNT) {
      this.#emit(ALL_SHARDS, bytes.subarray(start, start + 2));
      this.#phase = "over";
      return start + 2;
    }
    const { keyColumn, drawn } = this.#lookup.plan;
    let key: Buffer | null = null;
    let size = 2;
    for (let column = 0; column < count; column++) {
      if (!this.#has(bytes, start, size + 4)) return null;
      const length = bytes.readInt32BE(start + size);
      size += 4;
      if (length < 0) continue;
      if (!this.#has(bytes, start, size + length)) return null;
      if (column === keyColumn) key = bytes.subarray(start + size, start + size + length);
      size += length;
    }
    this.#rowNumber++;
    if (drawn !== null) {
      this.#emit(NO_SHARD_YET, bytes.subarray(start, start + size));
      return start + size;
    }
    if (count <= keyColumn) throw tooFewColumns(this.#rowNumber);
    const shard = shardOfKeyBinary(key, this.#lookup, this.#rowNumber);
    this.#emit(shard, bytes.subarray(start, start + size));
    return start + size;
  }

  #has(bytes: Buffer, start: number, size: number): boolean {
    if (size > LARGEST_ROW_BYTES) {
      throw new CopyDataUnroutable("it is too large", this.#rowNumber + 1, "Check the format.");
    }
    const isThere = bytes.length - start >= size;
    if (!isThere) this.#needed = size;
    return isThere;
  }
}
