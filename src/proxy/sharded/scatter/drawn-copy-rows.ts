import type { CopyInPlan } from "../../../router/route.js";
import { BINARY_HEADER } from "../../../wire/copy-format.js";

/** A key as the server gave it. */
export interface DrawnKey {
  readonly text: string | null;
  /** As the type sends it; empty unless the copy is binary. */
  readonly binary: Buffer;
}

/** A row of a COPY with one more field before its first, in pieces. */
export function rowWithKey(row: Buffer, key: DrawnKey, plan: CopyInPlan): readonly Buffer[] {
  if (plan.format !== "binary") return [Buffer.from(field(key.text ?? "", plan)), row];
  const head = Buffer.allocUnsafe(6);
  head.writeInt16BE(row.readInt16BE(0) + 1, 0);
  head.writeInt32BE(key.binary.length, 2);
  return [head, key.binary, row.subarray(2)];
}

/** What a COPY without rows is sent: a header, where there must be one, names the columns as `HEADER MATCH` wants it. */
export function emptyCopy(plan: CopyInPlan, columns: readonly string[]): Buffer {
  if (plan.format === "binary") return BINARY_HEADER;
  if (!plan.hasHeader) return Buffer.alloc(0);
  const fields = columns.map((column) => field(column, plan)).join("");
  return Buffer.from(`${fields.slice(0, -plan.delimiter.length)}\n`);
}

/** The line of names with the key's before the first; the head of a binary stream as it is. */
export function headerWithKey(header: Buffer, plan: CopyInPlan, column: string): Buffer {
  return plan.format === "binary"
    ? header
    : Buffer.concat([Buffer.from(field(column, plan)), header]);
}

function field(value: string, plan: CopyInPlan): string {
  return (plan.format === "csv" ? quoted(value, plan) : escaped(value, plan)) + plan.delimiter;
}

function quoted(value: string, plan: CopyInPlan): string {
  const { quote } = plan;
  let text = "";
  for (const character of value)
    text += character === quote || character === plan.escape ? plan.escape + character : character;
  return quote + text + quote;
}

/** Letters, digits and the hyphen of a uuid as they are, where they are not what the options make of them. */
function escaped(value: string, { delimiter, nullText }: CopyInPlan): string {
  if (value === nullText) return [...value].map(hex).join("");
  let text = "";
  for (const character of value)
    text += character === delimiter || /[\\\n\r\t]/.test(character) ? hex(character) : character;
  return text;
}

/** `\x41`: read as this byte whatever else it is. */
function hex(character: string): string {
  return [...Buffer.from(character)]
    .map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`)
    .join("");
}
