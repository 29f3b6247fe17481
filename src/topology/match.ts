import type { Database, ShardedTable } from "./topology.js";

/** A table as the rules of the configuration look at it. */
export interface TableName {
  /** null: not known, rules that name a schema match by the table alone. */
  readonly schema: string | null;
  readonly name: string;
}

/**
 * The rule that shards a table, or null when the table is omnisharded. Rules that name the table come
 * before rules that name a column only; a table listed as omnisharded is no match for the latter.
 * @param columns the table's columns; null: not known, and rules by column match nothing
 */
export function matchShardedTable(
  database: Pick<Database, "shardedTables" | "omnishardedTables">,
  table: TableName,
  columns: readonly string[] | null,
): ShardedTable | null {
  const isSchemaRight = (rule: ShardedTable) =>
    rule.schema === null || table.schema === null || rule.schema === table.schema;
  const named = database.shardedTables.find(
    (rule) => rule.name === table.name && isSchemaRight(rule),
  );
  if (named !== undefined) return named;
  if (columns === null || isListedOmnisharded(database, table)) return null;
  const byColumn = database.shardedTables.find(
    (rule) => rule.name === null && isSchemaRight(rule) && columns.includes(rule.column),
  );
  return byColumn ?? null;
}

/** Whether the configuration names the table as one that has the same rows on every shard. */
export function isListedOmnisharded(
  database: Pick<Database, "omnishardedTables">,
  table: TableName,
): boolean {
  return database.omnishardedTables.some(
    (entry) =>
      entry === table.name || (table.schema !== null && entry === `${table.schema}.${table.name}`),
  );
}
