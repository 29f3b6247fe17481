import type { ShardId } from "../../topology/topology.js";

/** Rows that all cursors of one session may hold here. */
export const LARGEST_CURSORS_BYTES = 64 * 1024 * 1024;

export type Cursor =
  /** Of the one shard that has all rows: its own. */
  | { readonly kind: "server"; readonly shard: ShardId; readonly madeIn: number | null }
  /** Rows of several shards, or that outlive the transaction: as they were when it was declared. */
  | {
      readonly kind: "rows";
      readonly description: Buffer;
      readonly rows: readonly Buffer[];
      readonly bytes: number;
      readonly isHeld: boolean;
      next: number;
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
    for (const cursor of this.#cursors.values()) if (cursor.kind === "rows") sum += cursor.bytes;
    return sum;
  }

  /** That have cursors of their own. */
  get shards(): ReadonlySet<ShardId> {
    const cursors = [...this.#cursors.values()];
    return new Set(cursors.flatMap((one) => (one.kind === "server" ? [one.shard] : [])));
  }

  /** What Describe of a portal by this name tells, which in PostgreSQL a cursor is; null: there is none. */
  describe(name: string): { readonly shard: ShardId } | { readonly description: Buffer } | null {
    return this.get(name);
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
