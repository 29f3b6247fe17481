import type { SqlClient } from "../../backend/sql-client.js";
import { assert } from "../../core/assert.js";
import type { CopyRangeInput } from "../model/activities.js";
import type { MigrationRef, TablePlan } from "../model/migration.js";
import { type KeyRange, tableLabel } from "./range-sql.js";

/** A row of sluice.copy_chunk on one destination shard. */
export interface Chunk extends KeyRange {
  readonly range: number;
  /** null: this shard does not hold the range. */
  readonly snapshot: string | null;
  readonly rowCount: number;
  readonly byteCount: number;
}

interface ChunkRow {
  readonly range: number;
  readonly lower_bound: string | null;
  readonly upper_bound: string | null;
  readonly snapshot: string | null;
  readonly row_count: string;
  readonly byte_count: string;
}

const COLUMNS = "range, lower_bound, upper_bound, snapshot, row_count, byte_count";

/** The ranges of a table of one source shard as this shard has them, in order. */
export async function readChunks(
  client: SqlClient,
  ref: MigrationRef,
  of: { readonly table: TablePlan; readonly sourceShard: number },
): Promise<readonly Chunk[]> {
  const result = await client.query<ChunkRow>(
    `SELECT ${COLUMNS} FROM sluice.copy_chunk
      WHERE migration = $1 AND source_shard = $2 AND schema_name = $3 AND table_name = $4
      ORDER BY range`,
    [ref.id, of.sourceShard, of.table.schema, of.table.name],
  );
  return result.rows.map(toChunk);
}

/** @throws InvariantBroken when the plan was not stored */
export async function readChunk(client: SqlClient, input: CopyRangeInput): Promise<Chunk> {
  const result = await client.query<ChunkRow>(
    `SELECT ${COLUMNS} FROM sluice.copy_chunk
      WHERE migration = $1 AND source_shard = $2 AND schema_name = $3 AND table_name = $4
        AND range = $5`,
    keyOf(input),
  );
  const [row] = result.rows;
  assert(row, `range ${input.range} of ${input.schema}.${input.table} is not planned`);
  return toChunk(row);
}

/** Existing rows stay: whoever was first has decided the cuts. */
export async function insertChunks(
  client: SqlClient,
  ref: MigrationRef,
  of: {
    readonly table: TablePlan;
    readonly sourceShard: number;
    readonly ranges: readonly KeyRange[];
  },
): Promise<void> {
  await client.query(
    `INSERT INTO sluice.copy_chunk
       (migration, source_shard, schema_name, table_name, range, lower_bound, upper_bound)
     SELECT $1, $2, $3, $4, (number - 1)::integer, lower_bound, upper_bound
       FROM unnest($5::text[], $6::text[]) WITH ORDINALITY AS cut (lower_bound, upper_bound, number)
     ON CONFLICT DO NOTHING`,
    [
      ref.id,
      of.sourceShard,
      of.table.schema,
      of.table.name,
      of.ranges.map((range) => range.lower),
      of.ranges.map((range) => range.upper),
    ],
  );
}

/** Part of the transaction that writes the rows (R8). */
export async function markCopied(
  client: SqlClient,
  input: CopyRangeInput,
  copied: {
    readonly snapshot: string;
    readonly rowCount: number;
    readonly byteCount: number;
  },
): Promise<void> {
  const result = await client.query(
    `UPDATE sluice.copy_chunk
        SET snapshot = $6, row_count = $7, byte_count = $8, copied_at = clock_timestamp()
      WHERE migration = $1 AND source_shard = $2 AND schema_name = $3 AND table_name = $4
        AND range = $5`,
    [...keyOf(input), copied.snapshot, copied.rowCount, copied.byteCount],
  );
  assert(result.rowCount === 1, "the range's record is gone");
}

/** R8: every shard holds the range, and from the same snapshot. */
export function isDone(chunks: readonly Chunk[]): boolean {
  const snapshot = chunks[0]?.snapshot ?? null;
  return snapshot !== null && chunks.every((chunk) => chunk.snapshot === snapshot);
}

/** @throws InvariantBroken when a key could be in no range or in two */
export function assertCovers(table: TablePlan, chunks: readonly KeyRange[]): void {
  let expected: string | null = null;
  for (const chunk of chunks) {
    assert(chunk.lower === expected, `ranges of ${tableLabel(table)} leave a gap or overlap`);
    expected = chunk.upper;
  }
  assert(chunks.length > 0 && expected === null, `ranges of ${tableLabel(table)} have an end`);
}

function keyOf(input: CopyRangeInput): unknown[] {
  return [input.ref.id, input.sourceShard, input.schema, input.table, input.range];
}

function toChunk(row: ChunkRow): Chunk {
  return {
    range: row.range,
    lower: row.lower_bound,
    upper: row.upper_bound,
    snapshot: row.snapshot,
    rowCount: Number(row.row_count),
    byteCount: Number(row.byte_count),
  };
}
