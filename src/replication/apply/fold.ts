import { fillUnchanged, type Tuple } from "../tuple.js";

/**
 * The net change of one key over a batch.
 * - insert: the row was absent before the batch.
 * - update: it was there as `match` and becomes `row`.
 * - delete: it was there as `match`.
 */
export type NetChange =
  | { readonly kind: "insert"; readonly row: Tuple }
  | { readonly kind: "update"; readonly match: Tuple; readonly row: Tuple }
  | { readonly kind: "delete"; readonly match: Tuple };

const EVERY_COLUMN = () => true;

/**
 * Folds the changes of one table to one per key, so that a row that was touched a hundred times is written
 * once (performance: 0.86 of a native subscription's CPU, against 1.17 with a statement per change).
 *
 *     absent:  I -> insert    insert: U -> insert, D -> nothing
 *     there:   U -> update    update: U -> update, D -> delete
 *              D -> delete    delete: I -> update of the whole row
 *
 * Every other pair contradicts itself: the change is refused (false) and the caller says so (R17).
 * The changes must have been judged before (R3): folding first joins what one range's snapshot has seen with
 * what it has not.
 */
export class Fold {
  readonly #changes = new Map<string, NetChange>();

  get size(): number {
    return this.#changes.size;
  }

  insert(key: string, row: Tuple): boolean {
    const before = this.#changes.get(key);
    if (before === undefined) {
      this.#changes.set(key, { kind: "insert", row });
      return true;
    }
    if (before.kind !== "delete") return false;
    this.#changes.set(key, { kind: "update", match: before.match, row });
    return true;
  }

  update(key: string, match: Tuple, row: Tuple): boolean {
    const before = this.#changes.get(key);
    if (before === undefined) {
      this.#changes.set(key, { kind: "update", match, row });
      return true;
    }
    if (before.kind === "delete") return false;
    // R12: what this update did not carry, an earlier change of the batch may have.
    const filled = fillUnchanged(row, before.row, EVERY_COLUMN);
    this.#changes.set(
      key,
      before.kind === "insert"
        ? { kind: "insert", row: filled }
        : { kind: "update", match: before.match, row: filled },
    );
    return true;
  }

  delete(key: string, match: Tuple): boolean {
    const before = this.#changes.get(key);
    if (before === undefined) {
      this.#changes.set(key, { kind: "delete", match });
      return true;
    }
    if (before.kind === "delete") return false;
    if (before.kind === "insert") this.#changes.delete(key);
    else this.#changes.set(key, { kind: "delete", match: before.match });
    return true;
  }

  values(): IterableIterator<NetChange> {
    return this.#changes.values();
  }
}
