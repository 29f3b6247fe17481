import { assert } from "../../core/assert.js";
import { quoteIdentifier, quoteLiteral, quoteQualified } from "../../core/identifier.js";
import { shardOfSql } from "../../topology/hash-sql.js";
import type { ColumnPlan, MigrationSpec, TablePlan } from "../model/migration.js";

/** Rows with lower <= key < upper, on the first key column; null: no bound on that side. */
export interface KeyRange {
  readonly lower: string | null;
  readonly upper: string | null;
}

export const WHOLE_TABLE: KeyRange = { lower: null, upper: null };

export function tableName(table: { readonly schema: string; readonly name: string }): string {
  return quoteQualified(table.schema, table.name);
}

/** For people: without quotes. */
export function tableLabel(table: { readonly schema: string; readonly name: string }): string {
  return `${table.schema}.${table.name}`;
}

export function columnList(table: TablePlan): string {
  return table.columns.map((column) => quoteIdentifier(column.name)).join(", ");
}

/** @throws InvariantBroken when the table has no such column */
export function columnOf(table: TablePlan, name: string): ColumnPlan {
  const column = table.columns.find((candidate) => candidate.name === name);
  assert(column, `${tableLabel(table)} has no column "${name}"`);
  return column;
}

/** @throws InvariantBroken when the migration does not move the table */
export function tableOf(spec: MigrationSpec, schema: string, name: string): TablePlan {
  const table = spec.tables.find((plan) => plan.schema === schema && plan.name === name);
  assert(table, `migration does not move ${schema}.${name}`);
  return table;
}

/**
 * The range as a condition, "true" for the whole table. Bounds are literals, as COPY takes no parameters.
 * Half-open, and on the first column only, so that neighbours never share or miss a row.
 */
export function rangeCondition(table: TablePlan, range: KeyRange): string {
  const { lower, upper } = range;
  if (lower === null && upper === null) return "true";
  assert(table.rangeColumn, `${tableLabel(table)} has bounds but no range column`);
  const column = quoteIdentifier(table.rangeColumn);
  const { type } = columnOf(table, table.rangeColumn);
  const conditions: string[] = [];
  if (lower !== null) conditions.push(`${column} >= ${quoteLiteral(lower)}::${type}`);
  if (upper !== null) conditions.push(`${column} < ${quoteLiteral(upper)}::${type}`);
  return conditions.join(" AND ");
}

/** Where the router would send the row, as an expression; NULL for a NULL key. */
export function shardOfRow(table: TablePlan, shardCount: number): string {
  assert(table.shardingColumn && table.shardingType, `${tableLabel(table)} is not sharded`);
  return shardOfSql(quoteIdentifier(table.shardingColumn), table.shardingType, shardCount);
}
