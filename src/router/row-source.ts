import type { InsertStmt, Node, RangeFunction, SelectStmt, TypeName } from "libpg-query";
import { quoteIdentifier } from "../core/identifier.js";
import { lastName, namesOf } from "../sql/ast.js";
import { parse } from "../sql/parser.js";
import { Scanner } from "../sql/scanner.js";
import { parseArrayText } from "./array-value.js";
import type { Catalog } from "./catalog.js";
import { closeOf, outerWords, type Span, splitByComma, textOf, valuesRows } from "./clauses.js";

/** An INSERT whose rows stand in its text, written with VALUES. */
export interface RowsInText {
  readonly sql: string;
  /** Defaults are drawn in the order of the rows, and the client relies on it. */
  readonly isOrdered: boolean;
}

const MAY_BE_ROWS = /^\s*insert\b.*\bfrom\s*(?:\(\s*values\b|unnest\s*\()/is;

/**
 * Bulk inserts of frameworks give their rows as a query over constants, so that one prepared text or one array
 * holds them all: Django's `SELECT * FROM UNNEST('{1,2}'::bigint[], ...)` and SQLAlchemy's
 * `SELECT p0::int, ... FROM (VALUES (...), ...) AS imp_sen(p0, ..., sen_counter) ORDER BY sen_counter`. Written as
 * VALUES each row can be dealt out by its key, and given one.
 * @returns null for every other statement
 */
export function rowsInText(sql: string, catalog: Catalog): RowsInText | null {
  if (!MAY_BE_ROWS.test(sql)) return null;
  const parsed = parse(sql);
  if (parsed.kind !== "parsed" || parsed.statements.length !== 1) return null;
  const [statement] = parsed.statements;
  if (statement === undefined || !("InsertStmt" in statement)) return null;
  const insert: InsertStmt = statement.InsertStmt;
  const source = insert.selectStmt;
  if (source === undefined || !("SelectStmt" in source) || insert.withClause !== undefined)
    return null;
  if (catalog.plainTable(insert.relation ?? {})?.kind !== "sharded") return null;
  const select: SelectStmt = source.SelectStmt;
  const [from, other] = select.fromClause ?? [];
  if (from === undefined || other !== undefined || !isBare(select)) return null;
  if ("RangeFunction" in from) return fromArrays(sql, select, from.RangeFunction);
  return "RangeSubselect" in from ? fromValues(sql, select, from) : null;
}

function isBare(select: SelectStmt): boolean {
  const { whereClause, groupClause, havingClause, distinctClause, withClause } = select;
  const { windowClause, limitCount, limitOffset, lockingClause } = select;
  const clauses = [whereClause, groupClause, havingClause, distinctClause, withClause];
  return (
    select.op === "SETOP_NONE" &&
    [...clauses, windowClause, limitCount, limitOffset, lockingClause].every(
      (clause) => clause === undefined || (Array.isArray(clause) && clause.length === 0),
    )
  );
}

function fromArrays(sql: string, select: SelectStmt, from: RangeFunction): RowsInText | null {
  const { functions, ordinality, is_rowsfrom: isRowsFrom } = from;
  const [only, more] = functions ?? [];
  if (only === undefined || more !== undefined || ordinality === true || isRowsFrom === true)
    return null;
  if ((select.sortClause ?? []).length > 0 || !isStar(select)) return null;
  const call = "List" in only ? only.List.items?.[0] : undefined;
  if (call === undefined || !("FuncCall" in call)) return null;
  if (lastName(call.FuncCall.funcname) !== "unnest") return null;
  const columns = (call.FuncCall.args ?? []).map(elements);
  const length = columns[0]?.length ?? 0;
  if (length === 0) return null;
  const rows = Array.from({ length }, (_, row) => columns.map((column) => column?.[row]));
  if (columns.some((column) => column?.length !== length)) return null;
  return withValues(
    sql,
    rows.map((row) => `(${row.join(", ")})`),
    false,
  );
}

function isStar({ targetList }: SelectStmt): boolean {
  const [only, other] = targetList ?? [];
  if (only === undefined || other !== undefined || !("ResTarget" in only)) return false;
  const { val } = only.ResTarget;
  return val !== undefined && "ColumnRef" in val && namesOf(val.ColumnRef.fields).join() === "*";
}

/** Of an array that is written out, each as a constant of its type; null: it is not. */
function elements(node: Node): readonly string[] | null {
  if (!("TypeCast" in node)) return null;
  const { arg, typeName } = node.TypeCast;
  const type = typeName === undefined ? null : elementType(typeName);
  if (arg === undefined || type === null) return null;
  if ("A_Const" in arg) {
    const text = arg.A_Const.sval?.sval;
    const values = text === undefined ? null : parseArrayText(text);
    return values?.map((value) => `${value === null ? "NULL" : constant(value)}::${type}`) ?? null;
  }
  return elements(arg)?.map((value) => `(${value})::${type}`) ?? null;
}

/** In standard strings a backslash is one. */
function constant(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** null: not a plain array. */
function elementType({ names, typmods, arrayBounds, setof }: TypeName): string | null {
  if (arrayBounds?.length !== 1 || setof === true) return null;
  const sizes = (typmods ?? []).map((node) => ("A_Const" in node ? node.A_Const.ival?.ival : null));
  if (sizes.some((size) => typeof size !== "number")) return null;
  const name = namesOf(names).map(quoteIdentifier).join(".");
  return sizes.length > 0 ? `${name}(${sizes.join(", ")})` : name;
}

function fromValues(
  sql: string,
  select: SelectStmt,
  from: Extract<Node, { RangeSubselect: unknown }>,
): RowsInText | null {
  const { subquery, alias } = from.RangeSubselect;
  const names = (alias?.colnames ?? []).map((node) =>
    "String" in node ? (node.String.sval ?? "") : "",
  );
  if (subquery === undefined || !("SelectStmt" in subquery)) return null;
  const inner: SelectStmt = subquery.SelectStmt;
  const given = inner.valuesLists ?? [];
  if (given.length === 0 || (inner.sortClause ?? []).length > 0 || !isBare(inner)) return null;
  const ordered = rowOrder(select, names, given);
  if (ordered === null) return null;
  const texts = rowTexts(sql);
  const targets = targetTexts(sql, names);
  if (texts?.length !== given.length || targets?.length !== select.targetList?.length) return null;
  const rows: string[] = [];
  for (const row of texts) {
    if (row.length !== names.length) return null;
    // A line end, as an item may end in a comment.
    const items = (targets ?? []).map(({ place, casts }) => `(${row[place]}\n)${casts}`);
    rows.push(`(${items.join(", ")})`);
  }
  return withValues(sql, rows, ordered);
}

/** Whether rows are sorted, which must be by a counter that has them so already; null: by anything else. */
function rowOrder(
  { sortClause }: SelectStmt,
  names: readonly string[],
  rows: readonly Node[],
): boolean | null {
  const [sort, other] = sortClause ?? [];
  if (sort === undefined) return false;
  if (other !== undefined || !("SortBy" in sort)) return null;
  const { node, sortby_dir: direction } = sort.SortBy;
  if (direction !== "SORTBY_DEFAULT" && direction !== "SORTBY_ASC") return null;
  const column = node !== undefined && "ColumnRef" in node ? namesOf(node.ColumnRef.fields) : [];
  const place = column.length === 1 ? names.indexOf(column[0] ?? "") : -1;
  const counters = rows.map((row) => {
    const item = "List" in row ? row.List.items?.[place] : undefined;
    const value = item !== undefined && "A_Const" in item ? item.A_Const.ival : undefined;
    return value === undefined ? Number.NaN : (value.ival ?? 0);
  });
  const isAscending = counters.every(
    (value, index) => index === 0 || value > (counters[index - 1] ?? Number.NaN),
  );
  return isAscending && counters.every((value) => !Number.isNaN(value)) ? true : null;
}

/** Each row's items, as they are written between FROM's parentheses. */
function rowTexts(sql: string): readonly (readonly string[])[] | null {
  const from = outerWords(sql, ["from"]).get("from");
  if (from === undefined) return null;
  const scanner = new Scanner(sql, { from: from.end });
  if (scanner.next() !== "symbol" || sql[scanner.start] !== "(") return null;
  const start = scanner.end;
  const end = closeOf(sql, scanner);
  if (end === null) return null;
  const inner = sql.slice(start, end - 1);
  return (
    valuesRows(inner)?.rows.map((row) =>
      splitByComma(inner, { start: row.start + 1, end: row.end - 1 }).map((item) =>
        textOf(inner, item),
      ),
    ) ?? null
  );
}

interface Target {
  readonly place: number;
  readonly casts: string;
}

/** What the query selects: columns of the rows, with casts. */
function targetTexts(sql: string, names: readonly string[]): readonly Target[] | null {
  const words = outerWords(sql, ["select", "from"]);
  const [select, from] = [words.get("select"), words.get("from")];
  if (select === undefined || from === undefined) return null;
  const targets: Target[] = [];
  for (const item of splitByComma(sql, { start: select.end, end: from.start })) {
    const match = /^\s*([a-z_][\w$]*)\s*((?:::[\w\s.,()[\]"]+)*)$/i.exec(textOf(sql, item));
    const place = names.indexOf((match?.[1] ?? "").toLowerCase());
    if (match === null || place < 0) return null;
    targets.push({ place, casts: (match[2] ?? "").trimEnd() });
  }
  return targets;
}

function withValues(sql: string, rows: readonly string[], isOrdered: boolean): RowsInText | null {
  const words = outerWords(sql, ["select", "on", "returning"]);
  const select = words.get("select");
  if (select === undefined) return null;
  const tails = ["on", "returning", ""].flatMap((word) => words.get(word) ?? []);
  const tail: Span = { start: Math.min(...tails.map(({ start }) => start)), end: sql.length };
  const head = sql.slice(0, select.start);
  return { sql: `${head}VALUES ${rows.join(", ")} ${textOf(sql, tail)}`, isOrdered };
}
