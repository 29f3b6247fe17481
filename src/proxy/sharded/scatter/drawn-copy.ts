import type { ServerConnection } from "../../../backend/server-connection.js";
import type { CopyInPlan, DrawnCopy } from "../../../router/route.js";
import { FIRST_SHARD, type ShardId, shardId } from "../../../topology/topology.js";
import { NO_DATA } from "../../../wire/backend.js";
import { BINARY_TRAILER } from "../../../wire/copy-format.js";
import { encodeErrorFields } from "../../../wire/error-fields.js";
import { COPY_DONE, encodeCopyData, encodeCopyFail, encodeQuery } from "../../../wire/frontend.js";
import type { ScatterInput, ScatterOutcome } from "./contract.js";
import { type CopyRows, NO_SHARD_YET, shardOfKeyText } from "./copy-rows.js";
import { forEachPayload, rowsFor } from "./dealt-copy.js";
import { type DrawnKey, emptyCopy, headerWithKey, rowWithKey } from "./drawn-copy-rows.js";
import { type AnswerHandler, type ShardEnd, ShardStatement } from "./shard-statement.js";
import { countOf } from "./tags.js";

/** Rows that have come are held until there are so many bytes of them, or so many. */
const BATCH_BYTES = 1_000_000;
const BATCH_ROWS = 10_000;

/**
 * COPY ... FROM STDIN that leaves the sharding key to its default. Rows are gathered into batches; for each, as many
 * keys as it has rows are drawn on the first shard, then every shard gets its rows by a COPY of their own. All of it
 * runs in the one transaction on the one connection per shard: a server cannot be asked for keys while it takes a
 * COPY, and a second connection could wait for what the first has locked.
 */
export class DrawnCopyIn {
  readonly #input: ScatterInput;
  readonly #plan: CopyInPlan;
  readonly #drawn: DrawnCopy;
  readonly #parser: CopyRows;
  #connections: readonly ServerConnection[] = [];
  #rows: Buffer[] = [];
  #bytes = 0;
  /** The client's first line, or the head of its binary stream; each COPY begins with it. */
  #header: Buffer | null = null;
  #count = 0;
  #hasCopied = false;
  #rowNumber = 0;

