import type { MergePlan, OrderKey } from "../../../router/route.js";
import type { ColumnDescription } from "../../../wire/backend.js";
import { UnmergeableResult } from "./scatter-errors.js";
import { type Comparable, compareValues, type Decoder, decoderOf } from "./value.js";

/** A row's sort keys, in the order of ORDER BY; null is NULL. */
export type SortKeys = readonly (Comparable | null)[];

/** ORDER BY over rows as they lie in DataRow messages. */
export class Ordering {
  readonly #keys: readonly OrderKey[];
  readonly #decoders: readonly Decoder[];

  /** @throws UnmergeableResult for a column that we cannot sort as PostgreSQL does */
  constructor({ orderBy, enums }: MergePlan, columns: readonly ColumnDescription[]) {
    this.#keys = orderBy;
    this.#decoders = orderBy.map((key) => {
      const column = columns[key.column];
      if (column !== undefined)
        return decoderOf(column, key.isBytewise, enums?.[key.column] ?? null);
      throw new UnmergeableResult(
        `ORDER BY position ${key.column + 1} is not in the output`,
        "Order by a column that the statement returns.",
      );
    });
  }

  /** @param values the row's columns */
  keysOf(values: readonly (Buffer | null)[]): SortKeys {
    return this.#keys.map((key, index) => {
      const value = values[key.column] ?? null;
      return value === null ? null : (this.#decoders[index]?.(value) ?? null);
    });
  }

  compare(one: SortKeys, other: SortKeys): number {
    for (const [index, key] of this.#keys.entries()) {
      const difference = compareKey(one[index] ?? null, other[index] ?? null, key);
      if (difference !== 0) return difference;
    }
    return 0;
  }
}

function compareKey(one: Comparable | null, other: Comparable | null, key: OrderKey): number {
  if (one === null || other === null) {
    if (one === other) return 0;
    return (one === null) === key.nullsFirst ? -1 : 1;
  }
  const difference = compareValues(one, other);
  return key.isDescending ? -difference : difference;
}
