import type { ServerConnection } from "../../../backend/server-connection.js";
import type { ReturnedReplay } from "../../../router/route.js";
import { decodeDataRow } from "../../../wire/backend.js";
import { encodeBind, encodeExecute, encodeParseSql, SYNC } from "../../../wire/frontend.js";
import { frameEnd } from "../scatter/mergers.js";
import { type AnswerHandler, ShardStatement } from "../scatter/shard-statement.js";
import { countOf } from "../scatter/tags.js";

export type ReplicaEnd =
  | { readonly kind: "same" }
  | { readonly kind: "otherwise" }
  /** The server's ErrorResponse. */
  | { readonly kind: "failed"; readonly error: Buffer };

export const GUARD_ON = "SET LOCAL sluice.replay = 'on'";
export const GUARD_OFF = "SET LOCAL sluice.replay = ''";

/** Gives one other shard rows that the deciding one has, and says whether they are the same there now. */
export async function replayOn(
  connection: ServerConnection,
  plan: ReturnedReplay,
  rows: readonly Buffer[],
): Promise<ReplicaEnd> {
  const comparison = new Comparison(rows);
  const statement = new ShardStatement(connection, comparison);
  const replay = execution(plan.replay.sql, [arrayText(rows)]);
  const messages = plan.isGuarded
    ? [execution(GUARD_ON, []), replay, execution(GUARD_OFF, [])]
    : [replay];
  const end = await statement.run(Buffer.concat([...messages, SYNC]));
  if (end.kind === "failed") return end;
  const { checks } = plan.replay;
  const count = countOf(end.tags[plan.isGuarded ? 1 : 0] ?? "");
  const isSame =
    checks === "nothing" || (count === rows.length && (checks === "count" || comparison.areSame));
  return { kind: isSame ? "same" : "otherwise" };
}

export function execution(sql: string, parameters: readonly Buffer[]): Buffer {
  return Buffer.concat([
    encodeParseSql("", sql, []),
    encodeBind({
      portal: "",
      statement: "",
      parameterFormats: [],
      parameters,
      resultFormats: [],
    }),
    encodeExecute({ portal: "", maxRows: 0 }),
  ]);
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;

/** An array's text: every element quoted, quotes and backslashes in it escaped. */
export function arrayText(elements: readonly Buffer[]): Buffer {
  let length = 2;
  for (const element of elements) length += 2 * element.length + 3;
  const text = Buffer.allocUnsafe(length);
  let at = text.write("{");
  for (const [index, element] of elements.entries()) {
    if (index > 0) text[at++] = COMMA;
    text[at++] = QUOTE;
    for (const byte of element) {
      if (byte === QUOTE || byte === BACKSLASH) text[at++] = BACKSLASH;
      text[at++] = byte;
    }
    text[at++] = QUOTE;
  }
  at += text.write("}", at);
  return text.subarray(0, at);
}

/** The first column of every row, in order. */
export class FirstColumns implements AnswerHandler {
  readonly values: string[] = [];

  rows(buffer: Buffer, start: number, end: number): void {
    for (let at = start; at < end; ) {
      const next = frameEnd(buffer, at);
      const [value] = decodeDataRow(buffer.subarray(at, next));
      this.values.push(value?.toString("utf8") ?? "");
      at = next;
    }
  }

  description(): void {}
  // The deciding shard has said it.
  notice(): void {}
  copyIn(): void {}
  drained(): void {}
}

/** Whether as many rows of each text come as were sent, in any order. */
class Comparison implements AnswerHandler {
  readonly #missing = new Map<string, number>();
  #isForeign = false;

  constructor(rows: readonly Buffer[]) {
    for (const row of rows) this.#add(row.toString("latin1"), 1);
  }

  get areSame(): boolean {
    return !this.#isForeign && this.#missing.size === 0;
  }

  rows(buffer: Buffer, start: number, end: number): void {
    for (let at = start; at < end; ) {
      const next = frameEnd(buffer, at);
      const [row] = decodeDataRow(buffer.subarray(at, next));
      this.#add(row?.toString("latin1") ?? "", -1);
      at = next;
    }
  }

  #add(row: string, change: 1 | -1): void {
    const count = (this.#missing.get(row) ?? 0) + change;
    if (count < 0) this.#isForeign = true;
    if (count === 0) this.#missing.delete(row);
    else this.#missing.set(row, count);
  }

  description(): void {}
  // The deciding shard has said it.
  notice(): void {}
  copyIn(): void {}
  drained(): void {}
}
