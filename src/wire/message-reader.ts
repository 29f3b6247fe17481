import { ProtocolViolation } from "./protocol-violation.js";

/** Reads one message's body. Every read is checked: a short body is a ProtocolViolation, never a crash. */
export class MessageReader {
  readonly #buffer: Buffer;
  readonly #end: number;
  offset: number;

  /** @param start first byte after type and length */
  constructor(buffer: Buffer, start: number, end: number) {
    this.#buffer = buffer;
    this.#end = end;
    this.offset = start;
  }

  /** Over a whole frame, past its header. */
  static ofFrame(frame: Buffer): MessageReader {
    return new MessageReader(frame, 5, frame.length);
  }

  get remaining(): number {
    return this.#end - this.offset;
  }

  byte(): number {
    return this.#buffer.readUInt8(this.#take(1));
  }

  int16(): number {
    return this.#buffer.readInt16BE(this.#take(2));
  }

  /** Counts are unsigned: up to 65,535 parameters. */
  uint16(): number {
    return this.#buffer.readUInt16BE(this.#take(2));
  }

  int32(): number {
    return this.#buffer.readInt32BE(this.#take(4));
  }

  /** Object ids are unsigned. */
  uint32(): number {
    return this.#buffer.readUInt32BE(this.#take(4));
  }

  bytes(length: number): Buffer {
    if (length < 0) throw new ProtocolViolation(`length ${length}`);
    const start = this.#take(length);
    return this.#buffer.subarray(start, start + length);
  }

  cstringBytes(): Buffer {
    const start = this.offset;
    return this.#buffer.subarray(start, this.#passString());
  }

  cstring(): string {
    const start = this.offset;
    const zero = this.#passString();
    return zero === start ? "" : this.#buffer.toString("utf8", start, zero);
  }

  rest(): Buffer {
    return this.bytes(this.remaining);
  }

  /** @returns where its zero byte is */
  #passString(): number {
    const zero = this.#buffer.indexOf(0, this.offset);
    if (zero < 0 || zero >= this.#end) throw new ProtocolViolation("string without an end");
    this.offset = zero + 1;
    return zero;
  }

  #take(length: number): number {
    const start = this.offset;
    if (this.#end - start < length) throw new ProtocolViolation("message ends too early");
    this.offset = start + length;
    return start;
  }
}
