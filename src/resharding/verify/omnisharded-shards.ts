import { type SqlClient, sqlStateOf } from "../../backend/sql-client.js";
import { quoteIdentifier, quoteQualified } from "../../core/identifier.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { Cluster } from "../context.js";
import { classify } from "../preflight/table-class.js";

export interface OmnishardedTable {
  readonly schema: string;
  readonly name: string;
  /** Of the primary key; empty: rows are compared as a whole. */
  readonly keyColumns: readonly string[];
}

/** A shard that does not have what the first one has. Nothing in it is of a row (R56). */
export interface OmnishardedDifference extends OmnishardedTable {
  readonly shard: number;
  readonly firstRowCount: number;
  /** null: the table is not there. */
  readonly rowCount: number | null;
  /** Rows that only one of the two has, or that differ, by key. */
  readonly keyCount: number;
}

const TABLES = `SELECT n.nspname AS schema, c.relname AS name, rn.nspname AS "rootSchema", rc.relname AS "rootName",
    ARRAY(SELECT a.attname::text FROM pg_attribute a
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS columns,
    ARRAY(SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
           WHERE i.indrelid = c.oid AND i.indisprimary ORDER BY a.attnum) AS "keyColumns"
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_class rc ON c.relispartition AND rc.oid = pg_partition_root(c.oid)
  LEFT JOIN pg_namespace rn ON rn.oid = rc.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname NOT IN ('sluice', 'information_schema')
   AND n.nspname NOT LIKE 'pg\\_%'
 ORDER BY 1, 2`;

interface TableRow extends OmnishardedTable {
  readonly rootSchema: string | null;
  readonly rootName: string | null;
  readonly columns: readonly string[];
}

/** Tables that are the same on every shard, as the first shard has them. */
export async function listOmnisharded(
  first: SqlClient,
  cluster: Cluster,
): Promise<readonly OmnishardedTable[]> {
  const { rows } = await first.query<TableRow>(TABLES);
  return rows
    .filter(({ columns, ...table }) => {
      const named = { ...table, columns: columns.map((name) => ({ name })) };
      return classify(cluster, named).kind === "omnisharded";
    })
    .map(({ schema, name, keyColumns }) => ({ schema, name, keyColumns }));
}

/**
 * Compares tables over the shards of one database. Shards are read at different moments, so a difference counts only
 * when it is there while nobody writes: SHARE is taken on the first shard, where every writer comes by first and
 * commits last.
 * @param clients by shard, each outside of a transaction
 */
export async function compareOmnisharded(
  clients: readonly SqlClient[],
  tables: readonly OmnishardedTable[],
): Promise<readonly OmnishardedDifference[]> {
  const [first, ...others] = clients;
  if (first === undefined) return [];
  const differences: OmnishardedDifference[] = [];
  for (const table of tables) {
    const sums = await Promise.all(clients.map((client) => sumOf(client, table)));
    if (sums.every((sum) => sum === sums[0])) continue;
    await first.query("BEGIN");
    try {
      await first.query(`LOCK TABLE ${quoteQualified(table.schema, table.name)} IN SHARE MODE`);
      const rows = await rowsOf(first, table);
      for (const [index, other] of others.entries()) {
        const difference = differenceOf(table, rows, await rowsOf(other, table));
        if (difference !== null) differences.push({ ...difference, shard: index + 1 });
      }
    } finally {
      await first.query("ROLLBACK");
    }
  }
  return differences;
}

/** One line: counts and names of columns, never a value (R56). */
export function describeDifference(difference: OmnishardedDifference): string {
  const { schema, name, shard, rowCount, firstRowCount, keyColumns, keyCount } = difference;
  const where = `${quoteQualified(schema, name)}: shard ${shard}`;
  if (rowCount === null) return `${where} has no such table`;
  const by = keyColumns.length > 0 ? `keys (${keyColumns.join(", ")})` : "rows";
  return `${where} has ${rowCount} rows, shard 0 has ${firstRowCount}; ${keyCount} ${by} differ`;
}

const MISSING = "missing";

/** Count and sum of hashes; the same for the same rows in any order. */
async function sumOf(client: SqlClient, { schema, name }: OmnishardedTable): Promise<string> {
  const found = await unlessMissing(
    client.query<{ sum: string }>(
      `SELECT count(*) || ' ' || coalesce(sum(hashtextextended((t.*)::text, 0)), 0) AS sum
         FROM ONLY ${quoteQualified(schema, name)} AS t`,
    ),
  );
  return found?.rows[0]?.sum ?? MISSING;
}

interface HashedRow {
  readonly key: string;
  readonly hash: string;
}

async function rowsOf(
  client: SqlClient,
  { schema, name, keyColumns }: OmnishardedTable,
): Promise<readonly HashedRow[] | null> {
  const key = keyColumns.map((column) => `t.${quoteIdentifier(column)}`).join(", ");
  const identity = keyColumns.length > 0 ? `ROW(${key})` : "(t.*)";
  const found = await unlessMissing(
    client.query<HashedRow>(
      `SELECT hashtextextended(${identity}::text, 0) AS key, hashtextextended((t.*)::text, 0) AS hash
         FROM ONLY ${quoteQualified(schema, name)} AS t`,
    ),
  );
  return found?.rows ?? null;
}

async function unlessMissing<T>(query: Promise<T>): Promise<T | null> {
  try {
    return await query;
  } catch (error) {
    if (sqlStateOf(error) === SQLSTATE.undefinedTable) return null;
    throw error;
  }
}

function differenceOf(
  table: OmnishardedTable,
  first: readonly HashedRow[] | null,
  other: readonly HashedRow[] | null,
): Omit<OmnishardedDifference, "shard"> | null {
  const counts = new Map<string, Map<string, number>>();
  const add = ({ key, hash }: HashedRow, change: number) => {
    const hashes = counts.get(key) ?? new Map<string, number>();
    counts.set(key, hashes.set(hash, (hashes.get(hash) ?? 0) + change));
  };
  for (const row of first ?? []) add(row, 1);
  for (const row of other ?? []) add(row, -1);
  const differing = [...counts.values()].filter((hashes) =>
    [...hashes.values()].some((count) => count !== 0),
  );
  if (differing.length === 0 && other !== null) return null;
  return {
    ...table,
    firstRowCount: first?.length ?? 0,
    rowCount: other?.length ?? null,
    keyCount: differing.length,
  };
}
