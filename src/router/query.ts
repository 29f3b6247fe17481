import type { JoinExpr, Node, SelectStmt } from "libpg-query";
import { namesOf } from "../sql/ast.js";
import { keyConditions } from "./conditions.js";
import { Refusal } from "./refusal.js";
import { Block, type Scope, type TableRef } from "./scope.js";

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
  if (select.larg !== undefined) addSelect(scope, select.larg, block);
  if (select.rarg !== undefined) addSelect(scope, select.rarg, block);
  for (const item of select.fromClause ?? []) addFrom(scope, item, { block, isNullable: false });
  addWhere(scope, select.whereClause, block);
  const { targetList, groupClause, havingClause, windowClause, sortClause, valuesLists } = select;
  const { limitCount, limitOffset, distinctClause } = select;
  const others = [targetList, groupClause, havingClause, windowClause, sortClause, valuesLists];
  addExpression(scope, [...others, limitCount, limitOffset, distinctClause], block);
  if ((select.lockingClause ?? []).length > 0) scope.locksRows = true;
}

export function hasLimit(select: SelectStmt): boolean {
  return select.limitCount !== undefined || select.limitOffset !== undefined;
}

/** A query within WITH: may write. */
export function addQuery(scope: Scope, query: Node, parent: Block): void {
  if ("SelectStmt" in query) addSelect(scope, query.SelectStmt, parent);
  else {
    scope.writesInWith = true;
    scope.addNestedWrite(scope, query, parent);
  }
}

export function addExpression(scope: Scope, root: unknown, block: Block): void {
  scope.addExpression(root, block, (select, parent) => addSelect(scope, select, parent));
}

export function addWhere(scope: Scope, where: Node | undefined, block: Block): void {
  addExpression(scope, where, block);
  const { constraints, equalities } = keyConditions(where, block, scope);
  for (const { ref, terms } of constraints) {
    // A condition on a table outside holds for the rows in here only.
    if (ref.block === block) ref.constraints.push({ terms, isWeak: false, isInserted: false });
  }
  for (const [left, right] of equalities) left.join(right);
}

interface FromPlace {
  readonly block: Block;
  /** Below the side of an outer join that may be missing. */
  readonly isNullable: boolean;
}

/** @returns the tables below this item */
export function addFrom(scope: Scope, item: Node, place: FromPlace): readonly TableRef[] {
  const { block } = place;
  if ("RangeVar" in item) {
    const ref = scope.addTable(item.RangeVar, block);
    ref.isNullable = place.isNullable;
    return [ref];
  }
  if ("RangeSubselect" in item) {
    const { subquery, alias, lateral } = item.RangeSubselect;
    const parent = lateral === true ? block : outside(block);
    if (subquery !== undefined) addQuery(scope, subquery, parent);
    scope.addDerived(alias?.aliasname ?? "", block);
    return [];
  }
  if ("RangeFunction" in item) {
    addExpression(scope, item.RangeFunction.functions, block);
    scope.addDerived(item.RangeFunction.alias?.aliasname ?? "", block);
    return [];
  }
  if ("RangeTableSample" in item && item.RangeTableSample.relation !== undefined) {
    addExpression(scope, item.RangeTableSample.args, block);
    return addFrom(scope, item.RangeTableSample.relation, place);
  }
  if ("JoinExpr" in item) return addJoin(scope, item.JoinExpr, place);
  throw new Refusal("unsupported", "this kind of FROM item");
}

/** Sees the CTEs of a block, and not its tables. */
function outside(block: Block): Block {
  const around = new Block(block.parent);
  for (const name of block.ctes) around.ctes.add(name);
  return around;
}

function addJoin(scope: Scope, join: JoinExpr, place: FromPlace): readonly TableRef[] {
  const { block } = place;
  const isLeft = join.jointype === "JOIN_LEFT" || join.jointype === "JOIN_FULL";
  const isRight = join.jointype === "JOIN_RIGHT" || join.jointype === "JOIN_FULL";
  const side = (item: Node | undefined, isNullable: boolean) =>
    item === undefined
      ? []
      : addFrom(scope, item, { block, isNullable: place.isNullable || isNullable });
  const left = side(join.larg, isRight);
  const right = side(join.rarg, isLeft);
  const hasSharded = (refs: readonly TableRef[]) => refs.some((ref) => ref.isSharded);
  if (isLeft && isRight) block.preservesOutside ||= hasSharded(left) || hasSharded(right);
  else if (isLeft) block.preservesOutside ||= hasSharded(right) && !hasSharded(left);
  else if (isRight) block.preservesOutside ||= hasSharded(left) && !hasSharded(right);
  const nullable = isLeft ? right : left;
  const isOuter = isLeft || isRight;
  const concerns = (ref: TableRef) => !isOuter || (isLeft !== isRight && nullable.includes(ref));
  addExpression(scope, join.quals, block);
  const { constraints, equalities } = keyConditions(join.quals, block, scope);
  for (const { ref, terms } of constraints) {
    if (ref.block === block && concerns(ref)) {
      const isWeak = isOuter || place.isNullable;
      ref.constraints.push({ terms, isWeak, isInserted: false });
    }
  }
  // ON of an outer join says nothing of rows on the side that is kept.
  for (const [one, other] of equalities) if (concerns(one) || concerns(other)) one.join(other);
  for (const column of namesOf(join.usingClause)) {
    block.merged.add(column);
    if (isLeft && isRight) continue;
    const owners = (refs: readonly TableRef[]) =>
      refs.find((ref) => ref.isSharded && ref.table?.rule?.column === column);
    const one = owners(left);
    const other = owners(right);
    if (one !== undefined && other !== undefined) one.join(other);
  }
  return [...left, ...right];
}