  constructor(input: ScatterInput, plan: CopyInPlan, drawn: DrawnCopy) {
    this.#input = input;
    this.#plan = plan;
    this.#drawn = drawn;
    this.#parser = rowsFor(plan, input.servers.shards.length, (shard, bytes) =>
      this.#take(shard, bytes),
    );
  }

  /** @throws SluiceError */
  async run(): Promise<ScatterOutcome> {
    const { servers, request, sink, copySource } = this.#input;
    const connections: ServerConnection[] = [];
    for (const shard of servers.shards) connections.push(await servers.acquire(shard));
    this.#connections = connections;
    const opening = new Target(sink, this.#data([]));
    const opened = await this.#copy(FIRST_SHARD, opening);
    if (opened.kind === "failed") return opened;
    if (request.protocol === "extended" && request.wantsDescription) sink.write(NO_DATA);
    sink.write(withoutFirstColumn(opening.response ?? NO_DATA));
    for (;;) {
      const next = await copySource.next();
      // As the server says it.
      if (next.kind === "failed")
        return await this.#copy(FIRST_SHARD, new Target(sink, encodeCopyFail(next.reason)));
      if (next.kind === "done") break;
      forEachPayload(next.frames, (payload) => this.#parser.push(payload));
      if (this.#bytes < BATCH_BYTES && this.#rows.length < BATCH_ROWS) continue;
      const failed = await this.#send();
      if (failed !== null) return failed;
    }
    this.#parser.finish();
    return (await this.#send()) ?? { kind: "complete", tag: `COPY ${this.#count}` };
  }

  #take(shard: number, bytes: Buffer): void {
    if (shard !== NO_SHARD_YET) {
      // What ends a binary stream comes second, and is ours to write.
      this.#header ??= headerWithKey(Buffer.from(bytes), this.#plan, this.#drawn.columns[0] ?? "");
      return;
    }
    this.#rows.push(Buffer.from(bytes));
    this.#bytes += bytes.length;
  }

  /** @returns why it failed; null: it did not */
  async #send(): Promise<Extract<ScatterOutcome, { kind: "failed" }> | null> {
    const rows = this.#rows;
    this.#rows = [];
    this.#bytes = 0;
    const byShard = new Map<ShardId, Buffer[]>();
    // The server may have something to say of a header alone.
    if (rows.length === 0 && this.#header !== null && !this.#hasCopied)
      byShard.set(FIRST_SHARD, []);
    if (rows.length > 0) {
      const keys = await this.#draw(rows.length);
      if ("error" in keys) return { kind: "failed", error: keys.error };
      for (const [index, row] of rows.entries()) this.#deal(row, keys.values[index], byShard);
    }
    this.#hasCopied = true;
    const ends = await Promise.all(
      [...byShard].map(([shard, pieces]) =>
        this.#copy(shard, new Target(this.#input.sink, this.#data(pieces))),
      ),
    );
    for (const end of ends) {
      if (end.kind === "failed") return end;
      this.#count += countOf(end.tag);
    }
    return null;
  }

  #deal(row: Buffer, key: DrawnKey | undefined, byShard: Map<ShardId, Buffer[]>): void {
    const text = key?.text ?? null;
    const lookup = { plan: this.#plan, shardCount: this.#connections.length };
    const bytes = text === null ? null : Buffer.from(text);
    const shard = shardId(shardOfKeyText(bytes, lookup, ++this.#rowNumber));
    if (key === undefined || text === null) return;
    const pieces = byShard.get(shard) ?? [];
    byShard.set(shard, pieces);
    pieces.push(...rowWithKey(row, key, this.#plan));
  }

  /** The binary form is what the type's own send function gives: behind the record's and the field's headers. */
  async #draw(
    count: number,
  ): Promise<{ readonly values: readonly DrawnKey[] } | { readonly error: Buffer }> {
    const binary =
      "pg_catalog.encode(pg_catalog.substr(pg_catalog.record_send(ROW(v)), 13), 'hex')";
    const columns = this.#plan.format === "binary" ? `v, ${binary}` : "v";
    const source = `SELECT ${this.#drawn.key.sql} AS v FROM pg_catalog.generate_series(1, ${count}) OFFSET 0`;
    const server = await this.#input.servers.acquire(FIRST_SHARD);
    const { rows, error } = await server.query(`SELECT ${columns} FROM (${source}) d`);
    if (error) return { error: encodeErrorFields("E", error) };
    return {
      values: rows.map(([text, hex]) => ({
        text: text ?? null,
        binary: Buffer.from(hex ?? "", "hex"),
      })),
    };
  }

  /** A whole COPY's stream as one message. */
  #data(rows: readonly Buffer[]): Buffer {
    const isBinary = this.#plan.format === "binary";
    const header = this.#header ?? emptyCopy(this.#plan, this.#drawn.columns);
    return Buffer.concat([
      encodeCopyData([header, ...rows, isBinary ? BINARY_TRAILER : EMPTY]),
      COPY_DONE,
    ]);
  }

  async #copy(shard: ShardId, target: Target): Promise<ScatterOutcome> {
    const connection = this.#connections[shard];
    if (connection === undefined) throw new Error(`no shard ${shard}`);
    return outcomeOf(await target.run(connection, this.#drawn.sql));
  }
}

function outcomeOf(end: ShardEnd): ScatterOutcome {
  return end.kind === "failed" ? end : { kind: "complete", tag: end.tags.at(-1) ?? "" };
}

/** One COPY on one shard: what it is to get is sent when the server asks for it. */
class Target implements AnswerHandler {
  readonly #sink: ScatterInput["sink"];
  readonly #data: Buffer;
  #connection: ServerConnection | null = null;
  response: Buffer | null = null;

  constructor(sink: ScatterInput["sink"], data: Buffer) {
    this.#sink = sink;
    this.#data = data;
  }

  async run(connection: ServerConnection, sql: string): Promise<ShardEnd> {
    this.#connection = connection;
    return await new ShardStatement(connection, this).run(encodeQuery(sql));
  }

  copyIn(frame: Buffer): void {
    this.response = Buffer.from(frame);
    this.#connection?.send(this.#data);
  }

  notice(frame: Buffer): void {
    this.#sink.write(frame);
  }

  description(): void {}
  rows(): void {}
  drained(): void {}
}

const EMPTY = Buffer.alloc(0);
const COLUMN_COUNT_AT = 6;
const COLUMN_BYTES = 2;

/** CopyInResponse: the client knows nothing of the column that we put before its own. */
function withoutFirstColumn(response: Buffer): Buffer {
  const shown = Buffer.from(response.subarray(0, response.length - COLUMN_BYTES));
  shown.writeInt32BE(shown.length - 1, 1);
  shown.writeInt16BE(shown.readInt16BE(COLUMN_COUNT_AT) - 1, COLUMN_COUNT_AT);
  return shown;
}
