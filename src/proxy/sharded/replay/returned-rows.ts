import type { ReturnedReplay } from "../../../router/route.js";
import {
  BACKEND,
  decodeDataRow,
  decodeRowDescription,
  encodeDataRow,
  encodeRowDescription,
} from "../../../wire/backend.js";
import type { StatementRequest } from "../scatter/contract.js";
import { frameEnd } from "../scatter/mergers.js";
import type { AnswerHandler } from "../scatter/shard-statement.js";
import type { ClientRows } from "./client-rows.js";
import { notReplayable } from "./replay-errors.js";

/** Columns that the statement returns for us, behind those of the client. */
const OUR_COLUMNS = 2;
/** Rows that go to the other shards at once; more wait in the server. */
const LARGEST_BATCH_BYTES = 256 * 1024;
const LARGEST_BATCH_ROWS = 2_000;

/** What the deciding shard answers: the rows for the other shards, and the client's part of them. */
export class ReturnedRows implements AnswerHandler {
  readonly #plan: ReturnedReplay;
  readonly #request: StatementRequest;
  readonly client: ClientRows;
  #batch: Buffer[] = [];
  #batchBytes = 0;
  #isDropping = false;
  /** Called when something has changed. */
  onChange: () => void = () => {};
  /** The rows cannot be replayed. */
  error: Error | null = null;

  constructor(plan: ReturnedReplay, request: StatementRequest, client: ClientRows) {
    this.#plan = plan;
    this.#request = request;
    this.client = client;
    client.onFree = () => this.onChange();
    if (!plan.hasReturning) client.holdNoData(request);
  }

  get isFull(): boolean {
    return this.#batchBytes > LARGEST_BATCH_BYTES || this.#batch.length > LARGEST_BATCH_ROWS;
  }

  /** The rows so far, as text. */
  takeBatch(): readonly Buffer[] {
    const batch = this.#batch;
    this.#batch = [];
    this.#batchBytes = 0;
    return batch;
  }

  /** Nothing of what still comes matters. */
  drop(): void {
    this.#isDropping = true;
    this.takeBatch();
  }

  description(frame: Buffer): void {
    const isWanted = this.#plan.hasReturning && this.#request.wantsDescription;
    if (!isWanted || frame[0] !== BACKEND.rowDescription) return;
    const columns = decodeRowDescription(frame).slice(0, -OUR_COLUMNS);
    this.client.hold(encodeRowDescription(columns));
  }

  rows(buffer: Buffer, start: number, end: number): void {
    if (this.#isDropping) return;
    // A copy of all at once: slices of the server's chunks would keep those.
    const bytes = Buffer.from(buffer.subarray(start, end));
    for (let at = 0; at < bytes.length; ) {
      const next = frameEnd(bytes, at);
      this.#row(bytes.subarray(at, next));
      at = next;
    }
    this.onChange();
  }

  #row(frame: Buffer): void {
    const values = decodeDataRow(frame);
    const row = values.at(-2);
    const obstacle = values.at(-1)?.toString("utf8");
    if (obstacle !== "" || !row) {
      this.error ??= notReplayable(this.#plan.table, obstacle ?? "columns");
      return;
    }
    this.#batch.push(row);
    this.#batchBytes += row.length;
    if (this.#plan.hasReturning) this.client.hold(encodeDataRow(values.slice(0, -OUR_COLUMNS)));
  }

  notice(frame: Buffer): void {
    this.client.hold(Buffer.from(frame));
  }

  copyIn(): void {}
  drained(): void {}
}
