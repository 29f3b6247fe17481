import type { MergePlan } from "../../../router/route.js";
import { type ColumnDescription, decodeDataRow, encodeDataRow } from "../../../wire/backend.js";
import { Aggregation } from "./aggregation.js";
import { rowWithout } from "./hidden-columns.js";
import { Ordering, type SortKeys } from "./ordering.js";
import type { Outlet } from "./outlet.js";

/** Makes one stream of rows out of the shards'. Every call but `finish` is synchronous. */
export interface Merger {
  /** The columns are known; before any row. @throws UnmergeableResult */
  begin(columns: readonly ColumnDescription[]): void;
  /** Whole DataRow messages of shard number `inlet`: `buffer[start..end)`. */
  rows(inlet: number, buffer: Buffer, start: number, end: number): void;
  /** No more rows of this shard. */
  ended(inlet: number): void;
  /** Goes on after the client's end was full. */
  pump(): void;
  /** Bytes that wait here for another shard's rows. */
  waitingBytes(inlet: number): number;
  /** All shards have ended: writes what is left. */
  finish(): Promise<void>;
  /** Rows given to the client; null: all that came. */
  readonly rowCount: number | null;
}

/** LIMIT and OFFSET over the merged rows. */
class Cut {
  readonly #outlet: Outlet;
  readonly #end: number;
  readonly #offset: number;
  #seen = 0;
  rowCount = 0;

  constructor(outlet: Outlet, { limit, offset }: MergePlan) {
    this.#outlet = outlet;
    this.#offset = offset;
    this.#end = limit === null ? Number.POSITIVE_INFINITY : offset + limit;
  }

  get isFull(): boolean {
    return this.#seen >= this.#end;
  }

  write(frame: Buffer): void {
    if (this.isFull) return;
    this.#seen++;
    if (this.#seen <= this.#offset) return;
    this.rowCount++;
    this.#outlet.write(frame);
  }
}

export function frameEnd(buffer: Buffer, start: number): number {
  return start + 1 + buffer.readInt32BE(start + 1);
}

/** Rows in the order in which they arrive, in the slices in which they arrive. */
export class PassThrough implements Merger {
  readonly #outlet: Outlet;
  readonly #cut: Cut | null;

  constructor(outlet: Outlet, plan: MergePlan) {
    this.#outlet = outlet;
    const isCut = plan.limit !== null || plan.offset > 0;
    this.#cut = isCut ? new Cut(outlet, plan) : null;
  }

  get rowCount(): number | null {
    return this.#cut?.rowCount ?? null;
  }

  begin(): void {}

  rows(_inlet: number, buffer: Buffer, start: number, end: number): void {
    const cut = this.#cut;
    if (cut === null) this.#outlet.write(buffer.subarray(start, end));
    else {
      for (let at = start; at < end && !cut.isFull; ) {
        const next = frameEnd(buffer, at);
        cut.write(buffer.subarray(at, next));
        at = next;
      }
    }
    this.#outlet.flush();
  }

  ended(): void {}
  pump(): void {}

  waitingBytes(): number {
    return 0;
  }

  async finish(): Promise<void> {
    this.#outlet.flush();
  }
}

/** Rows of one shard that wait for their turn. */
class Queue {
  #frames: Buffer[] = [];
  #next = 0;
  bytes = 0;
  isEnded = false;
  /** Sort keys of the first row. */
  keys: SortKeys | null = null;

  push(frame: Buffer): void {
    this.#frames.push(frame);
    this.bytes += frame.length;
  }

  get head(): Buffer | undefined {
    return this.#frames[this.#next];
  }

  shift(): void {
    this.bytes -= this.head?.length ?? 0;
    this.keys = null;
    this.#next++;
    if (this.#next < this.#frames.length) return;
    this.#frames = [];
    this.#next = 0;
  }
}

/**
 * ORDER BY: each shard's rows come sorted, so the least of the first rows is the next one.
 *
 *     shard 0   3 5 9 ...   \
 *     shard 1   4 4 ...      >  3 4 4 5 ...   needs a row, or the end, of every shard to go on
 *     shard 2   8 ...       /
 *
 * Looks at all the first rows for each: with the few shards of a database that is as fast as a heap.
 */
export class OrderedMerge implements Merger {
  readonly #outlet: Outlet;
  readonly #plan: MergePlan;
  readonly #cut: Cut;
  readonly #queues: readonly Queue[];
  #ordering: Ordering | null = null;

