/** Columns that the shards show for the merge alone: the first ones of every row. */

const HEADER_BYTES = 5;
/** Behind a column's name in RowDescription: table, attribute, type, size, modifier, format. */
const DESCRIPTION_BYTES = 18;

/** @param frame a DataRow message */
export function rowWithout(frame: Buffer, hidden: number): Buffer {
  let at = HEADER_BYTES + 2;
  for (let column = 0; column < hidden; column++) {
    at += 4 + Math.max(0, frame.readInt32BE(at));
  }
  return without(frame, hidden, at);
}

/** @param frame a RowDescription message */
export function descriptionWithout(frame: Buffer, hidden: number): Buffer {
  let at = HEADER_BYTES + 2;
  for (let column = 0; column < hidden; column++) {
    at = frame.indexOf(0, at) + 1 + DESCRIPTION_BYTES;
  }
  return without(frame, hidden, at);
}

function without(frame: Buffer, hidden: number, from: number): Buffer {
  const rest = frame.subarray(from);
  const made = Buffer.allocUnsafe(HEADER_BYTES + 2 + rest.length);
  made.writeUInt8(frame.readUInt8(0), 0);
  made.writeInt32BE(made.length - 1, 1);
  made.writeInt16BE(frame.readInt16BE(HEADER_BYTES) - hidden, HEADER_BYTES);
  rest.copy(made, HEADER_BYTES + 2);
  return made;
}

/** Formats of the client's columns as those of all: one format, or none, is for all of them. */
export function formatsWith(formats: readonly number[], hidden: number): readonly number[] {
  if (formats.length < 2) return formats;
  return [...Array.from({ length: hidden }, () => 0), ...formats];
}
