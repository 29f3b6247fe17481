import type { JoinExpr, Node, RangeVar, SelectStmt, SubLink } from "libpg-query";
import { namesOf } from "../sql/ast.js";
import { Block, type ColumnEquality, type DerivedColumn, isNeverNull, TableRef } from "./block.js";
import { handOver, holdAlways, holdForMissable, settle } from "./colocation.js";
import { keyConditions } from "./conditions.js";
import { givesRowsByShard, isPlainQuery } from "./grouping.js";
import { keySpace } from "./locators.js";
import { outputsOf } from "./outputs.js";
import { Refusal } from "./refusal.js";
import type { Scope } from "./scope.js";
import { type ViewQuery, viewQuery } from "./view-query.js";

/** A statement that writes, noted in its scope. */
export interface WriteTarget {
  readonly block: Block;
  /** As the statement names it. */
  readonly name: TableRef;
  /** The table that is written to: `name`, or what it shows. */
  readonly ref: TableRef;
}

/** Notes what a SELECT reads, subqueries and WITH included. */
export function addSelect(scope: Scope, select: SelectStmt, parent: Block | null): Block {
  const block = new Block(parent);
  addSelectTo(scope, select, block);
  if (parent !== null && hasLimit(select)) scope.hasInnerLimit = true;
  return block;
}

/** The same for a block that is there already. */
export function addSelectTo(scope: Scope, select: SelectStmt, block: Block): void {
  scope.addWith(select.withClause, block, (query, within) => addQuery(scope, query, within));
  for (const branch of [select.larg, select.rarg]) {
    if (branch !== undefined) settle(scope, addSelect(scope, branch, block), null);
  }
  for (const item of select.fromClause ?? []) addFrom(scope, item, block);
  addWhere(scope, select.whereClause, block);
  const { targetList, groupClause, havingClause, windowClause, sortClause, valuesLists } = select;
  const { limitCount, limitOffset, distinctClause } = select;
  for (const list of [targetList, groupClause, sortClause, distinctClause]) refuseLong(list);
  const others = [targetList, groupClause, havingClause, windowClause, sortClause, valuesLists];
  addExpression(scope, [...others, limitCount, limitOffset, distinctClause], block);
  if ((select.lockingClause ?? []).length > 0) scope.locksRows = true;
}

/** MaxTupleAttributeNumber: PostgreSQL refuses more, and each is compared with each. */
const MOST_COLUMNS = 1_664;

function refuseLong(list: readonly Node[] | undefined): void {
  if ((list ?? []).length > MOST_COLUMNS)
    throw new Refusal("tooComplex", `a list of more than ${MOST_COLUMNS} columns`);
}

export function hasLimit(select: SelectStmt): boolean {
  return select.limitCount !== undefined || select.limitOffset !== undefined;
}

/** A query that is read by nothing that we look at, or of WITH: may write. */
export function addQuery(scope: Scope, query: Node, parent: Block): void {
  if ("SelectStmt" in query) {
    settle(scope, addSelect(scope, query.SelectStmt, parent), null);
    return;
  }
  scope.writesInWith = true;
  scope.addNestedWrite(scope, query, parent);
}

/** @param root an expression of which nothing is known but that it is computed */
export function addExpression(scope: Scope, root: unknown, block: Block): void {
  scope.addExpression(root, (node) => {
    if (!("SubLink" in node)) return false;
    addSubLink(scope, node.SubLink, { block, isCondition: false });
    return true;
  });
}

export function addWhere(scope: Scope, where: Node | undefined, block: Block): void {
  addCondition(scope, where, block);
  holdAlways(block, keyConditions(where, block, scope));
}

/** An expression where false and NULL are one, as rows that do not meet it are left out. */
function addCondition(scope: Scope, node: Node | undefined, block: Block): void {
  if (node === undefined) return;
  if ("BoolExpr" in node && node.BoolExpr.boolop !== "NOT_EXPR") {
    for (const arg of node.BoolExpr.args ?? []) addCondition(scope, arg, block);
  } else if ("SubLink" in node) addSubLink(scope, node.SubLink, { block, isCondition: true });
  else addExpression(scope, node, block);
}

function addSubLink(
  scope: Scope,
  link: SubLink,
  { block, isCondition }: { readonly block: Block; readonly isCondition: boolean },
): void {
  addExpression(scope, link.testexpr, block);
  const query = link.subselect;
  if (query === undefined || !("SelectStmt" in query))
    throw new Refusal("unsupported", "this query");
  const inner = addSelect(scope, query.SelectStmt, block);
  if (isPlainQuery(query.SelectStmt, scope)) {
    const equalities = memberEqualities(scope, link, { block, inner, select: query.SelectStmt });
    // NOT IN: a NULL among the rows of another shard would count.
    const isSure = isCondition || equalities.every((uses) => uses.every(isNeverNull));
    if (isSure) holdAlways(inner, { constraints: [], equalities });
  }
  settle(scope, inner, null);
}

