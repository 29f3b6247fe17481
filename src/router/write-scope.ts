import type {
  DeleteStmt,
  InsertStmt,
  Node,
  RangeVar,
  SelectStmt,
  UpdateStmt,
  WithClause,
} from "libpg-query";
import { namesOf } from "../sql/ast.js";
import { Block, type TableRef } from "./block.js";
import { settle } from "./colocation.js";
import type { KeyTerm } from "./key-value.js";
import {
  addExpression,
  addFrom,
  addQuery,
  addSelectTo,
  addTarget,
  addWhere,
  type WriteTarget,
} from "./query.js";
import { Refusal } from "./refusal.js";
import type { Scope } from "./scope.js";

export interface UpdateTarget extends WriteTarget {
  /** What the sharding key becomes; null: it stays. */
  readonly assignedKey: Node | null;
}

export interface InsertTarget extends WriteTarget {
  /** Names of the columns that the statement gives; null: not known. */
  readonly columns: readonly string[] | null;
  /** Of VALUES; 0 for INSERT ... SELECT. */
  readonly rowCount: number;
  /** One per row of VALUES into a sharded table. */
  readonly keys: readonly KeyTerm[];
}

/** A write within WITH: it runs on the statement's one shard, so its table must be sharded. */
export function addWrite(scope: Scope, query: Node, parent: Block): void {
  const { ref, assignedKey, block } = targetOf(scope, query, parent);
  settle(scope, block, null);
  if (!ref.isSharded)
    throw new Refusal("unsupported", "a write to an omnisharded table within WITH");
  if (assignedKey !== null) throw new Refusal("keyUpdateShape", "WITH");
}

function targetOf(scope: Scope, query: Node, parent: Block): UpdateTarget {
  if ("UpdateStmt" in query) return addUpdate(scope, query.UpdateStmt, parent);
  if ("DeleteStmt" in query) {
    return { ...addDelete(scope, query.DeleteStmt, parent), assignedKey: null };
  }
  if ("InsertStmt" in query) {
    return { ...addInsert(scope, query.InsertStmt, parent), assignedKey: null };
  }
  throw new Refusal("unsupported", "MERGE");
}

interface TargetClauses {
  readonly relation?: RangeVar | undefined;
  readonly withClause?: WithClause | undefined;
  readonly parent: Block | null;
}

function begin(scope: Scope, clauses: TargetClauses): WriteTarget {
  const block = new Block(clauses.parent);
  scope.addWith(clauses.withClause, block, (query, within) => addQuery(scope, query, within));
  return addTarget(scope, clauses.relation ?? {}, block);
}

export function addUpdate(scope: Scope, update: UpdateStmt, parent: Block | null): UpdateTarget {
  const { relation, withClause, fromClause, whereClause, targetList } = update;
  const target = begin(scope, { relation, withClause, parent });
  const { block, name } = target;
  for (const item of fromClause ?? []) addFrom(scope, item, block);
  addWhere(scope, whereClause, block);
  addExpression(scope, [targetList, returningOf(update)], block);
  const assigned = name.keyNames.map((column) => assignment(targetList, column));
  return { ...target, assignedKey: assigned.find((node) => node !== null) ?? null };
}

/** PostgreSQL 18 moved the list into a clause of its own. */
function returningOf(statement: UpdateStmt | DeleteStmt | InsertStmt): unknown {
  return statement.returningClause;
}

export function hasReturning(statement: UpdateStmt | DeleteStmt | InsertStmt): boolean {
  return returningOf(statement) !== undefined;
}

/** The expression assigned to a column by a list of SET; null: none. */
export function assignment(targetList: readonly Node[] | undefined, column: string): Node | null {
  for (const node of targetList ?? []) {
    if (!("ResTarget" in node) || node.ResTarget.name !== column) continue;
    const { val } = node.ResTarget;
    if (val === undefined || !("MultiAssignRef" in val)) return val ?? node;
    const { source, colno } = val.MultiAssignRef;
    const row = source !== undefined && "RowExpr" in source ? source.RowExpr.args : undefined;
    return row?.[(colno ?? 1) - 1] ?? node;
  }
  return null;
}

export function addDelete(scope: Scope, statement: DeleteStmt, parent: Block | null): WriteTarget {
  const { relation, withClause, usingClause, whereClause } = statement;
  const target = begin(scope, { relation, withClause, parent });
  const { block } = target;
  for (const item of usingClause ?? []) addFrom(scope, item, block);
  addWhere(scope, whereClause, block);
  addExpression(scope, returningOf(statement), block);
  return target;
}

