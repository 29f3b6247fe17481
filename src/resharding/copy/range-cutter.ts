import type { SqlClient } from "../../backend/sql-client.js";
import { assert } from "../../core/assert.js";
import { quoteIdentifier } from "../../core/identifier.js";
import type { TablePlan } from "../model/migration.js";
import { type KeyRange, tableName, WHOLE_TABLE } from "./range-sql.js";

/** Read to estimate the table, however large it is: 16 MB. */
const SAMPLE_PAGES = 2000;
/** Of one table; the list travels as a workflow payload. */
const MAX_RANGES = 2000;
/** Both queries see the same pages. */
const SEED = 1;

export interface Cut {
  readonly ranges: readonly KeyRange[];
  readonly estimatedRows: number;
}

/**
 * Cuts a table into ranges of about `rangeRows` rows, by the percentiles of a sample of its pages. The cuts
 * need not be even, only complete: the first range has no lower and the last no upper bound. Runs in the
 * caller's transaction.
 */
export async function cutRanges(
  client: SqlClient,
  table: TablePlan,
  rangeRows: number,
): Promise<Cut> {
  const { percent, estimatedRows } = await estimate(client, table);
  const count = Math.min(MAX_RANGES, Math.ceil(estimatedRows / rangeRows));
  if (table.rangeColumn === null || count < 2) return { ranges: [WHOLE_TABLE], estimatedRows };
  const fractions = Array.from({ length: count - 1 }, (_, index) => (index + 1) / count);
  const column = quoteIdentifier(table.rangeColumn);
  // A frequent value is several percentiles at once; DISTINCT makes it one bound. Ordered by the type, not
  // by the text.
  const result = await client.query<{ bound: string }>(
    `SELECT bound::text FROM (
       SELECT DISTINCT unnest(percentile_disc($1::float8[]) WITHIN GROUP (ORDER BY ${column})) AS bound
         FROM ONLY ${tableName(table)} TABLESAMPLE SYSTEM ($2::real) REPEATABLE (${SEED})) AS cut
      WHERE cut.bound IS NOT NULL
      ORDER BY cut.bound`,
    [fractions, percent],
  );
  return { ranges: between(result.rows.map((row) => row.bound)), estimatedRows };
}

function between(bounds: readonly string[]): readonly KeyRange[] {
  return [...bounds, null].map((upper, index) => ({ lower: bounds[index - 1] ?? null, upper }));
}

/** From the pages, not from pg_class.reltuples, which is -1 or stale where nothing was analysed. */
async function estimate(
  client: SqlClient,
  table: TablePlan,
): Promise<{ percent: number; estimatedRows: number }> {
  const name = tableName(table);
  const sized = await client.query<{ pages: string }>(
    "SELECT pg_relation_size($1::regclass) / current_setting('block_size')::bigint AS pages",
    [name],
  );
  const pages = Number(sized.rows[0]?.pages ?? 0);
  const percent = pages <= SAMPLE_PAGES ? 100 : (100 * SAMPLE_PAGES) / pages;
  const counted = await client.query<{ rows: string }>(
    `SELECT count(*) AS rows FROM ONLY ${name} TABLESAMPLE SYSTEM ($1::real) REPEATABLE (${SEED})`,
    [percent],
  );
  const [row] = counted.rows;
  assert(row, "count(*) returns a row");
  return { percent, estimatedRows: Math.round((Number(row.rows) * 100) / percent) };
}
