import type { Node, SelectStmt } from "libpg-query";
import { namesOf } from "../sql/ast.js";
import type { Block, ColumnUse, TableRef } from "./block.js";
import type { Scope } from "./scope.js";

/** One column of a SELECT's rows. */
export interface Output {
  readonly name: string | null;
  /** null: a column that `*` stands for. */
  readonly node: Node | null;
  /** The table's column that it is; null: an expression. */
  readonly use: ColumnUse | null;
  /** Sorts by its bytes, if it is text. */
  readonly isBytewise: boolean;
}

/** @returns null when `*` stands for columns that we do not know */
export function outputsOf(
  select: SelectStmt,
  block: Block,
  scope: Scope,
): readonly Output[] | null {
  const outputs: Output[] = [];
  for (const node of select.targetList ?? []) {
    if (!("ResTarget" in node)) return null;
    const { name, val } = node.ResTarget;
    const star = val === undefined ? null : starOf(val);
    if (star === null) {
      outputs.push({
        name: name ?? columnName(val),
        node: val ?? null,
        use: scope.column(val, block),
        isBytewise: isBytewise(val, block, scope),
      });
      continue;
    }
    const columns = expand(star, block);
    if (columns === null) return null;
    outputs.push(...columns);
  }
  return outputs;
}

/** Qualifier of `t.*`, "" for `*`; null: no star. */
function starOf(node: Node): string | null {
  if (!("ColumnRef" in node)) return null;
  const names = namesOf(node.ColumnRef.fields);
  return names.at(-1) === "*" ? (names.at(-2) ?? "") : null;
}

function expand(qualifier: string, block: Block): readonly Output[] | null {
  // JOIN ... USING shows its columns once and first.
  if (qualifier === "" && block.merged.size > 0) return null;
  const refs = qualifier === "" ? block.refs : block.refs.filter((ref) => ref.alias === qualifier);
  const outputs: Output[] = [];
  for (const ref of refs) {
    const columns = columnsOf(ref);
    if (columns === null) return null;
    for (const { name, isBytewise } of columns) {
      const origin = ref.originOf(name);
      outputs.push({ name, node: null, use: origin && { ...origin, at: block }, isBytewise });
    }
  }
  return refs.length === 0 ? null : outputs;
}

function columnsOf(
  ref: TableRef,
): readonly { readonly name: string; readonly isBytewise: boolean }[] | null {
  return ref.table === null ? ref.columns : (ref.table.facts?.columns ?? null);
}

function columnName(node: Node | undefined): string | null {
  if (node === undefined) return null;
  if ("ColumnRef" in node) return namesOf(node.ColumnRef.fields).at(-1) ?? null;
  if ("FuncCall" in node) return namesOf(node.FuncCall.funcname).at(-1) ?? null;
  if ("TypeCast" in node) {
    return columnName(node.TypeCast.arg) ?? namesOf(node.TypeCast.typeName?.names).at(-1) ?? null;
  }
  return null;
}

const BYTEWISE = new Set(["C", "POSIX", "ucs_basic", "pg_c_utf8"]);

/** Text of this expression sorts by its bytes. */
export function isBytewise(node: Node | undefined, block: Block, scope: Scope): boolean {
  const byDefault = scope.catalog.facts?.isBytewise ?? false;
  if (node === undefined) return byDefault;
  if ("CollateClause" in node) {
    return BYTEWISE.has(namesOf(node.CollateClause.collname).at(-1) ?? "");
  }
  // The least and the greatest are values of what they are chosen from.
  const [only] = "FuncCall" in node ? (node.FuncCall.args ?? []) : [];
  if ("FuncCall" in node && /^(min|max)$/.test(namesOf(node.FuncCall.funcname).join(".")))
    return isBytewise(only, block, scope);
  if (!("ColumnRef" in node)) {
    // An expression takes the collation of what it is made of: sure only where all are alike.
    return byDefault && block.refs.every(hasBytewiseColumns);
  }
  const names = namesOf(node.ColumnRef.fields);
  const column = names.at(-1);
  const owners = block.refs.filter(
    (ref) => ref.hasColumn(column ?? "") && (names.length === 1 || ref.alias === names.at(-2)),
  );
  const [owner] = owners;
  const found = owner && columnsOf(owner)?.find((one) => one.name === column);
  return owners.length === 1 && found?.isBytewise === true;
}

function hasBytewiseColumns(ref: TableRef): boolean {
  return columnsOf(ref)?.every((column) => column.isBytewise) ?? false;
}

/** Position of the output that a node of ORDER BY or GROUP BY means; null: none. */
export function outputPosition(
  node: Node,
  outputs: readonly Output[] | null,
  place: { readonly scope: Scope; readonly block: Block; readonly prefersInput: boolean },
): number | null {
  const { scope, block, prefersInput } = place;
  const reader = scope.readerOf(block);
  const position = reader.pinnedInteger(node);
  if (position !== null) return position >= 1 ? position - 1 : null;
  if (outputs === null) return null;
  const names = "ColumnRef" in node ? namesOf(node.ColumnRef.fields) : [];
  const [name] = names;
  if (names.length === 1 && name !== undefined) {
    const input = outputs.findIndex((output) => isColumn(output, name));
    const isInput = block.refs.some((ref) => ref.hasColumn(name) || ref.hasUnknownColumns);
    if (prefersInput && (input >= 0 || isInput)) return input >= 0 ? input : null;
    const named = outputs.findIndex((output) => output.name === name);
    return named >= 0 ? named : positionOf(node, outputs, place);
  }
  // Whether two expressions are one depends on their constants.
  if (!("ColumnRef" in node)) reader.pinAll();
  const wanted = shapeOf(node);
  const same = outputs.findIndex(
    (output) => output.node !== null && shapeOf(output.node) === wanted,
  );
  return same >= 0 ? same : positionOf(node, outputs, place);
}

/** Of the output that shows the same column, whatever the name. */
function positionOf(
  node: Node,
  outputs: readonly Output[],
  { scope, block }: { readonly scope: Scope; readonly block: Block },
): number | null {
  const use = scope.column(node, block);
  const position = outputs.findIndex((output) => use !== null && isSameUse(output.use, use));
  return position >= 0 ? position : null;
}

function isSameUse(one: ColumnUse | null, other: ColumnUse): boolean {
  return one?.ref === other.ref && one.column === other.column && one.at === other.at;
}

function isColumn(output: Output, name: string): boolean {
  if (output.node === null) return output.name === name;
  return "ColumnRef" in output.node && namesOf(output.node.ColumnRef.fields).at(-1) === name;
}

/** Each is compared with every output. */
const shapes = new WeakMap<Node, string>();

function shapeOf(node: Node): string {
  const known = shapes.get(node);
  if (known !== undefined) return known;
  const shape = JSON.stringify(node, (key, value: unknown) =>
    key === "location" ? undefined : value,
  );
  shapes.set(node, shape);
  return shape;
}
