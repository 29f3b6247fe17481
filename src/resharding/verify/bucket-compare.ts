import { type KeyRange, rangeCondition, tableName } from "../copy/range-sql.js";
import type { TablePlan } from "../model/migration.js";
import { bucketOf, placeOf, rowHash } from "./row-sql.js";
import { allShards, type SideReader, shardsFrom } from "./sides-reader.js";

export interface ComparedSides {
  readonly from: SideReader;
  readonly to: SideReader;
}

export interface RangeScope {
  readonly table: TablePlan;
  readonly range: KeyRange;
  /** A power of two. */
  readonly bucketCount: number;
}

export interface ShardTotal {
  readonly rowCount: number;
  /** Sum of the rows' hashes. */
  readonly hash: bigint;
}

export interface RangeSums {
  /** What the from-side has for each to-shard, as the router places it. */
  readonly expected: readonly ShardTotal[];
  /** Buckets in which some to-shard differs from that, or holds rows that do not route there. */
  readonly suspicious: readonly number[];
  /** Rows of the from-side that have no place. */
  readonly unplacedRows: number;
}

interface SumRow {
  readonly place: number | null;
  readonly bucket: number;
  readonly row_count: string;
  readonly hash: string;
}

/**
 * R40: compares count and order-independent hash of a range, per to-shard as the router would place the
 * rows. Sums over all shards could not see a row that is on the wrong one. Buckets narrow a difference down
 * without a second scan of the sums.
 */
export async function compareSums(sides: ComparedSides, scope: RangeScope): Promise<RangeSums> {
  const { table } = scope;
  const sql = sumsSql(scope, sides.to.shardCount);
  const [fromRows, toRows] = await Promise.all([
    sides.from.read<SumRow>(table, { shards: shardsFrom(table, sides.from), sql }),
    sides.to.read<SumRow>(table, { shards: allShards(sides.to), sql }),
  ]);
  const expected = new Map<string, ShardTotal>();
  let unplacedRows = 0;
  for (const row of fromRows.flat()) {
    if (row.place === null) unplacedRows += Number(row.row_count);
    for (const shard of destinationsOf(table, row.place, sides.to))
      addTo(expected, `${shard}/${row.bucket}`, row);
  }
  const found = new Map<string, ShardTotal>();
  const suspicious = new Set<number>();
  for (const [shard, rows] of toRows.entries())
    for (const row of rows) {
      addTo(found, `${shard}/${row.bucket}`, row);
      const isAtHome = table.kind === "omnisharded" || row.place === shard;
      if (!isAtHome) suspicious.add(row.bucket);
    }
  for (const key of new Set([...expected.keys(), ...found.keys()]))
    if (!isEqual(expected.get(key), found.get(key))) suspicious.add(Number(key.split("/")[1]));
  return {
    expected: allShards(sides.to).map((shard) => totalOf(expected, shard)),
    suspicious: [...suspicious].sort((a, b) => a - b),
    unplacedRows,
  };
}

/** The to-shards on which a row of the from-side must be. */
export function destinationsOf(
  table: TablePlan,
  place: number | null,
  to: SideReader,
): readonly number[] {
  if (table.kind === "omnisharded") return allShards(to);
  return place === null ? [] : [place];
}

function sumsSql({ table, range, bucketCount }: RangeScope, shardCount: number): string {
  return `SELECT place, bucket, count(*) AS row_count, sum(hash)::text AS hash
    FROM (SELECT ${placeOf(table, shardCount)} AS place, ${bucketOf(table, bucketCount)} AS bucket,
                 ${rowHash(table)} AS hash
            FROM ONLY ${tableName(table)} WHERE ${rangeCondition(table, range)}) AS hashed
   GROUP BY place, bucket`;
}

const NOTHING: ShardTotal = { rowCount: 0, hash: 0n };

export function addTotals(one: ShardTotal, other: ShardTotal): ShardTotal {
  return { rowCount: one.rowCount + other.rowCount, hash: one.hash + other.hash };
}

function addTo(totals: Map<string, ShardTotal>, key: string, row: SumRow): void {
  const added = { rowCount: Number(row.row_count), hash: BigInt(row.hash) };
  totals.set(key, addTotals(totals.get(key) ?? NOTHING, added));
}

function isEqual(one: ShardTotal = NOTHING, other: ShardTotal = NOTHING): boolean {
  return one.rowCount === other.rowCount && one.hash === other.hash;
}

function totalOf(totals: ReadonlyMap<string, ShardTotal>, shard: number): ShardTotal {
  let sum = NOTHING;
  for (const [key, total] of totals) if (key.startsWith(`${shard}/`)) sum = addTotals(sum, total);
  return sum;
}
