import { quoteIdentifier, quoteLiteral, quoteQualified } from "../core/identifier.js";
import { outerWords } from "./clauses.js";
import type { CapturedRowReplay, RowReplay } from "./route.js";
import type { ColumnFacts, TableFacts } from "./schema-facts.js";

/** What a statement does to an omnisharded table; `upsert` may insert or update. */
export type ReplayedVerb = "insert" | "upsert" | "update" | "delete";

export const COPY_TARGET = "sluice_target";
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
  const columns = `(${quoteIdentifier(alias)}.*)::pg_catalog.text, (${obstacleOf(facts)})`;
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
export function obstacleOf(facts: TableFacts): string {
  const table = quoteLiteral(quoteQualified(facts.schema, facts.name));
  const names = quoteLiteral(facts.columns.map(({ name }) => name).join(","));
  return `SELECT CASE
    WHEN (SELECT pg_catalog.string_agg(attname, ',' ORDER BY attnum) FROM pg_catalog.pg_attribute
      WHERE attrelid = ${table}::pg_catalog.regclass AND attnum > 0 AND NOT attisdropped) <> ${names} THEN 'columns'
    ${LOSSY_SETTINGS} ELSE '' END`;
}

const LOSSY_SETTINGS = `
    WHEN pg_catalog.current_setting('extra_float_digits')::pg_catalog.int4 < 1 THEN 'extra_float_digits'
    WHEN pg_catalog.current_setting('DateStyle') NOT LIKE 'ISO%' THEN 'DateStyle'
    WHEN pg_catalog.current_setting('IntervalStyle') = 'sql_standard' THEN 'IntervalStyle'`;

/** All rows of a table, as `withReturnedRows` would have them. @param table quoted */
export function rowsOf(table: string): string {
  return `SELECT (${TARGET}.*)::pg_catalog.text, (SELECT CASE ${LOSSY_SETTINGS} ELSE '' END) FROM ${table} AS ${TARGET}`;
}

/** @param table quoted, and empty */
export function wholeRowsOf(table: string): RowReplay {
  const sql = `INSERT INTO ${table} AS ${TARGET} SELECT ${ROW}.* FROM pg_catalog.unnest($1::${table}[]) AS ${ROW} RETURNING (${TARGET}.*)::pg_catalog.text`;
  return { sql, checks: "rows" };
}

/** Some columns of rows that are there. @param table quoted */
export function keyedUpdateOf(
  table: string,
  key: readonly string[],
  columns: readonly string[],
): RowReplay {
  const set = columns.map(quoteIdentifier).map((column) => `${column} = ${ROW}.${column}`);
  const isSame = key.map(quoteIdentifier).map((column) => `${TARGET}.${column} = ${ROW}.${column}`);
  const sql = `UPDATE ${table} AS ${TARGET} SET ${set.join(", ")} FROM pg_catalog.unnest($1::${table}[]) AS ${ROW}
    WHERE ${isSame.join(" AND ")} RETURNING (${TARGET}.*)::pg_catalog.text`;
  return { sql, checks: "rows" };
}

/** The statements that bring rows of the deciding shard to another. */
export function replayOf(verb: ReplayedVerb, facts: TableFacts): RowReplay {
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

/** Rows that a client has sent, of which some columns are given. */
export interface CopiedInsert {
  /** What the condition calls them. */
  readonly alias: string;
  readonly columns: readonly string[];
  /** The client's text; null: all rows. */
  readonly condition: string | null;
}

/**
 * What it inserts into is `COPY_TARGET`.
 * @param rows an array of rows, as text; columns that are not given are null in it
 */
export function copiedInsertOf(
  facts: TableFacts,
  { alias, columns, condition }: CopiedInsert,
  rows: "$1" | "'{}'",
): string {
  const table = quoteQualified(facts.schema, facts.name);
  const row = quoteIdentifier(alias);
  const names = columns.map(quoteIdentifier);
  const values = names.map((name) => `${row}.${name}`);
  // A line end, as the condition may end in a comment. COPY gives an identity what the data has, always.
  const where = condition === null ? "" : ` WHERE (${condition}\n)`;
  return `INSERT INTO ${table} AS "${COPY_TARGET}" (${names.join(", ")}) OVERRIDING SYSTEM VALUE SELECT ${values.join(", ")} FROM pg_catalog.unnest(${rows}::${table}[]) AS ${row}${where}`;
}

/** The same for rows that triggers or foreign keys have written, one by one. */
export function capturedReplayOf(facts: TableFacts): CapturedRowReplay {
  const table = quoteQualified(facts.schema, facts.name);
  const old = '"sluice_old"';
  const oldRows = (index: number) => `pg_catalog.unnest($${index}::${table}[]) AS ${old}`;
  const newRows = `pg_catalog.unnest($2::${table}[]) AS ${ROW}`;
  const isOld =
    facts.keyColumns.length > 0
      ? facts.keyColumns
          .map(quoteIdentifier)
          .map((key) => `${TARGET}.${key} = ${old}.${key}`)
          .join(" AND ")
      : // Any one of equal rows.
        `${TARGET}.ctid = (SELECT ctid FROM ${table} AS "sluice_any"
           WHERE ("sluice_any".*)::pg_catalog.text = (${old}.*)::pg_catalog.text LIMIT 1)`;
  const set = assignments(facts, ROW, { withKey: true });
  const returning = `RETURNING (${TARGET}.*)::pg_catalog.text`;
  return {
    INSERT: replayOf("insert", facts).sql,
    UPDATE:
      set === null
        ? "SELECT WHERE false"
        : `UPDATE ${table} AS ${TARGET} SET ${set} FROM ${oldRows(1)}, ${newRows} WHERE ${isOld} ${returning}`,
    DELETE: `DELETE FROM ${table} AS ${TARGET} USING ${oldRows(1)} WHERE ${isOld} ${returning}`,
  };
}

function insertion(table: string, facts: TableFacts, rows: string): string {
  const columns = facts.columns.filter((column) => !column.isGenerated).map(quotedName);
  const values = columns.map((column) => `${ROW}.${column}`);
  return `INSERT INTO ${table} AS ${TARGET} (${columns.join(", ")}) OVERRIDING SYSTEM VALUE SELECT ${values.join(", ")} FROM ${rows}`;
}

/** All columns, so that a row which was another before is the same afterwards; null: none can be assigned. */
function assignments(
  facts: TableFacts,
  from: string,
  { withKey }: { readonly withKey: boolean } = { withKey: false },
): string | null {
  const assignable = facts.columns.filter(
    ({ name, isGenerated, isAlways }) =>
      !isGenerated && !isAlways && (withKey || !facts.keyColumns.includes(name)),
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
