import { quoteLiteral } from "../../core/identifier.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import { type Database, FIRST_SHARD } from "../../topology/topology.js";
import { StatementRefused } from "../session-errors.js";
import type { ShardTransaction } from "./shard-transaction.js";

const ALTERS = /^\s*alter\s+table\b/i;

/** Tables that have a sharding key's column, by their numbers on the first shard. */
export type KeyColumns = ReadonlyMap<string, string>;

/**
 * Before a statement that every shard runs. @returns null when it changes no columns
 * @throws StatementFailed with the server's error
 */
export async function keyColumnsBefore(
  transaction: ShardTransaction,
  database: Database,
  sql: string,
): Promise<KeyColumns | null> {
  return ALTERS.test(sql) ? await keyColumns(transaction, database) : null;
}

/**
 * Behind it, in its transaction: a table that gets a sharding key's column, or loses it, is sharded from then on or
 * the same everywhere. With rows in it, it would be neither: each of them on all shards, or other rows on each.
 * @throws StatementRefused where it has rows: the statement is undone
 */
export async function refuseOtherKind(
  transaction: ShardTransaction,
  database: Database,
  before: KeyColumns,
): Promise<void> {
  const after = await keyColumns(transaction, database);
  const changed = [...after, ...before].filter(([id]) => before.has(id) !== after.has(id));
  for (const [, table] of changed) {
    for (const shard of transaction.shards) {
      const { rows } = await transaction.ask(shard, `SELECT FROM ${table} LIMIT 1`);
      if (rows.length === 0) continue;
      throw new StatementRefused(
        SQLSTATE.featureNotSupported,
        `the sharding key's column of ${table} cannot be added or taken away: the table has rows`,
        { hint: "Make a new table with the column as it shall be, and insert the rows into it." },
      );
    }
  }
}

async function keyColumns(
  transaction: ShardTransaction,
  { shardedTables }: Database,
): Promise<KeyColumns> {
  const rules = shardedTables.map(({ name, column }) => {
    const isTable = name === null ? "true" : `c.relname = ${quoteLiteral(name)}`;
    return `(a.attname = ${quoteLiteral(column)} AND ${isTable})`;
  });
  if (rules.length === 0) return new Map();
  const { rows } = await transaction.ask(
    FIRST_SHARD,
    `SELECT c.oid || ' ' || a.attname, pg_catalog.format('%I.%I', n.nspname, c.relname)
     FROM pg_catalog.pg_attribute a
     JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND NOT a.attisdropped AND (${rules.join(" OR ")})`,
  );
  return new Map(rows.map(([id, table]) => [id ?? "", table ?? ""]));
}
