import { SluiceError } from "../core/errors.js";
import { SQLSTATE } from "../core/sqlstate.js";
import {
  BINARY_HEADER,
  BINARY_HEADER_BYTES,
  BINARY_TRAILER,
  binaryHeaderLength,
  hasCriticalFlags,
  isBinaryHeader,
  NULL_LENGTH,
  TRAILER_COUNT,
} from "../wire/copy-format.js";
import type { CopySink } from "./copy-out.js";

/** Where rows go: one COPY into a server. */
export interface CopyOutput {
  append(bytes: Buffer, start: number, end: number): void;
  pressure(): Promise<void> | null;
}

/**
 * Index of the output for a row, by the bytes of its key field as they stand in the stream (text: escapes
 * taken out). `start` is -1 for NULL. Throwing ends the copy.
 */
export type KeyRouter = (bytes: Buffer, start: number, end: number) => number;

/** A sink that knows when the stream was whole. */
export interface CopySplitter extends CopySink {
  /** Ends the outputs' streams. @throws CopyStreamMalformed when the last row is incomplete */
  finish(): void;
  readonly byteCount: number;
  /** Rows seen; 0 where rows are not looked at. */
  readonly rowCount: number;
}

/** The bytes are not what COPY writes. */
export class CopyStreamMalformed extends SluiceError {
  readonly code = "SLUICE_COPY_STREAM_MALFORMED";
  readonly sqlState = SQLSTATE.protocolViolation;
  readonly recovery = "never";
  constructor(what: string) {
    super(`malformed COPY stream: ${what}`);
  }
}

const INCOMPLETE = -1;

/**
 * Deals the rows of a binary COPY stream to outputs, in one pass over the bytes.
 *
 *     header | count len key len bytes ... | count len key ... | -1
 *              \__________ row __________/
 *
 * A row is walked by its lengths and forwarded as one slice, whatever its columns are. PostgreSQL sends a
 * row per message, but the protocol does not promise it, so rows may begin and end anywhere.
 * @see https://www.postgresql.org/docs/current/sql-copy.html (binary format)
 */
export class BinaryCopySplitter implements CopySplitter {
  readonly #outputs: readonly CopyOutput[];
  readonly #keyField: number;
  readonly #route: KeyRouter;
  readonly #carry = new Carry();
  #phase: "header" | "rows" | "done" = "header";
  #keyStart = -1;
  #keyEnd = -1;
  byteCount = 0;
  rowCount = 0;

  /** @param keyField position of the key among the fields, from 0 */
  constructor(outputs: readonly CopyOutput[], keyField: number, route: KeyRouter) {
    this.#outputs = outputs;
    this.#keyField = keyField;
    this.#route = route;
  }

  push(bytes: Buffer, start: number, end: number): void {
    this.byteCount += end - start;
    if (this.#carry.length === 0) {
      const used = this.#consume(bytes, start, end);
      if (used < end) this.#carry.append(bytes, used, end);
      return;
    }
    this.#carry.append(bytes, start, end);
    this.#carry.drop(this.#consume(this.#carry.bytes, 0, this.#carry.length));
  }

