import type { CopyStmt, InsertStmt, Node, SelectStmt } from "libpg-query";
import { quoteIdentifier } from "../core/identifier.js";
import { namesOf } from "../sql/ast.js";
import type { LiftedText } from "../sql/literals.js";
import { parse } from "../sql/parser.js";
import { type Analyzed, StatementCache } from "../sql/statement-cache.js";
import type { Catalog } from "./catalog.js";
import { insertsOf, isStar } from "./draw.js";
import { type MissingList, withLists } from "./insert-text.js";

const NAME = String.raw`(?:"(?:[^"]|"")*"|[\w$\u0080-\uffff]+)`;
/** What programs send mostly, told without a parse: no INSERT or COPY at all, or one with its list. */
const OTHER = /^\s*(?:select|update|delete|values|begin|commit|rollback|set|savepoint|release)\b/i;
const LISTED = new RegExp(
  String.raw`^\s*(?:insert\s+into|copy)\s+${NAME}(?:\s*\.\s*${NAME})?\s*\((?!\s*(?:select|values|with|table)\b|\s*\()`,
  "i",
);
const MAY_LACK_LIST = /\binsert\s+into\b|\bcopy\b/i;

/**
 * The lists of columns that INSERT and COPY leave out (R53): which column a value is for is known here by the tables as
 * they were read, and PostgreSQL would take them as they are. Written out it is one and the same.
 */
export class ColumnLists {
  readonly #cache: StatementCache<readonly MissingList[]>;

  constructor(catalog: Catalog) {
    this.#cache = new StatementCache((sql, lifted) => missing(sql, lifted, catalog));
  }

  written(sql: string): string {
    if (OTHER.test(sql) || LISTED.test(sql) || !MAY_LACK_LIST.test(sql)) return sql;
    const { value: lists } = this.#cache.get(sql);
    return lists.length === 0 ? sql : (withLists(sql, lists) ?? sql);
  }
}

/** The same for every text of a shape: constants change neither columns nor how many values there are. */
function missing(
  sql: string,
  { spans }: LiftedText,
  catalog: Catalog,
): Analyzed<readonly MissingList[]> {
  const parsed = parse(sql);
  // A mistake may lie in the constants.
  if (parsed.kind !== "parsed")
    return { value: [], pinned: Array.from({ length: spans.length / 2 }, (_, index) => index) };
  const [statement, other] = parsed.statements;
  if (statement === undefined || other !== undefined) return { value: [], pinned: [] };
  if ("CopyStmt" in statement) return { value: ofCopy(statement.CopyStmt, catalog), pinned: [] };
  const explained = "ExplainStmt" in statement ? statement.ExplainStmt.query : statement;
  const inserts = explained === undefined ? [] : insertsOf(explained);
  const at = { catalog, mayBeShadowed: /\bwith\b/i.test(sql) };
  const lists = inserts.flatMap((insert, ordinal) => ofInsert(insert, ordinal, at) ?? []);
  return { value: lists, pinned: [] };
}

function ofCopy(copy: CopyStmt, catalog: Catalog): readonly MissingList[] {
  const { relation, attlist } = copy;
  if (relation === undefined || (attlist ?? []).length > 0) return [];
  const columns = catalog.columns(relation)?.filter((column) => !column.isGenerated) ?? [];
  if (columns.length === 0) return [];
  const names = columns.map(({ name }) => quoteIdentifier(name));
  return [{ ordinal: null, table: relation.relname ?? "", columns: names }];
}

interface Place {
  readonly catalog: Catalog;
  /** A name in FROM may be one of WITH. */
  readonly mayBeShadowed: boolean;
}

function ofInsert(insert: InsertStmt, ordinal: number, at: Place): MissingList | null {
  const { relation, cols, selectStmt } = insert;
  if (relation === undefined || (cols ?? []).length > 0) return null;
  if (selectStmt === undefined || !("SelectStmt" in selectStmt)) return null;
  const columns = at.catalog.columns(relation);
  const width = widthOf(selectStmt.SelectStmt, at);
  if (columns === null || width === null || width > columns.length) return null;
  const names = columns.slice(0, width).map(({ name }) => quoteIdentifier(name));
  return { ordinal, table: relation.relname ?? "", columns: names };
}

/** How many columns its rows have; null: not known. */
function widthOf(select: SelectStmt, at: Place): number | null {
  if (select.larg !== undefined) return widthOf(select.larg, at);
  const { valuesLists } = select;
  if (valuesLists !== undefined && valuesLists.length > 0) {
    const rows = valuesLists.map((row) => ("List" in row ? (row.List.items ?? []) : []));
    if (rows.some((row) => row.some(isStar) || row.length !== rows[0]?.length)) return null;
    return rows[0]?.length ?? null;
  }
  let width = 0;
  for (const target of select.targetList ?? []) {
    const columns = columnsOfTarget(target, select, at);
    if (columns === null) return null;
    width += columns;
  }
  return width === 0 ? null : width;
}

/** One, or as many as a star stands for. */
function columnsOfTarget(
  target: Node,
  select: SelectStmt,
  { catalog, mayBeShadowed }: Place,
): number | null {
  const value = "ResTarget" in target ? target.ResTarget.val : undefined;
  if (value === undefined) return null;
  if (!isStar(value)) return 1;
  const names = "ColumnRef" in value ? namesOf(value.ColumnRef.fields) : [];
  const [only, other] = select.fromClause ?? [];
  if (only === undefined || other !== undefined || !("RangeVar" in only)) return null;
  const { relname, alias, schemaname } = only.RangeVar;
  const isNamed = names.length === 1 || names.at(-2) === (alias?.aliasname ?? relname);
  const isTable = schemaname !== undefined || !mayBeShadowed;
  return isNamed && isTable ? (catalog.columns(only.RangeVar)?.length ?? null) : null;
}
