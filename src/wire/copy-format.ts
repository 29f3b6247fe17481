/**
 * The formats of COPY's data, as they lie in CopyData messages. Readers walk the bytes themselves, each in its own
 * loop; what the bytes mean stands here.
 *
 *     binary   signature flags(4) extension(4 + n) | count(2) length(4) bytes ... | count ... | -1(2)
 *     text     field TAB field ... LF              \N is NULL, a backslash escapes
 *
 * @see https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9
 */

const SIGNATURE = Buffer.from("PGCOPY\n\xff\r\n\0", "latin1");

/** Signature, flags and the extension's length; the extension follows. */
export const BINARY_HEADER_BYTES = SIGNATURE.length + 8;
/** Without flags and extension. */
export const BINARY_HEADER = Buffer.concat([SIGNATURE, Buffer.alloc(8)]);
export const BINARY_TRAILER = Buffer.from([0xff, 0xff]);
/** In the place of a row's field count: the trailer. */
export const TRAILER_COUNT = -1;
/** In the place of a field's length. */
export const NULL_LENGTH = -1;

export const NEWLINE = 0x0a;
export const RETURN = 0x0d;
export const TAB = 0x09;
export const BACKSLASH = 0x5c;
export const DOT = 0x2e;
/** Behind a backslash, as all of a field: NULL. */
export const NULL_LETTER = 0x4e;

/** @param at where `BINARY_HEADER_BYTES` of a stream begin, all of them there */
export function isBinaryHeader(bytes: Buffer, at: number): boolean {
  return bytes.compare(SIGNATURE, 0, SIGNATURE.length, at, at + SIGNATURE.length) === 0;
}

/** Bits 16 to 31 are critical (16: rows have oids): who does not know them, and we know none, must stop. */
export function hasCriticalFlags(bytes: Buffer, at: number): boolean {
  return bytes.readUInt32BE(at + SIGNATURE.length) >>> 16 !== 0;
}

/** The header with its extension, in bytes. */
export function binaryHeaderLength(bytes: Buffer, at: number): number {
  return BINARY_HEADER_BYTES + bytes.readUInt32BE(at + SIGNATURE.length + 4);
}

/** What a letter behind a backslash stands for; every other character stands for itself. */
const ESCAPES: ReadonlyMap<number, number> = new Map([
  [0x62, 0x08], // \b
  [0x66, 0x0c], // \f
  [0x6e, 0x0a], // \n
  [0x72, 0x0d], // \r
  [0x74, 0x09], // \t
  [0x76, 0x0b], // \v
]);
const LOWER_X = 0x78;

/**
 * A field of the text format without its escapes: letters, and the octal (`\101`) and hexadecimal (`\x41`) ones
 * that COPY FROM takes and COPY TO never writes.
 */
export function withoutEscapes(bytes: Buffer, start: number, end: number): Buffer {
  const plain = Buffer.allocUnsafe(end - start);
  let length = 0;
  for (let at = start; at < end; at++) {
    const byte = bytes[at] ?? 0;
    if (byte !== BACKSLASH || at + 1 === end) {
      plain[length++] = byte;
      continue;
    }
    const escaped = bytes[++at] ?? 0;
    const isHex = escaped === LOWER_X && at + 1 < end && digitOf(bytes[at + 1], 16) >= 0;
    if (isHex || digitOf(escaped, 8) >= 0) {
      const base = isHex ? 16 : 8;
      const first = isHex ? at + 1 : at;
      const last = Math.min(end, first + (isHex ? 2 : 3));
      let code = 0;
      for (at = first; at < last && digitOf(bytes[at], base) >= 0; at++)
        code = code * base + digitOf(bytes[at], base);
      at--;
      plain[length++] = code & 0xff;
    } else plain[length++] = ESCAPES.get(escaped) ?? escaped;
  }
  return plain.subarray(0, length);
}

/** -1: no digit of that base. */
function digitOf(byte: number | undefined, base: 8 | 16): number {
  if (byte === undefined) return -1;
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30 < base ? byte - 0x30 : -1;
  const letter = (byte | 0x20) - 0x61;
  return base === 16 && letter >= 0 && letter < 6 ? letter + 10 : -1;
}
