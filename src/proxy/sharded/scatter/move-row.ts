import type { RenumberedText } from "../../../router/clauses.js";
import { heldRows } from "../../../router/move-row.js";
import type { BeforeMove, RowMove } from "../../../router/route.js";
import type { ShardId } from "../../../topology/topology.js";
import { BACKEND, decodeDataRow, NO_DATA } from "../../../wire/backend.js";
import { encodeThrown } from "../../../wire/error-fields.js";
import { encodeBind, encodeExecute, encodeParseSql, SYNC } from "../../../wire/frontend.js";
import type { ScatterInput, ScatterOutcome } from "./contract.js";
import { frameEnd } from "./mergers.js";
import {
  ColumnsChanged,
  RowNotMoved,
  RowsReferredTo,
  ScatterLimitExceeded,
} from "./scatter-errors.js";
import { statementMessages } from "./shard-messages.js";
import { type AnswerHandler, ShardStatement } from "./shard-statement.js";
import { countOf } from "./tags.js";

/** Rows of one UPDATE that change their shard are held here between the two, and what it returns until its end. */
export const LARGEST_MOVE_BYTES = 64 * 1024 * 1024;

type Row = readonly (Buffer | null)[];

/**
 * An UPDATE of the sharding key, in the session's transaction on all of its shards: rows that are on the new key's shard
 * are updated, those of other shards are taken out there and inserted here, or nothing of it is done.
 */
export async function moveRows(input: ScatterInput, plan: RowMove): Promise<ScatterOutcome> {
  try {
    return await new Moving(input, plan).run();
  } catch (error) {
    if (error instanceof ShardFailed) return { kind: "failed", error: error.frame };
    return { kind: "failed", error: encodeThrown(error) };
  }
}

/** One of the statements has failed on its shard. */
class ShardFailed extends Error {
  readonly frame: Buffer;
  constructor(frame: Buffer) {
    super("a shard has refused");
    this.frame = frame;
  }
}

class Moving {
  readonly #input: ScatterInput;
  readonly #plan: RowMove;
  /** What the client is shown when all has been done: a statement that has shown nothing can be sent again elsewhere. */
  readonly #shown: Buffer[] = [];
  #shownBytes = 0;

  constructor(input: ScatterInput, plan: RowMove) {
    this.#input = input;
    this.#plan = plan;
  }

  async run(): Promise<ScatterOutcome> {
    const { servers, sink, request } = this.#input;
    const { shards, to, hasReturning, insertSql } = this.#plan;
    const all = shards === "all" ? servers.shards : shards;
    const rows: Row[] = [];
    let count = 0;
    for (const shard of all) {
      if (shard === to) count += await this.#stay();
      else rows.push(...(await this.#takeOut(shard)));
    }
    // Finds nothing there, and describes what is returned.
    if (!all.includes(to) && hasReturning) await this.#stay();
    if (rows.length > 0) {
      const formats = hasReturning ? request.resultFormats : [];
      const inserted = await this.#send(to, insertMessages(insertSql, rows, formats), (frames) =>
        this.#show(frames),
      );
      if (inserted !== rows.length) throw new RowNotMoved();
      count += inserted;
    }
    if (this.#shownBytes > LARGEST_MOVE_BYTES)
      throw new ScatterLimitExceeded("rows that an UPDATE returns", LARGEST_MOVE_BYTES);
    if (!hasReturning && request.protocol === "extended" && request.wantsDescription)
      this.#show(NO_DATA);
    for (const frames of this.#shown) if (!sink.write(frames)) await sink.drained();
    return { kind: "complete", tag: `UPDATE ${count}` };
  }

  /** The client's own statement, where rows need not move. */
  async #stay(): Promise<number> {
    const { request } = this.#input;
    const messages = statementMessages(request, request.sql, null);
    return await this.#send(this.#plan.to, messages, (frames) => this.#show(frames));
  }

  /** Rows as they shall be, which are no more on this shard. */
  async #takeOut(shard: ShardId): Promise<readonly Row[]> {
    const { before, take } = this.#plan;
    if (before === null) return this.#whole(await this.#ask(shard, take));
    const places = await this.#lock(shard, before);
    return places.length === 0
      ? []
      : this.#whole(await this.#ask(shard, { ...take, sql: heldRows(take.sql, places) }));
  }

  /** @throws ColumnsChanged where the table has others than the statement was written by (R53) */
  #whole(rows: readonly Row[]): readonly Row[] {
    const { columns, table } = this.#plan;
    if (rows.some((row) => row.at(-1)?.toString("utf8") !== columns))
      throw new ColumnsChanged(table);
    return rows.map((row) => row.slice(0, -1));
  }