  constructor(outlet: Outlet, plan: MergePlan, inlets: number) {
    this.#outlet = outlet;
    this.#plan = plan;
    this.#cut = new Cut(outlet, plan);
    this.#queues = Array.from({ length: inlets }, () => new Queue());
  }

  get rowCount(): number {
    return this.#cut.rowCount;
  }

  begin(columns: readonly ColumnDescription[]): void {
    this.#ordering = new Ordering(this.#plan, columns);
  }

  rows(inlet: number, buffer: Buffer, start: number, end: number): void {
    const queue = this.#queues[inlet];
    for (let at = start; at < end && !this.#cut.isFull; ) {
      const next = frameEnd(buffer, at);
      queue?.push(buffer.subarray(at, next));
      at = next;
    }
    this.pump();
  }

  ended(inlet: number): void {
    const queue = this.#queues[inlet];
    if (queue) queue.isEnded = true;
    this.pump();
  }

  waitingBytes(inlet: number): number {
    return this.#queues[inlet]?.bytes ?? 0;
  }

  pump(): void {
    while (!this.#outlet.isBlocked && !this.#cut.isFull) {
      const least = this.#least();
      if (least === null) break;
      const { head } = least;
      if (head !== undefined) this.#cut.write(this.#shown(head));
      least.shift();
    }
    if (this.#cut.isFull) for (const queue of this.#queues) while (queue.head) queue.shift();
    this.#outlet.flush();
  }

  #shown(row: Buffer): Buffer {
    const { hidden = 0 } = this.#plan;
    return hidden > 0 ? rowWithout(row, hidden) : row;
  }

  /** null: a shard has still to say what its next row is, or there is none left. */
  #least(): Queue | null {
    const ordering = this.#ordering;
    let least: Queue | null = null;
    let leastKeys: SortKeys = [];
    for (const queue of this.#queues) {
      const { head } = queue;
      if (head === undefined) {
        if (queue.isEnded) continue;
        return null;
      }
      if (ordering === null) return null;
      queue.keys ??= ordering.keysOf(decodeDataRow(head));
      if (least !== null && ordering.compare(queue.keys, leastKeys) >= 0) continue;
      least = queue;
      leastKeys = queue.keys;
    }
    return least;
  }

  async finish(): Promise<void> {
    while (this.#queues.some((queue) => queue.head !== undefined)) {
      await this.#outlet.free();
      this.pump();
    }
  }
}

/** Aggregates, with or without groups: all rows are held until the last shard has ended. */
export class AggregateMerge implements Merger {
  readonly #outlet: Outlet;
  readonly #plan: MergePlan;
  readonly #cut: Cut;
  #aggregation: Aggregation | null = null;
  #ordering: Ordering | null = null;

  constructor(outlet: Outlet, plan: MergePlan) {
    this.#outlet = outlet;
    this.#plan = plan;
    this.#cut = new Cut(outlet, plan);
  }

  get rowCount(): number {
    return this.#cut.rowCount;
  }

  begin(columns: readonly ColumnDescription[]): void {
    this.#aggregation = new Aggregation(this.#plan, columns);
    if (this.#plan.orderBy.length > 0) this.#ordering = new Ordering(this.#plan, columns);
  }

  rows(_inlet: number, buffer: Buffer, start: number, end: number): void {
    for (let at = start; at < end; ) {
      const next = frameEnd(buffer, at);
      // A copy: a slice would keep the whole chunk that it lies in.
      this.#aggregation?.add(decodeDataRow(Buffer.from(buffer.subarray(at, next))));
      at = next;
    }
  }

  ended(): void {}
  pump(): void {}

  waitingBytes(): number {
    return 0;
  }

  async finish(): Promise<void> {
    for (const values of this.#sorted()) {
      this.#cut.write(encodeDataRow(values.slice(this.#plan.hidden ?? 0)));
      await this.#outlet.free();
    }
    this.#outlet.flush();
  }

  #sorted(): Iterable<(Buffer | null)[]> {
    const rows = this.#aggregation?.rows() ?? [];
    const ordering = this.#ordering;
    if (ordering === null) return rows;
    return [...rows]
      .map((values) => ({ values, keys: ordering.keysOf(values) }))
      .sort((one, other) => ordering.compare(one.keys, other.keys))
      .map(({ values }) => values);
  }
}
