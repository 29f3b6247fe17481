import type { A_Expr, Node } from "libpg-query";
import { namesOf } from "../sql/ast.js";
import type { KeyTerm } from "./key-value.js";
import type { Block, Scope, TableRef } from "./scope.js";

/** What a condition says of one table's key, in rows that meet it: it is among these. */
export interface KeyConstraint {
  readonly ref: TableRef;
  readonly terms: readonly KeyTerm[];
}

/** The keys of these two are equal in rows that meet the condition. */
export type KeyEquality = readonly [TableRef, TableRef];

export interface KeyConditions {
  readonly constraints: readonly KeyConstraint[];
  readonly equalities: readonly KeyEquality[];
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
  return "A_Expr" in node ? comparison(node.A_Expr, block, scope) : NOTHING;
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
  for (const { ref, terms } of first?.constraints ?? []) {
    const matches = others.map((branch) => branch.constraints.find((one) => one.ref === ref));
    if (matches.some((match) => match === undefined)) continue;
    constraints.push({ ref, terms: [...terms, ...matches.flatMap((match) => match?.terms ?? [])] });
  }
  return { constraints, equalities: [] };
}

function comparison(expression: A_Expr, block: Block, scope: Scope): KeyConditions {
  const names = namesOf(expression.name);
  const isPlain = names.length === 1 || names[0] === "pg_catalog";
  if (!isPlain || names.at(-1) !== "=") return NOTHING;
  const { lexpr, rexpr } = expression;
  switch (expression.kind) {
    case "AEXPR_OP":
    case "AEXPR_NOT_DISTINCT":
      return equality(lexpr, rexpr, { block, scope });
    case "AEXPR_IN":
      return membership(lexpr, rexpr, { block, scope });
    case "AEXPR_OP_ANY": {
      const ref = scope.keyOwner(lexpr, block);
      const rule = ref?.table?.rule;
      if (!ref || !rule) return NOTHING;
      const terms = scope.reader.keyArray(rexpr, rule.dataType);
      return terms === null ? NOTHING : { constraints: [{ ref, terms }], equalities: [] };
    }
    default:
      return NOTHING;
  }
}

interface Place {
  readonly block: Block;
  readonly scope: Scope;
}

function equality(left: Node | undefined, right: Node | undefined, place: Place): KeyConditions {
  if (left !== undefined && "RowExpr" in left && right !== undefined && "RowExpr" in right) {
    const others = right.RowExpr.args ?? [];
    return all((left.RowExpr.args ?? []).map((arg, index) => equality(arg, others[index], place)));
  }
  const leftRef = place.scope.keyOwner(left, place.block);
  const rightRef = place.scope.keyOwner(right, place.block);
  if (leftRef !== null && rightRef !== null) {
    return { constraints: [], equalities: [[leftRef, rightRef]] };
  }
  if (leftRef !== null) return constraintOn(leftRef, right, place);
  return rightRef === null ? NOTHING : constraintOn(rightRef, left, place);
}

function constraintOn(ref: TableRef, node: Node | undefined, place: Place): KeyConditions {
  const type = ref.table?.rule?.dataType;
  const value = type === undefined ? null : place.scope.reader.key(node, type);
  if (value === null) return NOTHING;
  return { constraints: [{ ref, terms: [{ value, isArray: false }] }], equalities: [] };
}

/** `key IN (1, 2)` and `(key, id) IN ((1, 2), (3, 4))`: an OR of equalities. */
function membership(left: Node | undefined, right: Node | undefined, place: Place): KeyConditions {
  if (right === undefined || !("List" in right)) return NOTHING;
  return any((right.List.items ?? []).map((item) => equality(left, item, place)));
}
