import { ProtocolViolation } from "./protocol-violation.js";

const EMPTY = Buffer.alloc(0);
const HEADER_BYTES = 5;
const LENGTH_BYTES = 4;

/** PostgreSQL's own limit of one message (PQ_LARGE_MESSAGE_LIMIT). */
export const LARGEST_MESSAGE_BYTES = 0x3fffffff - 1;

/**
 * Cuts a byte stream into messages, without an object per message: `next` moves a window
 * (`start`..`end` in `buffer`, header included) on.
 *
 *     buffer  |....[D len row][D len row][C len tag][Z le|   the cut message waits for more bytes
 *              start^        ^end
 *
 * A chunk is used in place. Only a message that spans chunks is copied, once, when it is whole. Windows of
 * one buffer that touch can be forwarded as one slice.
 */
export class Framer {
  buffer: Buffer = EMPTY;
  /** First byte of the current message, 0 for start-up packets. */
  type = 0;
  start = 0;
  end = 0;
  readonly #limit: number;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #neededBytes = 0;

  /** @param limit largest message, header included, in bytes */
  constructor(limit: number = LARGEST_MESSAGE_BYTES) {
    this.#limit = limit;
  }

  /** Bytes that belong to no whole message yet, or were not asked for. */
  get unread(): number {
    return this.buffer.length - this.end + this.#waitingBytes;
  }

  push(chunk: Buffer): void {
    if (this.#waitingBytes === 0 && this.end === this.buffer.length) {
      this.#use(chunk);
      return;
    }
    this.#waiting.push(chunk);
    this.#waitingBytes += chunk.length;
    // A large message is put together once, not at every chunk.
    if (this.unread < this.#neededBytes) return;
    this.#use(Buffer.concat([this.buffer.subarray(this.end), ...this.#waiting]));
    this.#waiting = [];
    this.#waitingBytes = 0;
  }

  /**
   * @returns false when no whole message is left
   * @throws ProtocolViolation when the length is impossible or over the limit
   */
  next(): boolean {
    return this.#advance(HEADER_BYTES);
  }

  /** The same for start-up packets, which have no type. */
  nextStartup(): boolean {
    return this.#advance(LENGTH_BYTES);
  }

  /** Everything from the last message on, and nothing left here: for a change of the reader. */
  takeRest(): Buffer {
    const rest = Buffer.concat([this.buffer.subarray(this.end), ...this.#waiting]);
    this.#use(EMPTY);
    this.#waiting = [];
    this.#waitingBytes = 0;
    return rest;
  }

  #use(buffer: Buffer): void {
    this.buffer = buffer;
    this.start = 0;
    this.end = 0;
    this.#neededBytes = 0;
  }

  #advance(headerBytes: number): boolean {
    const { buffer, end: start } = this;
    if (buffer.length - start < headerBytes) {
      this.#neededBytes = headerBytes;
      return false;
    }
    const typeBytes = headerBytes - LENGTH_BYTES;
    const length = buffer.readInt32BE(start + typeBytes);
    const size = length + typeBytes;
    if (length < LENGTH_BYTES || size > this.#limit)
      throw new ProtocolViolation(`message of ${length} bytes, allowed are 4 to ${this.#limit}`);
    if (buffer.length - start < size) {
      this.#neededBytes = size;
      return false;
    }
    this.type = typeBytes === 0 ? 0 : (buffer[start] ?? 0);
    this.start = start;
    this.end = start + size;
    return true;
  }
}
