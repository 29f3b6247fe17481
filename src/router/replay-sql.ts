import { quoteIdentifier, quoteLiteral, quoteQualified } from "../core/identifier.js";
import { outerWords } from "./clauses.js";
import type { ReplayPlan } from "./route.js";
import type { ColumnFacts, TableFacts } from "./schema-facts.js";

/** What a statement does to an omnisharded table; `upsert` may insert or update. */
export type ReplayedVerb = "insert" | "upsert" | "update" | "delete";

/** The replayed row in the statement that writes it. */
const TARGET = '"sluice_target"';
const ROW = '"sluice_row"';

/**
 * The client's statement for the shard that decides: it returns two more columns behind the client's own, the
 * row as text and whether the others can be given that text.
 * @param alias what the statement calls its table
 */
export function withReturnedRows(
  sql: string,
  { alias, facts, hasReturning }: ReturnedRows,
): string {
  const end = outerWords(sql, []).get("")?.start ?? sql.length;
  const columns = `(${quoteIdentifier(alias)}.*)::pg_catalog.text, ${obstacle(facts)}`;
  // A line end, as the statement may end in a comment.
  return `${sql.slice(0, end)}\n${hasReturning ? "," : "RETURNING"} ${columns}`;
}

export interface ReturnedRows {
  readonly alias: string;
  readonly facts: TableFacts;
  readonly hasReturning: boolean;
}

/**
 * Empty where the text of a row is the whole row: the columns are those that we know, in their order, and the
 * session's settings lose nothing. Evaluated once per statement, as it refers to nothing outside.
 */
function obstacle(facts: TableFacts): string {
  const table = quoteLiteral(quoteQualified(facts.schema, facts.name));
  const names = quoteLiteral(facts.columns.map(({ name }) => name).join(","));
  return `(SELECT CASE
    WHEN (SELECT pg_catalog.string_agg(attname, ',' ORDER BY attnum) FROM pg_catalog.pg_attribute
      WHERE attrelid = ${table}::pg_catalog.regclass AND attnum > 0 AND NOT attisdropped) <> ${names} THEN 'columns'
    WHEN pg_catalog.current_setting('extra_float_digits')::pg_catalog.int4 < 1 THEN 'extra_float_digits'
    WHEN pg_catalog.current_setting('DateStyle') NOT LIKE 'ISO%' THEN 'DateStyle'
    WHEN pg_catalog.current_setting('IntervalStyle') = 'sql_standard' THEN 'IntervalStyle'
    ELSE '' END)`;
}

/** The statements that bring rows of the deciding shard to another. */
export function replayOf(verb: ReplayedVerb, facts: TableFacts): ReplayPlan["replay"] {
  const table = quoteQualified(facts.schema, facts.name);
  const rows = `pg_catalog.unnest($1::${table}[]) AS ${ROW}`;
  const returning = `RETURNING (${TARGET}.*)::pg_catalog.text`;
  const isSameKey = facts.keyColumns
    .map(quoteIdentifier)
    .map((key) => `${TARGET}.${key} = ${ROW}.${key}`)
    .join(" AND ");
  switch (verb) {
    case "insert":
      return { sql: `${insertion(table, facts, rows)} ${returning}`, checks: "rows" };
    case "upsert": {
      const keys = facts.keyColumns.map(quoteIdentifier).join(", ");
      const set = assignments(facts, "EXCLUDED");
      const insert = `${insertion(table, facts, rows)} ON CONFLICT (${keys})`;
      // Rows of nothing but a key are the same when they are there.
      if (set === null) return { sql: `${insert} DO NOTHING`, checks: "nothing" };
      return { sql: `${insert} DO UPDATE SET ${set} ${returning}`, checks: "rows" };
    }
    case "update": {
      const set = assignments(facts, ROW);
      if (set === null) return { sql: "SELECT WHERE false", checks: "nothing" };
      const sql = `UPDATE ${table} AS ${TARGET} SET ${set} FROM ${rows} WHERE ${isSameKey} ${returning}`;
      return { sql, checks: "rows" };
    }
    case "delete":
      return {
        sql: `DELETE FROM ${table} AS ${TARGET} USING ${rows} WHERE ${isSameKey}`,
        checks: "count",
      };
  }
}

function insertion(table: string, facts: TableFacts, rows: string): string {
  const columns = facts.columns.filter((column) => !column.isGenerated).map(quotedName);
  const values = columns.map((column) => `${ROW}.${column}`);
  return `INSERT INTO ${table} AS ${TARGET} (${columns.join(", ")}) OVERRIDING SYSTEM VALUE SELECT ${values.join(", ")} FROM ${rows}`;
}

/** All columns, so that a row which was another before is the same afterwards; null: none can be assigned. */
function assignments(facts: TableFacts, from: string): string | null {
  const assignable = facts.columns.filter(
    ({ name, isGenerated, isAlways }) =>
      !isGenerated && !isAlways && !facts.keyColumns.includes(name),
  );
  if (assignable.length === 0) return null;
  return assignable
    .map(quotedName)
    .map((column) => `${column} = ${from}.${column}`)
    .join(", ");
}

function quotedName({ name }: ColumnFacts): string {
  return quoteIdentifier(name);
}
