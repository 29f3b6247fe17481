import { quoteIdentifier, quoteQualified } from "../../core/identifier.js";
import type { AppliedTable } from "./applied-table.js";

/**
 * Statements of a lane. Values travel as text arrays, one per column, and are cast here: one form for every
 * type, also those without a safe binary one, and one plan whatever the number of rows.
 */
export function insertSql(table: AppliedTable, isTolerant: boolean): string {
  const columns = table.columns.map((column) => quoteIdentifier(column.name));
  const values = table.columns.map((column, index) => `v.n${index}::${column.type}`);
  const arrays = table.columns.map((_, index) => `$${index + 1}::text[]`);
  const names = table.columns.map((_, index) => `n${index}`);
  const returning = isTolerant
    ? ` ON CONFLICT${arbiter(table)} DO NOTHING RETURNING ${keyTexts(table, `${quoteQualified(table.schema, table.name)}.`)}`
    : "";
  return `INSERT INTO ${quoteQualified(table.schema, table.name)} (${columns.join(", ")})
    OVERRIDING SYSTEM VALUE SELECT ${values.join(", ")}
    FROM unnest(${arrays.join(", ")}) AS v(${names.join(", ")})${returning}`;
}

/**
 * PostgreSQL refuses ON CONFLICT for a table with deferrable constraints, but with an index that is not of one: the
 * key's. What meets another constraint that is checked at once fails then, for `Attempt` to catch.
 */
function arbiter(table: AppliedTable): string {
  if (!table.isDeferrable || table.keyColumns === null) return "";
  const columns = table.keyColumns.map((index) =>
    quoteIdentifier(table.columns[index]?.name ?? ""),
  );
  return ` (${columns.join(", ")})`;
}

/** `ARRAY[key::text, ...]`, as the lanes name keys. */
export function keyTexts(table: AppliedTable, prefix: string): string {
  const columns = (table.keyColumns ?? []).map(
    (index) => `${prefix}${quoteIdentifier(table.columns[index]?.name ?? "")}::text`,
  );
  return `ARRAY[${columns.join(", ")}] AS key`;
}

/** Parameters: one array per match column. Returns the ordinals (from 1) of the rows that were there. */
export function deleteSql(table: AppliedTable): string {
  return `DELETE FROM ONLY ${quoteQualified(table.schema, table.name)} AS t
    USING ${matchArrays(table, [])} WHERE ${matchConditions(table)} RETURNING v.ord::integer`;
}

/**
 * Parameters: one array per match column, then one per column of `set` and of the always-identity ones.
 * @param set columns that were sent and may be set
 */
export function updateSql(table: AppliedTable, set: readonly number[]): string {
  const settable = set.filter((index) => !table.alwaysIdentity.has(index));
  const fixed = set.filter((index) => table.alwaysIdentity.has(index));
  const conditions = [matchConditions(table), ...fixed.map((index) => sameValue(table, index))];
  if (settable.length === 0) {
    // Nothing to write, but the row must be there all the same (R17).
    return `SELECT v.ord::integer FROM ONLY ${quoteQualified(table.schema, table.name)} AS t,
      ${matchArrays(table, set)} WHERE ${conditions.join(" AND ")} FOR UPDATE OF t`;
  }
  const assignments = settable.map((index) => {
    const column = table.columns[index];
    return `${quoteIdentifier(column?.name ?? "")} = v.n${index}::${column?.type ?? "text"}`;
  });
  return `UPDATE ONLY ${quoteQualified(table.schema, table.name)} AS t SET ${assignments.join(", ")}
    FROM ${matchArrays(table, set)} WHERE ${conditions.join(" AND ")} RETURNING v.ord::integer`;
}

function sameValue(table: AppliedTable, index: number): string {
  const column = table.columns[index];
  return `t.${quoteIdentifier(column?.name ?? "")} IS NOT DISTINCT FROM v.n${index}::${column?.type ?? "text"}`;
}

function matchArrays(table: AppliedTable, set: readonly number[]): string {
  const names = [
    ...table.matchColumns.map((index) => `m${index}`),
    ...set.map((index) => `n${index}`),
  ];
  const arrays = names.map((_, index) => `$${index + 1}::text[]`);
  return `unnest(${arrays.join(", ")}) WITH ORDINALITY AS v(${names.join(", ")}, ord)`;
}

function matchConditions(table: AppliedTable): string {
  if (table.keyColumns === null) return keylessCondition(table);
  const matches = table.matchColumns.map((index) => {
    const column = table.columns[index];
    const operator = column?.notNull ? "=" : "IS NOT DISTINCT FROM";
    return `t.${quoteIdentifier(column?.name ?? "")} ${operator} v.m${index}::${column?.type ?? "text"}`;
  });
  return [...matches, ...(table.ownRows === null ? [] : [table.ownRows])].join(" AND ");
}

/** Types whose equality is that of their text; all others (json has none, -0.0 = 0.0) compare as text. */
const EXACT_TYPE =
  /^(smallint|integer|bigint|text|uuid|boolean|date|character varying.*|timestamp.*)$/;

/** R20: rows may be duplicates, then a change touches one of them. Callers send one row at a time. */
function keylessCondition(table: AppliedTable): string {
  const conditions = table.matchColumns.map((index) => {
    const column = table.columns[index];
    const name = `d.${quoteIdentifier(column?.name ?? "")}`;
    return EXACT_TYPE.test(column?.type ?? "")
      ? `${name} IS NOT DISTINCT FROM v.m${index}::${column?.type ?? "text"}`
      : `${name}::text IS NOT DISTINCT FROM v.m${index}`;
  });
  return `t.ctid = (SELECT d.ctid FROM ONLY ${quoteQualified(table.schema, table.name)} AS d
    WHERE ${conditions.join(" AND ")} LIMIT 1)`;
}