  pressure(): Promise<void> | null {
    return pressureOf(this.#outputs);
  }

  finish(): void {
    if (this.#phase !== "done") throw new CopyStreamMalformed("it ends before its trailer");
    appendToAll(this.#outputs, BINARY_TRAILER);
  }

  /** @returns where the first incomplete part begins */
  #consume(bytes: Buffer, start: number, end: number): number {
    let at = start;
    if (this.#phase === "header") {
      const headerEnd = this.#headerEnd(bytes, at, end);
      if (headerEnd === INCOMPLETE) return at;
      appendToAll(this.#outputs, BINARY_HEADER);
      this.#phase = "rows";
      at = headerEnd;
    }
    while (at < end) {
      if (this.#phase === "done") throw new CopyStreamMalformed("bytes after the trailer");
      if (end - at < 2) return at;
      if (bytes.readInt16BE(at) === TRAILER_COUNT) {
        this.#phase = "done";
        at += 2;
        continue;
      }
      const rowEnd = this.#rowEnd(bytes, at, end);
      if (rowEnd === INCOMPLETE) return at;
      this.#forward(bytes, at, rowEnd);
      at = rowEnd;
    }
    return at;
  }

  #headerEnd(bytes: Buffer, start: number, end: number): number {
    if (end - start < BINARY_HEADER_BYTES) return INCOMPLETE;
    if (!isBinaryHeader(bytes, start)) throw new CopyStreamMalformed("no binary signature");
    if (hasCriticalFlags(bytes, start)) throw new CopyStreamMalformed("unknown critical flags");
    const headerEnd = start + binaryHeaderLength(bytes, start);
    return headerEnd <= end ? headerEnd : INCOMPLETE;
  }

  /** Finds the row's end and notes where its key is. */
  #rowEnd(bytes: Buffer, start: number, end: number): number {
    const fieldCount = bytes.readInt16BE(start);
    let at = start + 2;
    if (fieldCount <= this.#keyField)
      throw new CopyStreamMalformed(`a row of ${fieldCount} fields`);
    for (let field = 0; field < fieldCount; field++) {
      if (end - at < 4) return INCOMPLETE;
      const length = bytes.readInt32BE(at);
      if (length < NULL_LENGTH) throw new CopyStreamMalformed(`a field of ${length} bytes`);
      at += 4;
      if (field === this.#keyField) {
        this.#keyStart = length < 0 ? -1 : at;
        this.#keyEnd = at + length;
      }
      if (length > 0) at += length;
      if (at > end) return INCOMPLETE;
    }
    return at;
  }

  #forward(bytes: Buffer, start: number, end: number): void {
    const output = this.#outputs[this.#route(bytes, this.#keyStart, this.#keyEnd)];
    if (output === undefined) throw new RangeError("the key router named no output");
    output.append(bytes, start, end);
    this.rowCount++;
  }
}

/** All bytes to all outputs: rows are not looked at. */
export class CopyBroadcast implements CopySplitter {
  readonly #outputs: readonly CopyOutput[];
  byteCount = 0;
  readonly rowCount = 0;

  constructor(outputs: readonly CopyOutput[]) {
    this.#outputs = outputs;
  }

  push(bytes: Buffer, start: number, end: number): void {
    this.byteCount += end - start;
    for (const output of this.#outputs) output.append(bytes, start, end);
  }

  pressure(): Promise<void> | null {
    return pressureOf(this.#outputs);
  }

  finish(): void {}
}

function appendToAll(outputs: readonly CopyOutput[], bytes: Buffer): void {
  for (const output of outputs) output.append(bytes, 0, bytes.length);
}

/** The slowest output holds the source back, so that none has to buffer for it. */
export function pressureOf(outputs: readonly CopyOutput[]): Promise<void> | null {
  let waits: Promise<void>[] | null = null;
  for (const output of outputs) {
    const wait = output.pressure();
    if (wait === null) continue;
    waits ??= [];
    waits.push(wait);
  }
  return waits === null ? null : Promise.all(waits).then(() => {});
}

/** The beginning of a row whose end has not come. As large as the largest row (1 GB in PostgreSQL). */
export class Carry {
  bytes = Buffer.allocUnsafe(4096);
  length = 0;

  append(source: Buffer, start: number, end: number): void {
    const needed = this.length + end - start;
    if (needed > this.bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(needed, 2 * this.bytes.length));
      this.bytes.copy(larger, 0, 0, this.length);
      this.bytes = larger;
    }
    source.copy(this.bytes, this.length, start, end);
    this.length = needed;
  }

  /** Drops the first `count` bytes. */
  drop(count: number): void {
    this.bytes.copyWithin(0, count, this.length);
    this.length -= count;
  }
}