/** `x IN (SELECT y ...)` is true by a row where x = y. */
function memberEqualities(
  scope: Scope,
  link: SubLink,
  query: { readonly block: Block; readonly inner: Block; readonly select: SelectStmt },
): readonly ColumnEquality[] {
  const operator = namesOf(link.operName);
  const isEqual = operator.length === 0 || operator.at(-1) === "=";
  if (link.subLinkType !== "ANY_SUBLINK" || !isEqual || link.testexpr === undefined) return [];
  const { testexpr } = link;
  const tests = "RowExpr" in testexpr ? (testexpr.RowExpr.args ?? []) : [testexpr];
  const outputs = outputsOf(query.select, query.inner, scope);
  return tests.flatMap((test, index) => {
    const outer = scope.column(test, query.block);
    const inner = outputs?.[index]?.use;
    return outer && inner ? [[outer, inner] as const] : [];
  });
}

/** @returns the names below this item */
export function addFrom(scope: Scope, item: Node, block: Block): readonly TableRef[] {
  if ("RangeVar" in item) {
    const { relname = "", schemaname, alias } = item.RangeVar;
    const named = { alias: alias?.aliasname ?? relname, columns: namesOf(alias?.colnames) };
    const cte = schemaname === undefined ? block.ctes.get(relname) : undefined;
    if (cte === null) {
      scope.countName();
      return [addUnknown(block, named.alias)];
    }
    if (cte !== undefined) {
      const columns = [...named.columns, ...cte.columns.slice(named.columns.length)];
      return [addDerived(scope, cte.select, { ...named, columns, parent: cte.home, block })];
    }
    const view = scope.catalog.view(item.RangeVar);
    if (view !== null) return [addView(scope, view, { ...named, block })];
    return [scope.addTable(item.RangeVar, block)];
  }
  if ("RangeSubselect" in item) {
    const { subquery, alias, lateral } = item.RangeSubselect;
    const parent = lateral === true ? block : block.besides();
    const named = { alias: alias?.aliasname ?? "", columns: namesOf(alias?.colnames) };
    if (subquery === undefined || !("SelectStmt" in subquery)) {
      throw new Refusal("unsupported", "this kind of FROM item");
    }
    return [addDerived(scope, subquery.SelectStmt, { ...named, parent, block })];
  }
  if ("RangeFunction" in item) {
    scope.countName();
    addExpression(scope, item.RangeFunction.functions, block);
    return [addUnknown(block, item.RangeFunction.alias?.aliasname ?? "")];
  }
  if ("RangeTableSample" in item && item.RangeTableSample.relation !== undefined) {
    addExpression(scope, item.RangeTableSample.args, block);
    return addFrom(scope, item.RangeTableSample.relation, block);
  }
  if ("JoinExpr" in item) return addJoin(scope, item.JoinExpr, block);
  throw new Refusal("unsupported", "this kind of FROM item");
}

/**
 * The table or view that a statement writes to: no name of WITH.
 * @throws Refusal for a view of which PostgreSQL could not tell whose rows it shows, or that does otherwise
 */
export function addTarget(scope: Scope, range: RangeVar, block: Block): WriteTarget {
  const view = scope.catalog.view(range);
  if (view === null) {
    const ref = scope.addTable(range, block);
    return { block, name: ref, ref };
  }
  const alias = range.alias?.aliasname ?? range.relname ?? "";
  const name = addView(scope, view, { alias, columns: [], block });
  if (name.base === null) throw new Refusal("viewWrite", view.name);
  return { block, name, ref: name.base };
}

function addUnknown(block: Block, alias: string): TableRef {
  const ref = new TableRef({ table: null, alias, isAliased: true });
  block.refs.push(ref);
  return ref;
}

interface DerivedPlace {
  readonly alias: string;
  /** Names given to its columns, as far as they are. */
  readonly columns: readonly string[];
  /** What its query sees. */
  readonly parent: Block | null;
  readonly block: Block;
  readonly view?: ViewQuery & { readonly name: string };
}

/** A view is its query in its place. */
function addView(
  scope: Scope,
  facts: Parameters<typeof viewQuery>[0],
  place: Omit<DerivedPlace, "parent" | "view">,
): TableRef {
  const query = viewQuery(facts);
  if (query === null) throw new Refusal("viewOverShards", facts.name);
  const names = facts.columns.map((column) => column.name);
  return addDerived(scope, query.select, {
    ...place,
    columns: [...place.columns, ...names.slice(place.columns.length)],
    parent: null,
    view: { ...query, name: facts.name },
  });
}

