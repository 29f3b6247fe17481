import type { InsertStmt, Node } from "libpg-query";
import { quoteIdentifier } from "../core/identifier.js";
import { parse } from "../sql/parser.js";
import { ANY, type Analysis, type Plan } from "./analysis.js";
import type { Catalog } from "./catalog.js";
import { type InsertShape, openText } from "./insert-text.js";
import { keyDefault } from "./key-default.js";
import { Refusal, refused } from "./refusal.js";
import type { DrawPlan, KeyDefault } from "./route.js";
import type { ColumnFacts } from "./schema-facts.js";
import { hasReturning } from "./write-scope.js";

interface KeylessInsert extends InsertShape {
  readonly drawn: KeyDefault;
  readonly count: number;
}

/**
 * The plan of a statement with an INSERT that leaves a sharding key to its default; null: it has none.
 * @throws Refusal for a form in which no value can be put
 */
export function drawPlan({ catalog }: Analysis, statement: Node): Plan | null {
  const all = insertsOf(statement);
  if (all.some(isUnfit)) return () => ANY;
  const inserts = all.flatMap(
    (insert, ordinal) => keylessInsert(insert, { ordinal, key: null, catalog }) ?? [],
  );
  if (inserts.length === 0) return null;
  const draws: DrawPlan["draws"] = inserts.map(({ drawn, count }) => ({ key: drawn, count }));
  const mostRows = "InsertStmt" in statement ? rowsReturned(statement.InsertStmt) : Infinity;
  return ({ sql }) => {
    const text = openText(sql, inserts);
    if (text === null) return refused("drawnShape", "this form of INSERT");
    return { kind: "draw", plan: { draws, text, mostRows } };
  };
}

/**
 * For an INSERT ... VALUES that is to be dealt out to several shards and whose client relies on ids that ascend with
 * the rows: all of them from one sequence, as one database would draw them. null: no id is left to a sequence.
 * @throws Refusal where there are several, or no value can be put
 */
