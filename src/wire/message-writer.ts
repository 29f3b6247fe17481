/** Builds messages one behind the other in one growing buffer. */
export class MessageWriter {
  #buffer: Buffer;
  #length = 0;
  #lengthAt = 0;

  constructor(initialBytes = 256) {
    this.#buffer = Buffer.allocUnsafe(initialBytes);
  }

  /** @param type the message's letter; null for start-up packets */
  begin(type: string | null): this {
    if (type !== null) this.byte(type.charCodeAt(0));
    this.#lengthAt = this.#length;
    return this.int32(0);
  }

  end(): this {
    this.#buffer.writeInt32BE(this.#length - this.#lengthAt, this.#lengthAt);
    return this;
  }

  byte(value: number): this {
    this.#reserve(1);
    this.#buffer[this.#length++] = value;
    return this;
  }

  int16(value: number): this {
    this.#reserve(2);
    this.#length = this.#buffer.writeUInt16BE(value & 0xffff, this.#length);
    return this;
  }

  int32(value: number): this {
    this.#reserve(4);
    this.#length = this.#buffer.writeInt32BE(value | 0, this.#length);
    return this;
  }

  string(text: string): this {
    this.#reserve(Buffer.byteLength(text));
    this.#length += this.#buffer.write(text, this.#length);
    return this;
  }

  cstring(text: string): this {
    return this.string(text).byte(0);
  }

  bytes(value: Uint8Array): this {
    this.#reserve(value.length);
    this.#buffer.set(value, this.#length);
    this.#length += value.length;
    return this;
  }

  /** A value with its length before it; null: -1 and nothing. */
  value(value: Uint8Array | null): this {
    if (value === null) return this.int32(-1);
    return this.int32(value.length).bytes(value);
  }

  /** What was built; the writer is not to be used again. */
  finish(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  #reserve(more: number): void {
    const needed = this.#length + more;
    if (needed <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, this.#buffer.length * 2));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
  }
}
