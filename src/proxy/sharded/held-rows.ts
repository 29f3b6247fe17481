import { BACKEND } from "../../wire/backend.js";
import { Framer } from "../../wire/framer.js";
import type { ClientSink } from "./scatter/contract.js";
import { ScatterLimitExceeded } from "./scatter/scatter-errors.js";

/** Rows that portals and cursors of one session may hold here. */
export const LARGEST_HELD_BYTES = 64 * 1024 * 1024;

export interface Movement {
  readonly direction: "forward" | "backward" | "absolute" | "relative";
  /** Infinity: all. */
  readonly count: number;
}

/**
 * An answer that is given in parts, and the place in it: 0 is before the first row, n on row n, one more than there are
 * behind the last.
 */
export class HeldRows {
  /** RowDescription or NoData. */
  readonly description: Buffer;
  readonly bytes: number;
  readonly #rows: readonly Buffer[];
  #place = 0;

  constructor(description: Buffer, rows: readonly Buffer[], bytes: number) {
    this.description = description;
    this.#rows = rows;
    this.bytes = bytes;
  }

  /** At most so many of those that follow; 0: all. */
  next(most: number): readonly Buffer[] {
    return this.move({ direction: "forward", count: most === 0 ? Number.POSITIVE_INFINITY : most });
  }

  /** Whether a movement goes back, or might: what a cursor without scrolling refuses. */
  goesBack({ direction, count }: Movement): boolean {
    switch (direction) {
      case "forward":
        return count < 0 || (count === 0 && this.#isOnRow);
      case "backward":
        return count > 0 || (count === 0 && this.#isOnRow);
      case "relative":
        return count < 0 || (count === 0 && this.#isOnRow);
      case "absolute":
        return count < 0 || (count <= this.#place && this.#place > 0);
    }
  }

  /** As FETCH moves. @returns the rows in the order in which it meets them */
  move({ direction, count }: Movement): readonly Buffer[] {
    switch (direction) {
      case "forward":
        return count < 0 ? this.#back(-count) : this.#forth(count);
      case "backward":
        return count < 0 ? this.#forth(-count) : this.#back(count);
      case "absolute":
        return this.#to(count < 0 ? this.#rows.length + 1 + count : count);
      case "relative":
        return count === 0 ? this.#again() : this.#to(this.#place + count);
    }
  }

  get #isOnRow(): boolean {
    return this.#place > 0 && this.#place <= this.#rows.length;
  }

  #again(): readonly Buffer[] {
    return this.#isOnRow ? this.#rows.slice(this.#place - 1, this.#place) : [];
  }

  #forth(count: number): readonly Buffer[] {
    if (count === 0) return this.#again();
    const rows = this.#rows.slice(this.#place, this.#place + count);
    this.#place = Math.min(this.#place + count, this.#rows.length + 1);
    return rows;
  }

  #back(count: number): readonly Buffer[] {
    if (count === 0) return this.#again();
    const end = Math.max(0, this.#place - 1);
    const rows = this.#rows.slice(Math.max(0, end - count), end).toReversed();
    this.#place = Math.max(0, this.#place - count);
    return rows;
  }

  #to(place: number): readonly Buffer[] {
    this.#place = Math.max(0, Math.min(place, this.#rows.length + 1));
    return this.#again();
  }
}

/** Takes a statement's answer in the client's place. */
export class RowCollector implements ClientSink {
  readonly #framer = new Framer();
  readonly #limit: number;
  readonly #others: ClientSink;
  readonly #rows: Buffer[] = [];
  #description: Buffer = Buffer.alloc(0);
  #bytes = 0;

  /** @param others takes what are no rows: notices */
  constructor(limit: number, others: ClientSink) {
    this.#limit = limit;
    this.#others = others;
  }

  /** Past the limit rows are dropped: `take` says so. */
  write(frames: Buffer): boolean {
    this.#framer.push(frames);
    while (this.#framer.next()) {
      const { type, buffer, start, end } = this.#framer;
      const frame = buffer.subarray(start, end);
      if (type === BACKEND.rowDescription || type === BACKEND.noData)
        this.#description = Buffer.from(frame);
      else if (type === BACKEND.dataRow) {
        this.#bytes += end - start;
        if (this.#bytes <= this.#limit) this.#rows.push(Buffer.from(frame));
      } else this.#others.write(Buffer.from(frame));
    }
    return true;
  }

  async drained(): Promise<void> {}

  /** @throws ScatterLimitExceeded when there were more than could be held */
  take(): HeldRows {
    if (this.#bytes > this.#limit)
      throw new ScatterLimitExceeded("rows of cursors over several shards", LARGEST_HELD_BYTES);
    return new HeldRows(this.#description, this.#rows, this.#bytes);
  }
}
