import { quoteIdentifier } from "../../core/identifier.js";
import { shardOfRow } from "../copy/range-sql.js";
import type { ColumnPlan, TablePlan } from "../model/migration.js";

/**
 * Types whose own hash depends on nothing but the value. An enum's depends on its OID, which differs from
 * server to server, and a domain or composite may hide one; json and others have none: those are hashed by
 * their text.
 */
const HASHED_AS_THEY_ARE =
  /^(smallint|integer|bigint|numeric|real|double precision|boolean|text|character varying|bytea|date|interval|uuid|jsonb|inet|cidr|macaddr|(time|timestamp) with(out)? time zone)(\(\d+(,-?\d+)?\))?(\[\])?$/;

/** `timestamp(3) with time zone` has its precision in the middle. */
function plainType(type: string): string {
  return type.replace(/^(time|timestamp)\(\d\)/, "$1");
}

/**
 * One number for a row, equal on servers of all versions and whatever their settings. Blind to what equality
 * is blind to (1.0 and 1.00, -0.0 and 0.0). Generated columns count: each server has computed its own.
 */
export function rowHash(table: TablePlan): string {
  return hashOf([...table.columns, ...(table.generated ?? [])]);
}

/**
 * Which of `bucketCount` (a power of two) parts of the table a row belongs to: by its key where there is one,
 * so that all versions of a row meet in one bucket; else by the whole row.
 */
export function bucketOf(table: TablePlan, bucketCount: number): string {
  return `(${hashOf(identifyingColumns(table))} & ${bucketCount - 1})::integer`;
}

/** What names the row when both sides are compared: text[] of the key, or of the row's hash. */
export function identityOf(table: TablePlan): string {
  if (table.keyColumns === null) return `ARRAY[${rowHash(table)}::text]`;
  return `ARRAY[${table.keyColumns.map((name) => `${quoteIdentifier(name)}::text`).join(", ")}]`;
}

/** Where the router would place the row; omnisharded rows have no place of their own. */
export function placeOf(table: TablePlan, shardCount: number): string {
  return table.kind === "omnisharded" ? "0" : shardOfRow(table, shardCount);
}

function identifyingColumns(table: TablePlan): readonly ColumnPlan[] {
  const { keyColumns, columns } = table;
  return keyColumns === null ? columns : columns.filter(({ name }) => keyColumns.includes(name));
}

function hashOf(columns: readonly ColumnPlan[]): string {
  return `hash_record_extended(ROW(${columns.map(hashable).join(", ")}), 0)`;
}

function hashable(column: ColumnPlan): string {
  const name = quoteIdentifier(column.name);
  const isPlain = !column.hashAsText && HASHED_AS_THEY_ARE.test(plainType(column.type));
  return isPlain ? name : `${name}::text`;
}