  /** @throws RowsReferredTo */
  async #lock(shard: ShardId, { lock, referring, touch }: BeforeMove): Promise<readonly string[]> {
    const locked = await this.#ask(shard, lock);
    if (locked.length === 0) return [];
    const others = referring === null ? [] : await this.#ask(shard, referring);
    if (others.length > 0) throw new RowsReferredTo(this.#plan.table, texts(others));
    return texts(touch === null ? locked : await this.#ask(shard, touch));
  }

  /** One of our own statements. Values travel as text, which every type reads as it wrote it. */
  async #ask(shard: ShardId, { sql, parameters }: RenumberedText): Promise<readonly Row[]> {
    const rows: Row[] = [];
    let bytes = 0;
    const request = { ...this.#input.request, resultFormats: [] };
    await this.#send(shard, statementMessages(request, sql, parameters), (frames, isRows) => {
      if (!isRows) return;
      bytes += frames.length;
      if (bytes > LARGEST_MOVE_BYTES) return;
      for (let at = 0; at < frames.length; ) {
        const next = frameEnd(frames, at);
        rows.push(decodeDataRow(frames.subarray(at, next)));
        at = next;
      }
    });
    if (bytes > LARGEST_MOVE_BYTES)
      throw new ScatterLimitExceeded("rows that change their shard", LARGEST_MOVE_BYTES);
    return rows;
  }

  /**
   * @returns how many rows its tags count
   * @throws ShardFailed
   */
  async #send(shard: ShardId, messages: Buffer, take: TakeFrames): Promise<number> {
    const connection = await this.#input.servers.acquire(shard);
    const notice = (frame: Buffer) => this.#show(Buffer.from(frame));
    const end = await new ShardStatement(connection, new Frames(take, notice)).run(messages);
    if (end.kind === "failed") throw new ShardFailed(end.error);
    return end.tags.reduce((sum, tag) => sum + countOf(tag), 0);
  }

  #show(frames: Buffer): void {
    const { wantsDescription } = this.#input.request;
    const type = frames[0];
    // NoData comes once, however many have said it.
    if (type === BACKEND.noData || (type === BACKEND.rowDescription && !wantsDescription)) return;
    this.#shownBytes += frames.length;
    if (this.#shownBytes <= LARGEST_MOVE_BYTES) this.#shown.push(frames);
  }
}

type TakeFrames = (frames: Buffer, isRows: boolean) => void;

/** Copies: slices of what was read would keep all of it. */
class Frames implements AnswerHandler {
  readonly #take: TakeFrames;
  readonly #notice: (frame: Buffer) => void;

  constructor(take: TakeFrames, notice: (frame: Buffer) => void) {
    this.#take = take;
    this.#notice = notice;
  }

  description(frame: Buffer): void {
    this.#take(Buffer.from(frame), false);
  }

  rows(buffer: Buffer, start: number, end: number): void {
    this.#take(Buffer.from(buffer.subarray(start, end)), true);
  }

  notice(frame: Buffer): void {
    this.#notice(frame);
  }

  copyIn(): void {}
  drained(): void {}
}

function texts(rows: readonly Row[]): readonly string[] {
  return rows.map(([value]) => value?.toString("utf8") ?? "");
}

function insertMessages(
  sql: string,
  rows: readonly Row[],
  resultFormats: readonly number[],
): Buffer {
  const messages = [encodeParseSql("", sql, [])];
  for (const parameters of rows) {
    messages.push(
      encodeBind({ portal: "", statement: "", parameterFormats: [], parameters, resultFormats }),
      encodeExecute({ portal: "", maxRows: 0 }),
    );
  }
  return Buffer.concat([...messages, SYNC]);
}