function addDerived(scope: Scope, select: SelectStmt, place: DerivedPlace): TableRef {
  const { block, view } = place;
  scope.countDerived();
  const inner = new Block(place.parent, view?.reader);
  addSelectTo(scope, select, inner);
  if (hasLimit(select)) scope.hasInnerLimit = true;
  const isOpen = givesRowsByShard(select, inner, scope);
  // Rows of another moment: what foreign keys say holds for rows as they are.
  if (view?.isStored === true) for (const ref of inner.located) forgetOtherLocators(ref);
  if (isOpen) handOver(inner, block);
  else settle(scope, inner, view?.name ?? null);
  if (isOpen) block.preservesOutside ||= inner.preservesOutside;
  block.hasInnerOrder ||= inner.hasInnerOrder || (select.sortClause ?? []).length > 0;
  const ref = new TableRef({
    table: null,
    alias: place.alias,
    isAliased: true,
    columns: derivedColumns(scope, select, { ...place, inner, isOpen }),
    located: isOpen ? inner.located : [],
    base: view?.isWritable === true ? baseOf(scope, select, inner) : null,
  });
  block.refs.push(ref);
  return ref;
}

/** What PostgreSQL takes for the table of a view that it can write through. */
function baseOf(scope: Scope, select: SelectStmt, inner: Block): TableRef | null {
  const isDistinct = (select.distinctClause ?? []).length > 0;
  const [only, other] = inner.refs;
  const isSimple = isPlainQuery(select, scope) && !isDistinct && select.withClause === undefined;
  return isSimple && other === undefined ? (only?.base ?? null) : null;
}

function forgetOtherLocators(ref: TableRef): void {
  const rule = ref.table?.rule;
  ref.locators = rule ? [{ space: keySpace(rule), columns: [rule.column] }] : [];
}

function derivedColumns(
  scope: Scope,
  select: SelectStmt,
  place: DerivedPlace & { readonly inner: Block; readonly isOpen: boolean },
): readonly DerivedColumn[] | null {
  const { inner, columns, isOpen } = place;
  const outputs = select.op === "SETOP_NONE" ? outputsOf(select, inner, scope) : null;
  if (outputs === null) return null;
  return outputs.map(({ name, use, isBytewise }, index) => ({
    name: columns[index] ?? name ?? "?column?",
    isBytewise,
    origin: isOpen && use?.at === inner ? { ref: use.ref, column: use.column } : null,
  }));
}

function addJoin(scope: Scope, join: JoinExpr, block: Block): readonly TableRef[] {
  const isLeft = join.jointype === "JOIN_LEFT" || join.jointype === "JOIN_FULL";
  const isRight = join.jointype === "JOIN_RIGHT" || join.jointype === "JOIN_FULL";
  const left = join.larg === undefined ? [] : addFrom(scope, join.larg, block);
  const right = join.rarg === undefined ? [] : addFrom(scope, join.rarg, block);
  if (isLeft || isRight) {
    const [kept, missable] = isLeft ? [left, right] : [right, left];
    const isEither = isLeft && isRight && located(kept).length > 0;
    const isKeptByAll = located(missable).length > 0 && located(kept).length === 0;
    block.preservesOutside ||= isEither || isKeptByAll;
  }
  addCondition(scope, join.quals, block);
  const { constraints, equalities } = keyConditions(join.quals, block, scope);
  const shared = join.isNatural === true ? sharedColumns(left, right) : namesOf(join.usingClause);
  const using = shared ?? [];
  const conditions = {
    constraints,
    equalities: [
      ...equalities,
      ...using.flatMap((name) => usingEquality(name, { left, right, block })),
    ],
  };
  for (const column of using) block.merged.add(column);
  // Columns that we do not know may be among them.
  if (shared === null) block.merged.add("");
  const alias = join.alias?.aliasname ?? join.join_using_alias?.aliasname;
  const names = [...left, ...right];
  if (!isLeft && !isRight) holdAlways(block, conditions);
  else if (isLeft !== isRight) holdForMissable(block, conditions, located(isLeft ? right : left));
  if (isRight) markNullable(left);
  if (isLeft) markNullable(right);
  if (alias !== undefined) names.push(addUnknown(block, alias));
  return names;
}

/** What NATURAL joins by: the columns that both sides have; null: not known. */
function sharedColumns(
  left: readonly TableRef[],
  right: readonly TableRef[],
): readonly string[] | null {
  if ([...left, ...right].some((ref) => ref.hasUnknownColumns || ref.table?.kind === "system"))
    return null;
  const names = new Set(right.flatMap((ref) => ref.columnNames));
  return [...new Set(left.flatMap((ref) => ref.columnNames))].filter((name) => names.has(name));
}

function located(names: readonly TableRef[]): readonly TableRef[] {
  return names.flatMap((ref) => ref.located);
}

function markNullable(names: readonly TableRef[]): void {
  for (const ref of [...names, ...located(names)]) ref.isNullable = true;
}

function usingEquality(
  column: string,
  sides: {
    readonly left: readonly TableRef[];
    readonly right: readonly TableRef[];
    readonly block: Block;
  },
): readonly ColumnEquality[] {
  const use = (names: readonly TableRef[]) => {
    const origin = names.find((ref) => ref.hasColumn(column))?.originOf(column);
    return origin ? { ...origin, at: sides.block } : null;
  };
  const [one, other] = [use(sides.left), use(sides.right)];
  return one && other ? [[one, other]] : [];
}
