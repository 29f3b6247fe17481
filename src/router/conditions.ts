import type { A_Expr, Node } from "libpg-query";
import { namesOf } from "../sql/ast.js";
import { type Block, type ColumnEquality, type ColumnUse, isNeverNull } from "./block.js";
import type { KeyTerm } from "./key-value.js";
import type { Scope } from "./scope.js";

/** What a condition says of one table's key, in rows that meet it: it is among these. */
export interface KeyConstraint {
  readonly use: ColumnUse;
  readonly terms: readonly KeyTerm[];
}

export interface KeyConditions {
  readonly constraints: readonly KeyConstraint[];
  readonly equalities: readonly ColumnEquality[];
}

const NOTHING: KeyConditions = { constraints: [], equalities: [] };

/** Reads equalities under AND, and under OR where every branch has one for the same table. */
export function keyConditions(node: Node | undefined, block: Block, scope: Scope): KeyConditions {
  if (node === undefined) return NOTHING;
  if ("BoolExpr" in node) {
    const branches = (node.BoolExpr.args ?? []).map((arg) => keyConditions(arg, block, scope));
    if (node.BoolExpr.boolop === "AND_EXPR") return all(branches);
    return node.BoolExpr.boolop === "OR_EXPR" ? any(branches) : NOTHING;
  }
  return "A_Expr" in node ? comparison(node.A_Expr, { block, scope }) : NOTHING;
}

function all(branches: readonly KeyConditions[]): KeyConditions {
  return {
    constraints: branches.flatMap((branch) => branch.constraints),
    equalities: branches.flatMap((branch) => branch.equalities),
  };
}

function any(branches: readonly KeyConditions[]): KeyConditions {
  const [first, ...others] = branches;
  const constraints: KeyConstraint[] = [];
  for (const { use, terms } of first?.constraints ?? []) {
    const matches = others.map((branch) =>
      branch.constraints.find((one) => one.use.ref === use.ref && one.use.at === use.at),
    );
    if (matches.some((match) => match === undefined)) continue;
    constraints.push({ use, terms: [...terms, ...matches.flatMap((match) => match?.terms ?? [])] });
  }
  return { constraints, equalities: [] };
}

interface Place {
  readonly block: Block;
  readonly scope: Scope;
}

function comparison(expression: A_Expr, place: Place): KeyConditions {
  const names = namesOf(expression.name);
  const isPlain = names.length === 1 || names[0] === "pg_catalog";
  if (!isPlain || names.at(-1) !== "=") return NOTHING;
  const { lexpr, rexpr } = expression;
  switch (expression.kind) {
    case "AEXPR_OP":
      return equality(lexpr, rexpr, place);
    case "AEXPR_NOT_DISTINCT":
      return withoutNulls(equality(lexpr, rexpr, place));
    case "AEXPR_IN":
      return membership(lexpr, rexpr, place);
    case "AEXPR_OP_ANY":
      return arrayMembership(lexpr, rexpr, place);
    default:
      return NOTHING;
  }
}

/** NULL is the same as NULL here, and a key is NULL where an outer join has left its row out. */
function withoutNulls({ constraints, equalities }: KeyConditions): KeyConditions {
  return {
    constraints: constraints.filter(({ use }) => isNeverNull(use)),
    equalities: equalities.filter((uses) => uses.some(isNeverNull)),
  };
}

function equality(left: Node | undefined, right: Node | undefined, place: Place): KeyConditions {
  if (left !== undefined && "RowExpr" in left && right !== undefined && "RowExpr" in right) {
    const others = right.RowExpr.args ?? [];
    return all((left.RowExpr.args ?? []).map((arg, index) => equality(arg, others[index], place)));
  }
  const leftUse = place.scope.column(left, place.block);
  const rightUse = place.scope.column(right, place.block);
  if (leftUse !== null && rightUse !== null) {
    return { constraints: [], equalities: [[leftUse, rightUse]] };
  }
  if (leftUse !== null) return constraintOn(leftUse, right, place);
  return rightUse === null ? NOTHING : constraintOn(rightUse, left, place);
}

function constraintOn(use: ColumnUse, node: Node | undefined, place: Place): KeyConditions {
  const type = use.ref.isKey(use.column) ? use.ref.table?.rule?.dataType : undefined;
  const { block, scope } = place;
  const value = type === undefined ? null : scope.readerOf(block).key(node, type);
  if (value === null) return NOTHING;
  return { constraints: [{ use, terms: [{ value, isArray: false }] }], equalities: [] };
}

/** `key IN (1, 2)` and `(key, id) IN ((1, 2), (3, 4))`: an OR of equalities. */
function membership(left: Node | undefined, right: Node | undefined, place: Place): KeyConditions {
  if (right === undefined || !("List" in right)) return NOTHING;
  return any((right.List.items ?? []).map((item) => equality(left, item, place)));
}

function arrayMembership(
  left: Node | undefined,
  right: Node | undefined,
  { block, scope }: Place,
): KeyConditions {
  const use = scope.column(left, block);
  const rule = use?.ref.isKey(use.column) === true ? use.ref.table?.rule : null;
  if (use === null || !rule) return NOTHING;
  const terms = scope.readerOf(block).keyArray(right, rule.dataType);
  return terms === null ? NOTHING : { constraints: [{ use, terms }], equalities: [] };
}
