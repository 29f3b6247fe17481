import type { Node, SelectStmt } from "libpg-query";
import { namesOf } from "../sql/ast.js";
import type { Block, Scope, TableRef } from "./scope.js";

/** One column of a SELECT's rows. */
export interface Output {
  readonly name: string | null;
  /** null: a column that `*` stands for. */
  readonly node: Node | null;
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
  for (const { table } of refs) {
    if (table === null || table.facts === null) return null;
    for (const { name, isBytewise } of table.facts.columns) {
      outputs.push({ name, node: null, isBytewise });
    }
  }
  return refs.length === 0 ? null : outputs;
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
  if (!("ColumnRef" in node)) {
    // An expression takes the collation of what it is made of: sure only where all are alike.
    return byDefault && block.refs.every(hasBytewiseColumns);
  }
  const names = namesOf(node.ColumnRef.fields);
  const column = names.at(-1);
  const owners = block.refs.filter(
    (ref) => ref.hasColumn(column ?? "") && (names.length === 1 || ref.alias === names.at(-2)),
  );
  const facts = owners[0]?.table?.facts?.columns.find((one) => one.name === column);
  return owners.length === 1 && facts?.isBytewise === true;
}

function hasBytewiseColumns(ref: TableRef): boolean {
  return ref.table?.facts?.columns.every((column) => column.isBytewise) ?? false;
}

/** Position of the output that a node of ORDER BY or GROUP BY means; null: none. */
export function outputPosition(
  node: Node,
  outputs: readonly Output[] | null,
  place: { readonly scope: Scope; readonly block: Block; readonly prefersInput: boolean },
): number | null {
  const { scope, block, prefersInput } = place;
  const position = scope.reader.pinnedInteger(node);
  if (position !== null) return position >= 1 ? position - 1 : null;
  if (outputs === null) return null;
  const names = "ColumnRef" in node ? namesOf(node.ColumnRef.fields) : [];
  const [name] = names;
  if (names.length === 1 && name !== undefined) {
    const input = outputs.findIndex((output) => isColumn(output, name));
    const isInput = block.refs.some((ref) => ref.hasColumn(name) || ref.hasUnknownColumns);
    if (prefersInput && (input >= 0 || isInput)) return input >= 0 ? input : null;
    const named = outputs.findIndex((output) => output.name === name);
    return named >= 0 ? named : null;
  }
  // Whether two expressions are one depends on their constants.
  if (!("ColumnRef" in node)) scope.reader.pinAll();
  const wanted = shapeOf(node);
  const same = outputs.findIndex(
    (output) => output.node !== null && shapeOf(output.node) === wanted,
  );
  if (same >= 0) return same;
  if (names.length < 2 || block.refs.length !== 1) return null;
  const column = names.at(-1) ?? "";
  const plain = outputs.findIndex((output) => isColumn(output, column));
  return plain >= 0 ? plain : null;
}

function isColumn(output: Output, name: string): boolean {
  if (output.node === null) return output.name === name;
  return "ColumnRef" in output.node && namesOf(output.node.ColumnRef.fields).at(-1) === name;
}

function shapeOf(node: Node): string {
  return JSON.stringify(node, (key, value: unknown) => (key === "location" ? undefined : value));
}