export function addInsert(scope: Scope, insert: InsertStmt, parent: Block | null): InsertTarget {
  const block = new Block(parent);
  scope.addWith(insert.withClause, block, (query, within) => addQuery(scope, query, within));
  // Its columns are no names in the query that feeds it.
  const aside = new Block(block);
  const { name, ref } = addTarget(scope, insert.relation ?? {}, aside);
  block.located.push(...aside.located);
  addExpression(scope, [insert.onConflictClause, returningOf(insert)], aside);
  const source = insert.selectStmt;
  const select = source !== undefined && "SelectStmt" in source ? source.SelectStmt : null;
  if (select !== null) addSelectTo(scope, select, block);
  const columns = insertColumns(insert, name);
  const rowCount = select?.valuesLists?.length ?? 0;
  const target = { block, name, ref, columns, rowCount, keys: [] };
  if (!ref.isSharded) return target;
  refuseKeyOnConflict(insert, name);
  // Where no list could be written in, values are for whatever columns there are by then.
  const isByPosition = rowCount === 0 && (insert.cols ?? []).length === 0 && select !== null;
  if (isByPosition && columns !== null) throw new Refusal("insertColumns", ref.table?.name);
  return { ...target, keys: placeInsert(scope, select, target) };
}

/** By their names in the table that is written to. */
function insertColumns(insert: InsertStmt, name: TableRef): readonly string[] | null {
  const named = (insert.cols ?? []).map((node) =>
    "ResTarget" in node ? (node.ResTarget.name ?? "") : "",
  );
  const shown = name.columns ?? name.table?.facts?.columns ?? null;
  const columns = named.length > 0 ? named : shown?.map((column) => column.name);
  return columns?.map((column) => name.originOf(column)?.column ?? column) ?? null;
}

/** `SET key = EXCLUDED.key` stays: the new row's key routed the statement. */
function refuseKeyOnConflict(insert: InsertStmt, name: TableRef): void {
  for (const column of name.keyNames) {
    const assigned = assignment(insert.onConflictClause?.targetList, column);
    if (assigned === null) continue;
    const names = "ColumnRef" in assigned ? namesOf(assigned.ColumnRef.fields) : [];
    const isSame = names.length === 2 && names[0] === "excluded" && names[1] === column;
    if (!isSame) throw new Refusal("keyUpdateOnConflict", column);
  }
}

function placeInsert(
  scope: Scope,
  select: SelectStmt | null,
  target: InsertTarget,
): readonly KeyTerm[] {
  const { ref, columns } = target;
  const { rule, name } = ref.table ?? {};
  if (!rule) return [];
  const keyName = `"${name}"."${rule.column}"`;
  if (columns === null) throw new Refusal("unknownColumns", name);
  const position = columns.indexOf(rule.column);
  if (position < 0 || select === null) throw new Refusal("missingKey", keyName);
  if (target.rowCount === 0) {
    placeInsertSelect(scope, select, { ref, position, keyName, block: target.block });
    return [];
  }
  const terms = (select.valuesLists ?? []).map((row) => {
    const node = "List" in row ? row.List.items?.[position] : undefined;
    if (node === undefined || "SetToDefault" in node) throw new Refusal("missingKey", keyName);
    const value = scope.reader.key(node, rule.dataType);
    if (value === null) throw new Refusal("computedKey", keyName);
    return { value, isArray: false };
  });
  ref.constraints.push({ terms, isInserted: true });
  return terms;
}

interface SelectedKey {
  readonly ref: TableRef;
  readonly position: number;
  readonly keyName: string;
  readonly block: Block;
}

function placeInsertSelect(scope: Scope, select: SelectStmt, key: SelectedKey): void {
  const { ref, position, keyName, block } = key;
  const targets = (select.targetList ?? []).map((node) =>
    "ResTarget" in node ? node.ResTarget.val : undefined,
  );
  const isStar = (node: Node | undefined) =>
    node !== undefined && "ColumnRef" in node && namesOf(node.ColumnRef.fields).at(-1) === "*";
  const hasStarBefore = targets.slice(0, position + 1).some(isStar);
  const node = targets[position];
  const type = ref.table?.rule?.dataType;
  if (node === undefined || hasStarBefore || type === undefined || select.op !== "SETOP_NONE") {
    throw new Refusal("insertSelect", keyName);
  }
  const value = scope.reader.key(node, type);
  if (value !== null) {
    ref.constraints.push({ terms: [{ value, isArray: false }], isInserted: true });
    return;
  }
  const owner = scope.keyOwner(node, block);
  if (owner === null || owner.isNullable) throw new Refusal("insertSelect", keyName);
  ref.join(owner);
  if (owner.together !== ref.together) throw new Refusal("insertSelect", keyName);
}
