import type { FuncCall, Node, SelectStmt } from "libpg-query";
import { lastName, namesOf, walk } from "../sql/ast.js";
import { type Block, type ColumnUse, isNeverNull, type TableRef } from "./block.js";
import { natureOf } from "./functions.js";
import { type Output, outputPosition, outputsOf } from "./outputs.js";
import type { Scope } from "./scope.js";

/** A SELECT with the columns of its rows, if they are known. */
export interface Query {
  readonly select: SelectStmt;
  readonly block: Block;
  readonly scope: Scope;
  readonly outputs: readonly Output[] | null;
}

/** Rows as they are: nothing that brings several together or counts them. DISTINCT without ON is none of it. */
export function isPlainQuery(select: SelectStmt, scope: Scope): boolean {
  const isSimple =
    select.op === "SETOP_NONE" &&
    select.limitCount === undefined &&
    select.limitOffset === undefined &&
    (select.groupClause ?? []).length === 0 &&
    select.havingClause === undefined &&
    distinctOn(select).length === 0;
  return isSimple && outerAggregates(select, scope).length === 0 && windows(select).length === 0;
}

/**
 * Whether the rows of a query over all shards are those of the shards' own queries, put together, and each
 * of one shard's rows.
 */
export function givesRowsByShard(select: SelectStmt, block: Block, scope: Scope): boolean {
  const groups = new Set(block.located.map((ref) => ref.together));
  const isDistinct = (select.distinctClause ?? []).length > 0;
  if (isPlainQuery(select, scope) && !isDistinct) return true;
  const isCut = select.limitCount !== undefined || select.limitOffset !== undefined;
  if (select.op !== "SETOP_NONE" || isCut || groups.size !== 1) return groups.size === 0;
  const query: Query = { select, block, scope, outputs: outputsOf(select, block, scope) };
  const isGrouped = isGroupedByShard(query);
  const isAggregated =
    select.havingClause !== undefined ||
    (select.groupClause ?? []).length > 0 ||
    outerAggregates(select, scope).length > 0;
  if (isAggregated && !isGrouped) return false;
  if (isDistinct && !isDistinctByShard(query)) return false;
  return windowsAreByShard(query);
}

export function isGroupedByShard(query: Query): boolean {
  return isOfOneShard(query.select.groupClause ?? [], query, true);
}

export function isDistinctByShard(query: Query): boolean {
  const expressions = distinctOn(query.select);
  if (expressions.length > 0) return isOfOneShard(expressions, query, false);
  return isOneShards(
    (query.outputs ?? []).map((output) => output.use),
    query.block,
  );
}

/** Expressions of DISTINCT ON; DISTINCT without is a list with one empty node. */
export function distinctOn({ distinctClause }: SelectStmt): readonly Node[] {
  return (distinctClause ?? []).filter((node) => Object.keys(node).length > 0);
}

/** A window within rows of one shard has them all there. */
export function windowsAreByShard({ select, block, scope }: Query): boolean {
  return windows(select).every((call) => {
    const partition = call.over?.partitionClause ?? [];
    return isOneShards(
      partition.map((node) => scope.column(node, block)),
      block,
    );
  });
}

function windows(select: SelectStmt): readonly FuncCall[] {
  const found: FuncCall[] = [];
  walk([select.targetList, select.sortClause], (node) => {
    if ("FuncCall" in node && node.FuncCall.over !== undefined) found.push(node.FuncCall);
    return !("SubLink" in node);
  });
  return found;
}

/** Aggregates of the query's own rows, not those of subqueries. */
export function outerAggregates(select: SelectStmt, scope: Scope): readonly FuncCall[] {
  const found: FuncCall[] = [];
  walk([select.targetList, select.sortClause, select.havingClause], (node) => {
    if (
      "FuncCall" in node &&
      node.FuncCall.over === undefined &&
      isAggregate(node.FuncCall, scope)
    ) {
      found.push(node.FuncCall);
    }
    return !("SubLink" in node);
  });
  return found;
}

function isAggregate(call: FuncCall, scope: Scope): boolean {
  const names = namesOf(call.funcname);
  const isQualified = names.length > 1 && names[0] !== "pg_catalog";
  return natureOf(lastName(call.funcname), isQualified, scope.catalog.facts) === "aggregate";
}

/** Rows that are equal in these expressions are on one shard. */
function isOfOneShard(
  nodes: readonly Node[],
  { block, scope, outputs }: Query,
  prefersInput: boolean,
): boolean {
  const uses = nodes.map((node) => {
    const position = outputPosition(node, outputs, { scope, block, prefersInput });
    if (position !== null) return outputs?.[position]?.use ?? null;
    const isSure = prefersInput || outputs !== null;
    return isSure ? scope.column(node, block) : null;
  });
  return isOneShards(uses, block);
}

/** A row's locator is on its shard only, except where it is NULL. */
function isOneShards(uses: readonly (ColumnUse | null)[], block: Block): boolean {
  const columns = new Map<TableRef, Set<string>>();
  for (const use of uses) {
    if (use === null || use.at !== block || !isNeverNull(use)) continue;
    columns.set(use.ref, (columns.get(use.ref) ?? new Set()).add(use.column));
  }
  return [...columns].some(([ref, given]) =>
    ref.locators.some((locator) => locator.columns.every((column) => given.has(column))),
  );
}
