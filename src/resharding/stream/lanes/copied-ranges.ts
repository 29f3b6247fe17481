import type { SqlClient } from "../../../backend/sql-client.js";
import { NotReady } from "../../../core/errors.js";
import { isVisible, parseSnapshot, type Snapshot, widenXid } from "../../../core/snapshot.js";
import type { MigrationRef, RangeKeyType, TablePlan } from "../../model/migration.js";

/** A copied key range: rows with `lower <= key < upper` as `snapshot` saw them. null: open. */
export interface CopiedRange {
  readonly lower: string | null;
  readonly upper: string | null;
  readonly snapshot: Snapshot;
}

/**
 * Finds the range of a key in a table's copied ranges. The order is PostgreSQL's for these types: integers by
 * value, uuids by their canonical text, which sorts as their bytes do (R5).
 */
export class RangeMap {
  readonly #ranges: readonly CopiedRange[];
  readonly #isBelow: (key: string, bound: string) => boolean;

  /** @param rangeType null: the table is one range */
  constructor(ranges: readonly CopiedRange[], rangeType: RangeKeyType | null) {
    this.#isBelow = rangeType === "int" ? isIntegerBelow : isTextBelow;
    this.#ranges = [...ranges].sort((a, b) => this.#compareLower(a, b));
  }

  /** @param key text of the range column; ignored where the table is one range */
  find(key: string): CopiedRange | null {
    if (this.#ranges.length === 1) return this.#ranges[0] ?? null;
    let low = 0;
    let high = this.#ranges.length;
    // The last range whose lower bound is not above the key.
    while (low < high) {
      const middle = (low + high) >>> 1;
      const lower = this.#ranges[middle]?.lower ?? null;
      if (lower === null || !this.#isBelow(key, lower)) low = middle + 1;
      else high = middle;
    }
    return this.#ranges[low - 1] ?? null;
  }

  #compareLower(a: CopiedRange, b: CopiedRange): number {
    if (a.lower === b.lower) return 0;
    if (a.lower === null) return -1;
    if (b.lower === null) return 1;
    return this.#isBelow(a.lower, b.lower) ? -1 : 1;
  }
}

function isIntegerBelow(key: string, bound: string): boolean {
  return BigInt(key) < BigInt(bound);
}

function isTextBelow(key: string, bound: string): boolean {
  return key.toLowerCase() < bound.toLowerCase();
}

/** R1: whether the copy of the range has this transaction's change already. */
export function isInRange(range: CopiedRange, xid: number): boolean {
  return isVisible(widenXid(xid, range.snapshot), range.snapshot);
}

interface ChunkRow {
  readonly schema_name: string;
  readonly table_name: string;
  readonly lower_bound: string | null;
  readonly upper_bound: string | null;
  readonly snapshot: string | null;
}

/**
 * The ranges that this shard holds of one source shard, by "schema.table".
 * @throws NotReady when a range of a moving table is not copied yet: a change to it could not be judged
 */
export async function loadRanges(
  client: SqlClient,
  ref: MigrationRef,
  fromShard: number,
  tables: readonly TablePlan[],
): Promise<ReadonlyMap<string, RangeMap>> {
  const { rows } = await client.query<ChunkRow>(
    `SELECT schema_name, table_name, lower_bound, upper_bound, snapshot
     FROM sluice.copy_chunk WHERE migration = $1 AND source_shard = $2`,
    [ref.id, fromShard],
  );
  const ranges = new Map<string, CopiedRange[]>();
  const missing: string[] = [];
  for (const row of rows) {
    const name = `${row.schema_name}.${row.table_name}`;
    if (row.snapshot === null) {
      missing.push(name);
      continue;
    }
    const list = ranges.get(name) ?? [];
    ranges.set(name, list);
    const snapshot = parseSnapshot(row.snapshot);
    list.push({ lower: row.lower_bound, upper: row.upper_bound, snapshot });
  }
  const maps = new Map<string, RangeMap>();
  for (const table of tables) {
    const name = `${table.schema}.${table.name}`;
    const list = ranges.get(name);
    // Only the owner shard copies an omnisharded table (R13).
    if (list) maps.set(name, new RangeMap(list, table.rangeType));
    else if (table.kind === "sharded" || fromShard === 0) missing.push(name);
  }
  if (missing.length > 0)
    throw new NotReady("the stream cannot be applied before the copy is done", {
      detail: `not copied yet: ${[...new Set(missing)].slice(0, 5).join(", ")}`,
    });
  return maps;
}