export function orderedDraw({ sql, catalog }: Pick<Analysis, "sql" | "catalog">): DrawPlan | null {
  const parsed = parse(sql);
  const statement = parsed.kind !== "parsed" ? undefined : parsed.statements[0];
  if (statement === undefined || !("InsertStmt" in statement)) return null;
  const insert = statement.InsertStmt;
  if (!hasReturning(insert)) return null;
  const { facts, name = "" } = catalog.plainTable(insert.relation ?? {}) ?? {};
  const inserts = (facts?.columns ?? [])
    .filter(({ defaultSql }) => /\bnextval\(/.test(defaultSql ?? ""))
    .flatMap((column) => keylessInsert(insert, { ordinal: 0, key: column, catalog }) ?? []);
  const [only, other] = inserts;
  if (only === undefined) return null;
  if (other !== undefined) throw new Refusal("splitInsert", name);
  const text = openText(sql, [only]);
  if (text === null) throw new Refusal("drawnShape", "this form of INSERT");
  const mostRows = rowsReturned(insert);
  return { draws: [{ key: only.drawn, count: only.count }], text, mostRows };
}

/** Constants without a type, as a client may write them: each takes its column's. */
export function drawnText({ text }: DrawPlan, drawn: readonly (string | null)[]): string {
  let at = 0;
  return text.map((piece) => piece ?? constant(drawn[at++] ?? null)).join("");
}

/** In standard strings, as sessions on shards have them, a backslash is one. */
function constant(value: string | null): string {
  return value === null ? "NULL" : `'${value.replaceAll("'", "''")}'`;
}

/** Data is written at the top and in its WITH alone, in the order of the text. */
export function insertsOf(statement: Node): readonly InsertStmt[] {
  const own = "InsertStmt" in statement ? [statement.InsertStmt] : [];
  const [{ withClause } = {}] = [
    ...own,
    ...("SelectStmt" in statement ? [statement.SelectStmt] : []),
    ...("UpdateStmt" in statement ? [statement.UpdateStmt] : []),
    ...("DeleteStmt" in statement ? [statement.DeleteStmt] : []),
  ];
  const nested = (withClause?.ctes ?? []).flatMap((node) => {
    const query = "CommonTableExpr" in node ? node.CommonTableExpr.ctequery : undefined;
    return query !== undefined && "InsertStmt" in query ? [query.InsertStmt] : [];
  });
  return [...nested, ...own];
}

function rowsReturned(insert: InsertStmt): number {
  if (!hasReturning(insert)) return 0;
  const source = insert.selectStmt;
  if (source === undefined) return 1;
  return "SelectStmt" in source ? (source.SelectStmt.valuesLists?.length ?? Infinity) : Infinity;
}

function keylessInsert(
  insert: InsertStmt,
  at: {
    readonly ordinal: number;
    /** null: the table's sharding key. */
    readonly key: ColumnFacts | null;
    readonly catalog: Catalog;
  },
): KeylessInsert | null {
  const { ordinal, catalog } = at;
  const table = catalog.plainTable(insert.relation ?? {});
  const key = at.key ?? table?.facts?.columns.find(({ name }) => name === table.rule?.column);
  if (!table?.facts || key === undefined) return null;
  const rows = rowsOf(insert);
  if (rows?.some((row) => row.some(isStar))) throw new Refusal("drawnShape", ".* in VALUES");
  const listed = columnsOf(insert, table.facts.columns, rows);
  if (listed === null) return null;
  const isPassedOver = key.isIdentity && insert.override === "OVERRIDING_USER_VALUE";
  const place = listed.indexOf(key.name);
  const isGiven = (row: readonly Node[]) => {
    const item = row[place];
    return item !== undefined && !("SetToDefault" in item) && !isPassedOver;
  };
  const filled = rows?.map((row) => !isGiven(row)) ?? [place < 0 || isPassedOver];
  if (!filled.includes(true)) return null;
  const drawn = keyDefault(key, catalog);
  if (drawn === null) return null;
  const keyName = `"${table.name}"."${key.name}"`;
  if (rows === null) throw new Refusal("drawnSelect", keyName);
  const isOverridden = insert.override === "OVERRIDING_SYSTEM_VALUE";
  const mustOverride = isPassedOver || (key.isAlways && !isOverridden);
  if (mustOverride && !isPassedOver && filled.includes(false))
    throw new Refusal("explicitAlways", key.name);
  const others = table.facts.columns.filter(
    (column) => column !== key && (isPassedOver ? column.isIdentity : column.isAlways),
  );
  if (mustOverride && others.some(({ name }) => listed.includes(name)))
    throw new Refusal("drawnShape", "a value for another identity column");
  return {
    ordinal,
    hasColumns: (insert.cols ?? []).length > 0,
    columns: listed.map(quoteIdentifier),
    key: quoteIdentifier(key.name),
    position: place < 0 ? null : place,
    rows: filled,
    hasDefaultValues: insert.selectStmt === undefined,
    mustOverride,
    drawn,
    count: filled.filter(Boolean).length,
  };
}

/** null: not VALUES. DEFAULT VALUES is one row of nothing. */
function rowsOf({ selectStmt }: InsertStmt): readonly (readonly Node[])[] | null {
  if (selectStmt === undefined) return [[]];
  const rows = "SelectStmt" in selectStmt ? selectStmt.SelectStmt.valuesLists : undefined;
  return rows?.map((row) => ("List" in row ? (row.List.items ?? []) : [])) ?? null;
}

/** Rows of different lengths, or of another than the list: no PostgreSQL takes them, so any may say so. */
function isUnfit(insert: InsertStmt): boolean {
  const rows = insert.selectStmt === undefined ? null : rowsOf(insert);
  if (rows === null || rows.some((row) => row.some(isStar))) return false;
  const width = insert.cols?.length ?? rows[0]?.length;
  return rows.some((row) => row.length !== width);
}

/** As many values as the record has columns. */
export function isStar(item: Node): boolean {
  const parts =
    "ColumnRef" in item
      ? item.ColumnRef.fields
      : "A_Indirection" in item
        ? item.A_Indirection.indirection
        : undefined;
  return parts?.some((part) => "A_Star" in part) === true;
}

/** Of the rows; null: there are more values than columns that we know. */
function columnsOf(
  { cols }: InsertStmt,
  columns: readonly ColumnFacts[],
  rows: readonly (readonly Node[])[] | null,
): readonly string[] | null {
  const width = rows?.[0]?.length ?? columns.length;
  if (cols === undefined || cols.length === 0)
    return width > columns.length ? null : columns.slice(0, width).map(({ name }) => name);
  return cols.map((node) => ("ResTarget" in node ? (node.ResTarget.name ?? "") : ""));
}
