import type { ShardId } from "../../topology/topology.js";
import type { HeldRows } from "./held-rows.js";

export type Cursor =
  /** Of the one shard that has all rows: its own. */
  | { readonly kind: "server"; readonly shard: ShardId; readonly madeIn: number | null }
  /** Rows of several shards, or that outlive the transaction: as they were when it was declared. */
  | {
      readonly kind: "rows";
      readonly rows: HeldRows;
      readonly isHeld: boolean;
      /** Declared NO SCROLL. */
      readonly isForward: boolean;
      /** The transaction that it ends with; null: with the session. */
      madeIn: number | null;
    };

/**
 * SQL's cursors over shards, by name. A cursor is insensitive: it shows the rows of the moment of DECLARE, so that rows
 * which were gathered then are what it shows. Where one shard has them all and the cursor ends with its transaction,
 * that shard's own is used, and nothing is held here.
 */
export class OpenCursors {
  readonly #cursors = new Map<string, Cursor>();

  get(name: string): Cursor | null {
    return this.#cursors.get(name) ?? null;
  }

  set(name: string, cursor: Cursor): void {
    this.#cursors.set(name, cursor);
  }

  delete(name: string): void {
    this.#cursors.delete(name);
  }

  closeAll(): void {
    this.#cursors.clear();
  }

  /** A cursor that outlives its transaction is open: the session has rows here that nowhere else are. */
  get hasHeld(): boolean {
    return [...this.#cursors.values()].some(({ madeIn }) => madeIn === null);
  }

  get heldBytes(): number {
    let sum = 0;
    for (const cursor of this.#cursors.values())
      if (cursor.kind === "rows") sum += cursor.rows.bytes;
    return sum;
  }

  /** That have cursors of their own. */
  get shards(): ReadonlySet<ShardId> {
    const cursors = [...this.#cursors.values()];
    return new Set(cursors.flatMap((one) => (one.kind === "server" ? [one.shard] : [])));
  }

  /** The transaction of that number has committed: what was declared WITH HOLD stays. */
  committed(transaction: number): void {
    for (const cursor of this.#cursors.values())
      if (cursor.kind === "rows" && cursor.isHeld && cursor.madeIn === transaction)
        cursor.madeIn = null;
  }

  /** Cursors of other transactions have ended with them. @param transaction the number of the present one */
  forgetOthersThan(transaction: number): void {
    for (const [name, { madeIn }] of this.#cursors)
      if (madeIn !== null && madeIn !== transaction) this.#cursors.delete(name);
  }
}
