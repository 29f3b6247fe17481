import { matchShardedTable } from "./match.js";
import type { Database, ShardedTable } from "./topology.js";

/** A column as equality of its values goes. */
export interface KeyColumn {
  /** As format_type has it, without length; of a domain, what it is made of. */
  readonly type: string;
  /** Texts that are equal are the same bytes. */
  readonly isDeterministic: boolean;
}

/** Types whose equal values have one hash: what PostgreSQL takes for equal must not be on two shards. */
export const KEY_TYPES_OF: Readonly<Record<ShardedTable["dataType"], readonly string[]>> = {
  bigint: ["smallint", "integer", "bigint"],
  uuid: ["uuid"],
  // Neither character(n) nor citext: one pads with blanks, the other has 'a' equal to 'A'.
  varchar: ["text", "character varying"],
};

/** Why a column cannot be the sharding key of a rule, in words; null: it can. */
export function keyTrouble(rule: Pick<ShardedTable, "dataType">, column: KeyColumn): string | null {
  if (!KEY_TYPES_OF[rule.dataType].includes(column.type))
    return `is ${column.type}; the rule's data_type ${rule.dataType} does not fit it`;
  if (!column.isDeterministic)
    return "has a collation by which different texts are equal, and each has a shard of its own";
  return null;
}

export interface TableColumn extends KeyColumn {
  readonly schema: string;
  readonly table: string;
  readonly column: string;
}

/** One row per column of a table that has one of the names in $1, for `findUnfitKeys`. */
export const KEY_COLUMNS_SQL = `SELECT n.nspname AS schema, c.relname AS table, a.attname AS column,
    (WITH RECURSIVE base AS (
       SELECT y.oid, y.typtype, y.typbasetype
       UNION ALL SELECT t.oid, t.typtype, t.typbasetype FROM base
         JOIN pg_catalog.pg_type t ON base.typtype = 'd' AND t.oid = base.typbasetype)
     SELECT pg_catalog.format_type(oid, NULL) FROM base WHERE typtype <> 'd') AS type,
    coalesce(l.collisdeterministic, true) AS "isDeterministic"
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
  LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
 WHERE a.attname = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
   AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'sluice')
 ORDER BY 1, 2, 3`;

export type KeyRules = Pick<Database, "shardedTables" | "omnishardedTables">;

export interface UnfitKey {
  /** "public.orders.region". */
  readonly column: string;
  readonly trouble: string;
}

/** Sharding keys among these columns that cannot be one. */
export function findUnfitKeys(
  rules: KeyRules,
  columns: readonly TableColumn[],
): readonly UnfitKey[] {
  return columns.flatMap((column) => {
    const table = { schema: column.schema, name: column.table };
    const names = columns
      .filter((one) => one.schema === column.schema && one.table === column.table)
      .map((one) => one.column);
    const rule = matchShardedTable(rules, table, names);
    const trouble = rule?.column === column.column ? keyTrouble(rule, column) : null;
    return trouble === null
      ? []
      : [{ column: `${column.schema}.${column.table}.${column.column}`, trouble }];
  });
}
