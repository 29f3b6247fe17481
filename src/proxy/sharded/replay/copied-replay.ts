import { SQLSTATE } from "../../../core/sqlstate.js";
import type { CopiedReplay } from "../../../router/route.js";
import { encodeCopyInResponse, NO_DATA } from "../../../wire/backend.js";
import { BACKSLASH, NEWLINE, RETURN } from "../../../wire/copy-format.js";
import { encodeErrorFields } from "../../../wire/error-fields.js";
import { StatementRefused } from "../../session-errors.js";
import type { CopySource, ScatterOutcome, StatementRequest } from "../scatter/contract.js";
import { CopyFields } from "../scatter/copy-fields.js";
import { NO_SHARD_YET } from "../scatter/copy-rows.js";
import { TextCopyRows } from "../scatter/copy-text-rows.js";
import { forEachPayload } from "../scatter/dealt-copy.js";
import { countOf } from "../scatter/tags.js";
import { CAPTURE_ON, replayCaptured } from "./captured-replay.js";
import { arrayText } from "./replica-rows.js";
import { type ReplayEnds, replayReturned } from "./returned-replay.js";

/** Rows are held until there are so many bytes of them, or so many. */
const BATCH_BYTES = 1_000_000;
const BATCH_ROWS = 10_000;
/** Where triggers may look at the statement as a whole: all rows are one statement, and this is the most of them. */
const LARGEST_STATEMENT_BYTES = 4 * 1024 * 1024;

/**
 * COPY ... FROM STDIN whose rows are not all in the data: each batch of them is one INSERT on the first shard, and is
 * on the others before more is read from the client.
 */
export async function replayCopied(
  plan: CopiedReplay,
  ends: ReplayEnds,
  source: CopySource,
): Promise<ScatterOutcome> {
  const { request, sink, owner } = ends;
  // What refuses a statement before its first row, the gate of a switch above all, is to be heard before the client
  // is asked for data. What the application's triggers of statements do comes with the rows.
  const capture = plan.replay.kind === "captured" ? `${CAPTURE_ON}; ` : "";
  const opening = `SAVEPOINT sluice_copy; ${capture}${plan.emptySql}; ROLLBACK TO SAVEPOINT sluice_copy; RELEASE SAVEPOINT sluice_copy`;
  const { error } = await owner.query(opening);
  if (error) return { kind: "failed", error: encodeErrorFields("E", error) };
  if (request.protocol === "extended" && request.wantsDescription) sink.write(NO_DATA);
  sink.write(encodeCopyInResponse(plan.columns.length));
  const rows = new CopiedRows(plan);
  let count = 0;
  for (;;) {
    const next = await source.next();
    if (next.kind === "failed")
      throw new StatementRefused(SQLSTATE.queryCanceled, `COPY from stdin failed: ${next.reason}`);
    if (next.kind === "data") forEachPayload(next.frames, (payload) => rows.push(payload));
    else rows.finish();
    const isOver = next.kind === "done";
    if (!isOver && !rows.isFull) continue;
    const outcome = await insert(plan, ends, rows.take());
    if (outcome.kind === "failed") return outcome;
    count += countOf(outcome.tag);
    if (isOver) return { kind: "complete", tag: `COPY ${count}` };
  }
}

async function insert(
  { replay, insertSql }: CopiedReplay,
  ends: ReplayEnds,
  rows: readonly Buffer[],
): Promise<ScatterOutcome> {
  const request: StatementRequest = {
    ...{ protocol: "extended", sql: insertSql, parameterTypes: [], parameterFormats: [] },
    ...{ parameters: [arrayText(rows)], resultFormats: [], wantsDescription: false },
  };
  return replay.kind === "returned"
    ? await replayReturned(replay, { ...ends, request })
    : await replayCaptured(replay, { ...ends, request });
}

/** The client's rows as texts of the table's row type, which the server reads as COPY would: by each type's own input. */
class CopiedRows {
  readonly #plan: CopiedReplay;
  readonly #fields: CopyFields;
  readonly #parser: TextCopyRows;
  #rows: Buffer[] = [];
  #bytes = 0;
  #rowNumber = 0;

  constructor(plan: CopiedReplay) {
    this.#plan = plan;
    this.#fields = new CopyFields(plan.data);
    this.#parser = new TextCopyRows({ plan: plan.data, shardCount: 1 }, (shard, row) => {
      // The other kind is a header.
      if (shard === NO_SHARD_YET) this.#row(row);
    });
  }

  get isFull(): boolean {
    if (this.#plan.replay.kind === "returned")
      return this.#bytes > BATCH_BYTES || this.#rows.length >= BATCH_ROWS;
    if (this.#bytes > LARGEST_STATEMENT_BYTES)
      throw new StatementRefused(
        SQLSTATE.programLimitExceeded,
        `COPY into omnisharded table "${this.#plan.table}", which has triggers, exceeds ${LARGEST_STATEMENT_BYTES} bytes`,
        { hint: "Copy fewer rows at once." },
      );
    return false;
  }

  push(payload: Buffer): void {
    this.#parser.push(payload);
  }

  finish(): void {
    this.#parser.finish();
  }

  take(): readonly Buffer[] {
    const rows = this.#rows;
    this.#rows = [];
    this.#bytes = 0;
    return rows;
  }

  #row(row: Buffer): void {
    this.#rowNumber++;
    const { columns, places } = this.#plan;
    const fields = this.#fields.of(row, endOf(row));
    const missing = columns[fields.length];
    if (missing !== undefined) throw this.#malformed(`missing data for column "${missing}"`);
    if (fields.length > columns.length)
      throw this.#malformed("extra data after last expected column");
    const text = rowText(places.map((place) => (place === null ? null : (fields[place] ?? null))));
    this.#rows.push(text);
    this.#bytes += text.length;
  }

  /** As PostgreSQL says it. */
  #malformed(reason: string): StatementRefused {
    return new StatementRefused(SQLSTATE.badCopyFileFormat, reason, {
      hint: `Row ${this.#rowNumber} of the data: check the delimiter and the list of columns.`,
    });
  }
}

/** Before the line end: LF or CRLF. */
function endOf(row: Buffer): number {
  let end = row.length;
  if (row[end - 1] === NEWLINE) end--;
  if (row[end - 1] === RETURN) end--;
  return end;
}

const QUOTE = 0x22;
const COMMA = 0x2c;

/** `("a","b ""quoted""",,"d")`: NULL is nothing. */
function rowText(values: readonly (Buffer | null)[]): Buffer {
  let length = 2;
  for (const value of values) length += value === null ? 1 : 2 * value.length + 3;
  const text = Buffer.allocUnsafe(length);
  let at = text.write("(");
  for (const [index, value] of values.entries()) {
    if (index > 0) text[at++] = COMMA;
    if (value === null) continue;
    text[at++] = QUOTE;
    for (const byte of value) {
      if (byte === QUOTE || byte === BACKSLASH) text[at++] = byte;
      text[at++] = byte;
    }
    text[at++] = QUOTE;
  }
  at += text.write(")", at);
  return text.subarray(0, at);
}
