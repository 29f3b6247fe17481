import type { ReplayPlan } from "../../../router/route.js";
import {
  BACKEND,
  decodeDataRow,
  decodeRowDescription,
  encodeDataRow,
  encodeRowDescription,
  NO_DATA,
} from "../../../wire/backend.js";
import type { ClientSink, StatementRequest } from "../scatter/contract.js";
import { frameEnd } from "../scatter/mergers.js";
import type { AnswerHandler } from "../scatter/shard-statement.js";
import { notReplayable } from "./replay-errors.js";

/** Columns that the statement returns for us, behind those of the client. */
const OUR_COLUMNS = 2;
/** Rows that go to the other shards at once; more wait in the server. */
const LARGEST_BATCH_BYTES = 256 * 1024;
const LARGEST_BATCH_ROWS = 2_000;
/** Of the client's rows: with fewer, nothing is shown before the other shards have the rows as well. */
const LARGEST_HELD_BYTES = 256 * 1024;

/** What the deciding shard answers: the rows for the other shards, and the client's part of them. */
export class ReturnedRows implements AnswerHandler {
  readonly #plan: ReplayPlan;
  readonly #request: StatementRequest;
  readonly #sink: ClientSink;
  #batch: Buffer[] = [];
  #batchBytes = 0;
  #held: Buffer[] = [];
  #heldBytes = 0;
  #isDropping = false;
  /** Called when something has changed. */
  onChange: () => void = () => {};
  /** The rows cannot be replayed. */
  error: Error | null = null;
  /** The client must take rows before more are read. */
  isBlocked = false;

  constructor(plan: ReplayPlan, request: StatementRequest, sink: ClientSink) {
    this.#plan = plan;
    this.#request = request;
    this.#sink = sink;
    const isRowless = !plan.hasReturning && request.wantsDescription;
    if (isRowless && request.protocol === "extended") this.#hold(NO_DATA);
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
    const { hasReturning } = this.#plan;
    if (!hasReturning || !this.#request.wantsDescription) return;
    if (frame[0] !== BACKEND.rowDescription) return;
    this.#hold(encodeRowDescription(decodeRowDescription(frame).slice(0, -OUR_COLUMNS)));
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
    if (this.#plan.hasReturning) this.#hold(encodeDataRow(values.slice(0, -OUR_COLUMNS)));
  }

  notice(frame: Buffer): void {
    this.#hold(Buffer.from(frame));
  }

  copyIn(): void {}
  drained(): void {}

  /** What the client is to see so far; the statement has succeeded, or has become too large to be held. */
  show(): void {
    if (this.#held.length === 0) return;
    const bytes = Buffer.concat(this.#held);
    this.#held = [];
    this.#heldBytes = 0;
    if (this.#sink.write(bytes)) return;
    this.isBlocked = true;
    const free = () => {
      this.isBlocked = false;
      this.onChange();
    };
    // A client that is gone takes nothing any more, and holds nobody up.
    this.#sink.drained().then(free, free);
  }

  #hold(frame: Buffer): void {
    this.#held.push(frame);
    this.#heldBytes += frame.length;
    if (this.#heldBytes > LARGEST_HELD_BYTES && !this.isBlocked) this.show();
  }
}
