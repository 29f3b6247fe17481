/**
 * Elements of a one-dimensional array in PostgreSQL's text form.
 * @returns null for what is no such array (more dimensions, bounds, malformed)
 */
export function parseArrayText(text: string): readonly (string | null)[] | null {
  const inner = /^\s*\{(.*)\}\s*$/s.exec(text)?.[1];
  if (inner === undefined) return null;
  if (inner.trim() === "") return [];
  const elements: (string | null)[] = [];
  let at = 0;
  for (;;) {
    const element = elementAt(inner, at);
    if (element === null) return null;
    elements.push(element.value);
    if (element.end >= inner.length) return elements;
    at = element.end + 1;
  }
}

interface Element {
  readonly value: string | null;
  /** Position of the comma, or the length. */
  readonly end: number;
}

const QUOTED = /\s*"((?:[^"\\]|\\.)*)"\s*(?=,|$)/sy;
const BARE = /[^,"{}\\]+(?=,|$)/sy;

function elementAt(text: string, at: number): Element | null {
  QUOTED.lastIndex = at;
  const quoted = QUOTED.exec(text);
  if (quoted !== null) {
    return { value: (quoted[1] ?? "").replaceAll(/\\(.)/gs, "$1"), end: QUOTED.lastIndex };
  }
  BARE.lastIndex = at;
  const bare = BARE.exec(text)?.[0].trim();
  if (bare === undefined || bare === "") return null;
  return { value: bare.toLowerCase() === "null" ? null : bare, end: BARE.lastIndex };
}

export interface BinaryArray {
  readonly elementOid: number;
  readonly elements: readonly (Uint8Array | null)[];
}

/** The same for the binary form: dimensions, flags, element type, per dimension size and lower bound, elements. */
export function parseArrayBinary(bytes: Uint8Array): BinaryArray | null {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (buffer.length < 12) return null;
  const dimensions = buffer.readInt32BE(0);
  const elementOid = buffer.readUInt32BE(8);
  if (dimensions === 0) return { elementOid, elements: [] };
  if (dimensions !== 1 || buffer.length < 20) return null;
  const count = buffer.readInt32BE(12);
  const elements: (Uint8Array | null)[] = [];
  let at = 20;
  for (let index = 0; index < count; index++) {
    if (at + 4 > buffer.length) return null;
    const length = buffer.readInt32BE(at);
    at += 4;
    if (length < 0) elements.push(null);
    else {
      if (at + length > buffer.length) return null;
      elements.push(buffer.subarray(at, at + length));
      at += length;
    }
  }
  return at === buffer.length ? { elementOid, elements } : null;
}
