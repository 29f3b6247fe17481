import type { SqlClient } from "../../backend/sql-client.js";
import { quoteQualified } from "../../core/identifier.js";
import { ROW_GUARD_FUNCTIONS, ROW_GUARDS, rowGuardTriggers } from "../../core/row-guard.js";

interface TableName {
  readonly schema: string;
  readonly name: string;
}

/** Runs what takes a table's lock, again while the lock is not to be had. */
type WithLock = (table: string, act: () => Promise<void>) => Promise<void>;

/** Triggers of the application, on any table: they may write any other. */
const HAS_TRIGGERS = `SELECT EXISTS (
  SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
   JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace cn ON cn.oid = c.relnamespace
  WHERE NOT t.tgisinternal AND n.nspname <> 'sluice' AND cn.nspname <> 'sluice' AND cn.nspname NOT LIKE 'pg\\_%') AS has`;

/** The named tables, or what they are partitions of: triggers of rows are inherited, by later partitions too. */
const UNGUARDED = `WITH RECURSIVE
  up(oid) AS (
    SELECT c.oid FROM unnest($1::text[], $2::text[]) AS t(schema_name, table_name)
      JOIN pg_namespace n ON n.nspname = t.schema_name
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.table_name AND c.relkind IN ('r', 'p')
    UNION SELECT i.inhparent FROM pg_inherits i JOIN up ON i.inhrelid = up.oid)
  SELECT DISTINCT n.nspname AS schema, c.relname AS name
    FROM up JOIN pg_class c ON c.oid = up.oid JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid AND c.relispartition)
     AND 3 > (SELECT count(*) FROM pg_trigger t
               WHERE t.tgrelid = c.oid AND t.tgname = ANY ($3) AND t.tgenabled IN ('O', 'A'))
   ORDER BY 1, 2`;

/**
 * Puts `ROW_GUARDS` on omnisharded tables of one shard, where triggers need them: without any trigger in the
 * database only their functions are made. Second run: finds what is missing.
 * @returns the tables that got them
 */
export async function guardRows(
  client: SqlClient,
  tables: readonly TableName[],
  withLock: WithLock,
): Promise<readonly TableName[]> {
  await client.query("CREATE SCHEMA IF NOT EXISTS sluice");
  // Whoever makes a trigger later has the tables guarded with the same statement; our tables have rights of their own.
  await client.query("GRANT USAGE ON SCHEMA sluice TO PUBLIC");
  for (const statement of ROW_GUARD_FUNCTIONS) await client.query(statement);
  const { rows: found } = await client.query<{ has: boolean }>(HAS_TRIGGERS);
  if (found[0]?.has !== true) return [];
  const { rows } = await client.query<{ schema: string; name: string }>(UNGUARDED, [
    tables.map((table) => table.schema),
    tables.map((table) => table.name),
    Object.values(ROW_GUARDS),
  ]);
  for (const { schema, name } of rows) {
    const table = quoteQualified(schema, name);
    await withLock(table, async () => {
      for (const statement of rowGuardTriggers(table)) await client.query(statement);
      for (const trigger of Object.values(ROW_GUARDS))
        await client.query(`ALTER TABLE ${table} ENABLE TRIGGER "${trigger}"`);
    });
  }
  return rows;
}

const GUARDED = `SELECT DISTINCT n.nspname AS schema, c.relname AS name
  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE t.tgname = ANY ($1) AND t.tgparentid = 0 ORDER BY 1, 2`;

/** Tables of one shard with any of `ROW_GUARDS`; partitions by their roots. */
export async function listRowGuards(client: SqlClient): Promise<readonly TableName[]> {
  const { rows } = await client.query<TableName>(GUARDED, [Object.values(ROW_GUARDS)]);
  return rows;
}

/** Second run: finds what is left. @returns the tables that had them */
export async function dropRowGuards(
  client: SqlClient,
  withLock: WithLock,
): Promise<readonly TableName[]> {
  const tables = await listRowGuards(client);
  for (const { schema, name } of tables) {
    const table = quoteQualified(schema, name);
    await withLock(table, async () => {
      const drops = Object.values(ROW_GUARDS).map(
        (trigger) => `DROP TRIGGER IF EXISTS "${trigger}" ON ${table}`,
      );
      await client.query(drops.join("; "));
    });
  }
  return tables;
}
