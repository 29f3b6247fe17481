import { assert } from "../../core/assert.js";
import type { EngineContext } from "../context.js";
import { type KeyRange, tableLabel, tableName } from "../copy/range-sql.js";
import type { TablePlan } from "../model/migration.js";
import {
  addTotals,
  type ComparedSides,
  compareSums,
  type RangeScope,
  type ShardTotal,
} from "./bucket-compare.js";
import { type RowKey, readExpected, readFound, stateOf } from "./key-compare.js";
import type { UnsettledNames } from "./marker-passer.js";
import { type Difference, settleKeys } from "./settle.js";
import { allShards, shardsFrom } from "./sides-reader.js";

export interface TableComparison {
  /** Per to-shard, what the from-side has for it. */
  readonly expected: readonly ShardTotal[];
  readonly differences: readonly Difference[];
  readonly movingCount: number;
  readonly unplacedRows: number;
  /** Suspicious keys beyond what one pass looks at. */
  readonly uncheckedCount: number;
}

export interface CompareInput {
  readonly sides: ComparedSides;
  readonly table: TablePlan;
  /** Cover the table. */
  readonly ranges: readonly KeyRange[];
  /** See `settleKeys`. */
  readonly passMarker: () => Promise<UnsettledNames>;
}

/** Rows per bucket that we aim at, so that a changed row costs the listing of so many. */
const BUCKET_ROWS = 500;
const MAX_BUCKETS = 8192;
const MIN_BUCKETS = 16;
/** A guess for narrow rows; only the number of buckets depends on it. */
const ROWS_PER_PAGE = 60;
/** Listed at once, so that memory does not grow with the table. */
const BUCKETS_PER_LISTING = 64;
/** More suspicious keys than this in a range, and the pass says so instead of reading them all again. */
const MAX_SUSPICIOUS_KEYS = 20_000;

/** Compares one table while both sides may change. Bounded in memory and in re-reads. */
export async function compareTable(
  context: EngineContext,
  input: CompareInput,
): Promise<TableComparison> {
  const { sides, table, ranges } = input;
  const bucketCount = await chooseBucketCount(input);
  let expected: readonly ShardTotal[] = allShards(sides.to).map(() => ({ rowCount: 0, hash: 0n }));
  const differences: Difference[] = [];
  let [movingCount, unplacedRows, uncheckedCount] = [0, 0, 0];
  for (const [index, range] of ranges.entries()) {
    context.signal.throwIfAborted();
    const scope: RangeScope = { table, range, bucketCount };
    const sums = await compareSums(sides, scope);
    expected = expected.map((total, shard) => addTotals(total, sumOf(sums.expected, shard)));
    unplacedRows += sums.unplacedRows;
    const suspects = await listSuspects(context, { sides, scope, buckets: sums.suspicious });
    const settled = await settleKeys(sides, scope, { ...input, keys: suspects.keys });
    differences.push(...settled.differences);
    movingCount += settled.movingCount;
    uncheckedCount += suspects.uncheckedCount;
    const rowCount = expected.reduce((sum, total) => sum + total.rowCount, 0);
    context.heartbeat({
      table: tableLabel(table),
      verifiedRanges: index + 1,
      rangeCount: ranges.length,
      rowCount,
    });
  }
  return { expected, differences, movingCount, unplacedRows, uncheckedCount };
}

interface Suspects {
  readonly keys: readonly RowKey[];
  readonly uncheckedCount: number;
}

/** Keys of the suspicious buckets whose rows differ. Under traffic most of them are only in motion. */
async function listSuspects(
  context: EngineContext,
  input: {
    readonly sides: ComparedSides;
    readonly scope: RangeScope;
    readonly buckets: readonly number[];
  },
): Promise<Suspects> {
  const { sides, scope } = input;
  const keys: RowKey[] = [];
  let uncheckedCount = 0;
  for (let at = 0; at < input.buckets.length; at += BUCKETS_PER_LISTING) {
    context.signal.throwIfAborted();
    if (keys.length >= MAX_SUSPICIOUS_KEYS) {
      uncheckedCount += input.buckets.length - at;
      break;
    }
    const buckets = input.buckets.slice(at, at + BUCKETS_PER_LISTING);
    const selection = { kind: "buckets", buckets } as const;
    const [expected, found] = await Promise.all([
      readExpected(sides, scope, selection),
      readFound(sides, scope, selection),
    ]);
    for (const key of new Set([...expected.keys(), ...found.keys()]))
      if (stateOf(expected, key).value !== stateOf(found, key).value) keys.push(key);
  }
  const checked = keys.slice(0, MAX_SUSPICIOUS_KEYS);
  return { keys: checked, uncheckedCount: uncheckedCount + keys.length - checked.length };
}

async function chooseBucketCount({ sides, table, ranges }: CompareInput): Promise<number> {
  const sizes = await sides.from.read<{ pages: string }>(table, {
    shards: shardsFrom(table, sides.from),
    sql: "SELECT pg_relation_size($1::regclass) / current_setting('block_size')::bigint AS pages",
    values: [tableName(table)],
  });
  const pages = sizes.flat().reduce((sum, row) => sum + Number(row.pages), 0);
  const wanted = (pages * ROWS_PER_PAGE) / ranges.length / BUCKET_ROWS;
  let count = MIN_BUCKETS;
  while (count < wanted && count < MAX_BUCKETS) count *= 2;
  return count;
}

function sumOf(totals: readonly ShardTotal[], shard: number): ShardTotal {
  const total = totals[shard];
  assert(total, `no sum for shard ${shard}`);
  return total;
}
