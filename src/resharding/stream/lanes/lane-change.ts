import type { Lsn } from "../../../core/lsn.js";
import type { Tuple } from "../../../replication/tuple.js";

/** The transaction that a change belongs to. */
export interface SourceTransaction {
  readonly xid: number;
  /** Where its commit record is. */
  readonly finalLsn: Lsn;
}

/** One change as one lane gets it. `table` is the position in the migration's tables. */
export type LaneChange =
  | {
      readonly kind: "insert";
      readonly transaction: SourceTransaction;
      readonly table: number;
      readonly row: Tuple;
    }
  /** Old and new row are both this lane's. `match`: the row as it was, identity columns only or all. */
  | {
      readonly kind: "update";
      readonly transaction: SourceTransaction;
      readonly table: number;
      readonly match: Tuple;
      readonly row: Tuple;
    }
  | {
      readonly kind: "delete";
      readonly transaction: SourceTransaction;
      readonly table: number;
      readonly match: Tuple;
    };

/** A position that the lane may commit at. */
export interface LaneBoundary {
  readonly kind: "commit";
  readonly endLsn: Lsn;
  /** Microseconds since 2000-01-01. */
  readonly commitTime: bigint;
  /** R34: the stream of this lane begins here. */
  readonly isStart: boolean;
}

export type LaneItem = LaneChange | LaneBoundary;

/** What a lane takes at once. Fewer commits above it gain nothing (4,000: performance, section 2). */
const TAKE_ITEMS = 8_000;
/** A transaction larger than this is written before its end has arrived. */
const PARTIAL_BYTES = 1 << 20;

/**
 * What the decoder has read and the lane has not taken. Its bound is the runner's budget over all lanes: past
 * it the socket is not read.
 */
export class LaneQueue {
  #items: LaneItem[] = [];
  #sizes: number[] = [];
  #bytes = 0;
  #boundaries = 0;
  #wake: (() => void) | null = null;
  /** Position reached without a change for this lane; becomes a boundary by and by. */
  #idle: LaneBoundary | null = null;

  push(change: LaneChange, byteCount: number): void {
    // The passed position is before this transaction: its own end will carry the lane further.
    this.#idle = null;
    this.#items.push(change);
    this.#sizes.push(byteCount);
    this.#bytes += byteCount;
    if (this.#bytes >= PARTIAL_BYTES) this.wake();
  }

  commit(boundary: LaneBoundary): void {
    this.#idle = null;
    this.#items.push(boundary);
    this.#sizes.push(0);
    this.#boundaries++;
    this.wake();
  }

  /** The stream passed here with nothing for this lane: no batch of its own unless nothing else comes. */
  pass(boundary: LaneBoundary): void {
    this.#idle = boundary;
  }

  /** Makes the passed position a boundary. */
  flushIdle(): void {
    if (this.#idle !== null) this.commit(this.#idle);
  }

  /**
   * Waits for something to write, then takes it: whole transactions where there are any, else a part of a
   * large one. While the lane commits, the queue fills: so batches grow with the load, without a timer.
   * @returns the items and what of the budget to release when they are written
   */
  async take(signal: AbortSignal): Promise<{ readonly items: LaneItem[]; readonly bytes: number }> {
    for (;;) {
      signal.throwIfAborted();
      if (this.#boundaries > 0) return this.#remove(this.#wholeTransactions());
      if (this.#bytes >= PARTIAL_BYTES) return this.#remove(this.#items.length);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Lets `take` look again: something came, or the signal was aborted. */
  wake(): void {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }

  #remove(count: number): { readonly items: LaneItem[]; readonly bytes: number } {
    const items = this.#items;
    const sizes = this.#sizes;
    this.#items = items.splice(count);
    this.#sizes = sizes.splice(count);
    const bytes = sizes.reduce((sum, size) => sum + size, 0);
    this.#bytes -= bytes;
    for (const item of items) if (item.kind === "commit") this.#boundaries--;
    return { items, bytes };
  }

  #wholeTransactions(): number {
    let last = 0;
    for (let index = 0; index < this.#items.length; index++) {
      if (this.#items[index]?.kind !== "commit") continue;
      last = index + 1;
      if (last >= TAKE_ITEMS) break;
    }
    return last;
  }
}
