import type { RowMove } from "../../../router/route.js";
import { decodeDataRow, NO_DATA } from "../../../wire/backend.js";
import { encodeThrown } from "../../../wire/error-fields.js";
import { encodeBind, encodeExecute, encodeParseSql, SYNC } from "../../../wire/frontend.js";
import type { ScatterInput, ScatterOutcome } from "./contract.js";
import { frameEnd } from "./mergers.js";
import { RowNotMoved, ScatterLimitExceeded } from "./scatter-errors.js";
import { statementMessages } from "./shard-messages.js";
import { type AnswerHandler, ShardStatement } from "./shard-statement.js";
import { countOf } from "./tags.js";

/** Rows of one UPDATE that change their shard are held here between the two. */
export const LARGEST_MOVE_BYTES = 64 * 1024 * 1024;

type Row = readonly (Buffer | null)[];

/**
 * Moves the rows of one key from shard to shard, in the session's transaction on both: what is deleted there
 * is inserted here, or neither is.
 */
export async function moveRows(input: ScatterInput, plan: RowMove): Promise<ScatterOutcome> {
  const { request, servers, sink } = input;
  try {
    const collector = new RowCollector(sink);
    const deletion = new ShardStatement(await servers.acquire(plan.from), collector);
    // Values travel as text, which every type reads as it wrote it.
    const messages = statementMessages({ ...request, resultFormats: [] }, plan.deleteSql, null);
    const deleted = await deletion.run(messages);
    if (deleted.kind === "failed") return deleted;
    const rows = collector.take();
    if (rows.length > 0) {
      const insertion = new ShardStatement(await servers.acquire(plan.to), new RowCollector(sink));
      const inserted = await insertion.run(insertMessages(plan.insertSql, rows));
      if (inserted.kind === "failed") return inserted;
      const count = inserted.tags.reduce((sum, tag) => sum + countOf(tag), 0);
      if (count !== rows.length) throw new RowNotMoved();
    }
    // Only now: a statement that was refused before it showed anything can be sent again elsewhere.
    if (request.protocol === "extended" && request.wantsDescription) sink.write(NO_DATA);
    return { kind: "complete", tag: `UPDATE ${rows.length}` };
  } catch (error) {
    return { kind: "failed", error: encodeThrown(error) };
  }
}

function insertMessages(sql: string, rows: readonly Row[]): Buffer {
  const messages = [encodeParseSql("", sql, [])];
  for (const parameters of rows) {
    messages.push(
      encodeBind({
        portal: "",
        statement: "",
        parameterFormats: [],
        parameters,
        resultFormats: [],
      }),
      encodeExecute({ portal: "", maxRows: 0 }),
    );
  }
  return Buffer.concat([...messages, SYNC]);
}

class RowCollector implements AnswerHandler {
  readonly #sink: ScatterInput["sink"];
  readonly #rows: Row[] = [];
  #bytes = 0;

  constructor(sink: ScatterInput["sink"]) {
    this.#sink = sink;
  }

  /** @throws ScatterLimitExceeded when there were more than could be held */
  take(): readonly Row[] {
    if (this.#bytes > LARGEST_MOVE_BYTES) {
      throw new ScatterLimitExceeded("rows that change their shard", LARGEST_MOVE_BYTES);
    }
    return this.#rows;
  }

  rows(buffer: Buffer, start: number, end: number): void {
    this.#bytes += end - start;
    if (this.#bytes > LARGEST_MOVE_BYTES) return;
    for (let at = start; at < end; ) {
      const next = frameEnd(buffer, at);
      this.#rows.push(decodeDataRow(Buffer.from(buffer.subarray(at, next))));
      at = next;
    }
  }

  notice(frame: Buffer): void {
    this.#sink.write(frame);
  }

  description(): void {}
  copyIn(): void {}
  drained(): void {}
}
