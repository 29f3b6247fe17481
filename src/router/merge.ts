import type { FuncCall, Node, SelectStmt, SortBy } from "libpg-query";
import { lastName, namesOf } from "../sql/ast.js";
import type { Block, ColumnUse } from "./block.js";
import {
  distinctOn,
  isDistinctByShard,
  isGroupedByShard,
  outerAggregates,
  type Query,
  windowsAreByShard,
} from "./grouping.js";
import type { ValueRef } from "./key-value.js";
import { isBytewise, outputPosition, outputsOf } from "./outputs.js";
import { Refusal } from "./refusal.js";
import type { EnumLabels, Fold, MergePlan, OrderKey } from "./route.js";
import type { Scope } from "./scope.js";

/** How the rows of several shards become one result; limits are values of the moment. */
export interface MergeShape {
  readonly orderBy: readonly OrderKey[];
  readonly aggregates: MergePlan["aggregates"];
  readonly enums: NonNullable<MergePlan["enums"]>;
  readonly isBytewise: boolean;
  readonly limit: ValueRef | null;
  readonly offset: ValueRef | null;
  /** LIMIT cuts rows that the shards have only parts of: it must not reach them. */
  readonly keepsLimitFromShards: boolean;
  /** What ORDER BY sorts by and the output does not have, as positions in ORDER BY. */
  readonly hidden: readonly number[];
}

/**
 * The merge of a SELECT whose rows come from several shards.
 * @throws Refusal where the shards' answers do not make the whole answer
 */
export function mergeShape(select: SelectStmt, block: Block, scope: Scope): MergeShape {
  const query: Query = { select, block, scope, outputs: outputsOf(select, block, scope) };
  if (select.op !== "SETOP_NONE") throw new Refusal("crossShardSetOperation");
  refuseUnmergeable(block, scope);
  if (select.limitOption === "LIMIT_OPTION_WITH_TIES")
    throw new Refusal("crossShardLimit", "WITH TIES");
  if (!windowsAreByShard(query)) throw new Refusal("crossShardWindow");
  const isGrouped = isGroupedByShard(query);
  if (!isGrouped && select.havingClause !== undefined) throw new Refusal("crossShardHaving");
  const isAggregated =
    outerAggregates(select, scope).length > 0 || (select.groupClause ?? []).length > 0;
  const isPartial = isAggregated && !isGrouped;
  const isFolded = foldsDistinct(query, isPartial);
  const aggregates = isFolded ? allGroup(query) : isPartial ? folds(query) : null;
  const { orderBy, hidden } = sortKeys(
    query,
    isPartial || (select.distinctClause ?? []).length > 0,
  );
  return {
    orderBy,
    hidden,
    aggregates,
    enums: [...hidden.map((index) => sortedEnum(index, query)), ...enumsOf(query)],
    isBytewise: query.outputs?.every((output) => output.isBytewise) === true,
    limit: limitValue("LIMIT", select.limitCount, scope),
    offset: limitValue("OFFSET", select.limitOffset, scope),
    keepsLimitFromShards: isPartial,
  };
}

/** @throws Refusal for what no shard's rows may be merged of, whatever becomes of them */
export function refuseUnmergeable(block: Block, scope: Scope): void {
  if (block.preservesOutside) throw new Refusal("outerJoin");
  if (scope.writesInWith) throw new Refusal("crossShardSubquery");
  for (const { call, nature } of scope.calls) {
    if (nature === "unknown" || nature === "shard0" || nature === "setting") {
      throw new Refusal("crossShardFunction", lastName(call.funcname));
    }
  }
}

/**
 * Whether DISTINCT is done here once more, as a grouping by all columns; otherwise the rows of different shards
 * are different anyway, or it is refused.
 */
function foldsDistinct(query: Query, isPartial: boolean): boolean {
  const { select, outputs } = query;
  if ((select.distinctClause ?? []).length === 0 || isDistinctByShard(query)) return false;
  const isKnown = outputs !== null && distinctOn(select).length === 0;
  if (!isKnown || isPartial) throw new Refusal("crossShardDistinct");
  return true;
}

function allGroup({ outputs }: Query): readonly Fold[] {
  return (outputs ?? []).map(() => "group");
}

/** Positions of the outputs that group. */
function groupPositions({ select, block, scope, outputs }: Query): ReadonlySet<number> {
  const groups = new Set<number>();
  for (const node of select.groupClause ?? []) {
    const position = outputPosition(node, outputs, { scope, block, prefersInput: true });
    if (position === null) throw new Refusal("crossShardGroup");
    groups.add(position);
  }
  return groups;
}

function folds(query: Query): readonly Fold[] {
  const { outputs } = query;
  if (outputs === null) throw new Refusal("crossShardGroup");
  const groups = groupPositions(query);
  return outputs.map(({ node }, position) => {
    if (groups.has(position)) return "group";
    const aggregate = node === null ? null : aggregateOf(node, query);
    if (aggregate === null) throw new Refusal("crossShardAggregate", describe(node));
    return aggregate;
  });
}

/** Labels of the outputs that are enums, and of the least and greatest of one. */
function enumsOf(query: Query): readonly (EnumLabels | null)[] {
  return (query.outputs ?? []).map(({ node, use }) => {
    const name = node !== null && "FuncCall" in node ? plainAggregate(node.FuncCall, query) : null;
    if (node === null || !("FuncCall" in node) || (name !== "min" && name !== "max"))
      return enumOf(use, query);
    return enumOf(query.scope.column(node.FuncCall.args?.[0], query.block), query);
  });
}

function enumOf(use: ColumnUse | null, { scope }: Query): EnumLabels | null {
  const column = use?.ref.table?.facts?.columns.find(({ name }) => name === use.column);
  return scope.catalog.facts?.enums.get(column?.type ?? "") ?? null;
}

/** @param index of what is sorted by, in ORDER BY */
function sortedEnum(index: number, query: Query): EnumLabels | null {
  const node = query.select.sortClause?.[index];
  const sorted = node !== undefined && "SortBy" in node ? node.SortBy.node : undefined;
  return enumOf(query.scope.column(sorted, query.block), query);
}

const MERGEABLE = new Set(["count", "sum", "min", "max"] as const);
type Mergeable = "count" | "sum" | "min" | "max";

function aggregateOf(node: Node, query: Query): Mergeable | null {
  const { scope } = query;
  if ("FuncCall" in node) return plainAggregate(node.FuncCall, query);
  if ("TypeCast" in node && node.TypeCast.arg !== undefined) {
    // A sum that is rounded before it is added up would be another one.
    const isCount = aggregateOf(node.TypeCast.arg, query) === "count";
    const type = lastName(node.TypeCast.typeName?.names);
    return isCount && /^(int2|int4|int8|numeric)$/.test(type) ? "sum" : null;
  }
  if (!("CoalesceExpr" in node)) return null;
  const [first, second, third] = node.CoalesceExpr.args ?? [];
  if (first === undefined || second === undefined || third !== undefined) return null;
  const inner = aggregateOf(first, query);
  const isZero = scope.reader.pinnedInteger(second) === 0;
  return isZero && (inner === "sum" || inner === "count") ? inner : null;
}

function plainAggregate(call: FuncCall, query: Query): Mergeable | null {
  const { scope } = query;
  const names = namesOf(call.funcname);
  const name = names.at(-1);
  const facts = scope.catalog.facts?.functions.get(name ?? "");
  const isOwn = (names.length > 1 && names[0] !== "pg_catalog") || facts?.isBuiltIn === false;
  if (isOwn || call.agg_within_group === true) return null;
  for (const known of MERGEABLE) {
    if (known !== name) continue;
    const isExtreme = known === "min" || known === "max";
    return call.agg_distinct !== true || isExtreme || countsApart(call, query) ? known : null;
  }
  return null;
}

/** DISTINCT over values of which no two shards have the same. */
function countsApart({ args }: FuncCall, { scope, block }: Query): boolean {
  const use = args?.length === 1 ? scope.column(args[0], block) : null;
  const isSimple = (columns: readonly string[]) =>
    columns.length === 1 && columns[0] === use?.column;
  return use?.at === block && use.ref.locators.some((locator) => isSimple(locator.columns));
}

function describe(node: Node | null): string {
  if (node === null || !("FuncCall" in node)) return "an output that is no plain aggregate";
  const name = lastName(node.FuncCall.funcname);
  return node.FuncCall.agg_distinct === true ? `${name}(DISTINCT ...)` : `${name}()`;
}

/** @param isClosed the output is all that can be sorted by */
function sortKeys(query: Query, isClosed: boolean): Pick<MergeShape, "orderBy" | "hidden"> {
  const { select, scope } = query;
  const keys = (select.sortClause ?? []).map((node) => sortKey(node, query));
  const hidden = [...keys.keys()].filter((index) => keys[index]?.column === null);
  if (hidden.length > 0) {
    // A column that is put before the output moves what is named by its position: in ORDER BY that is rewritten.
    const isByPosition = (select.groupClause ?? []).some(
      (node) => scope.reader.pinnedInteger(node) !== null,
    );
    if (isClosed || isByPosition) throw new Refusal("crossShardOrder");
  }
  const orderBy = keys.map((key, index) => ({
    ...key,
    column: key.column === null ? hidden.indexOf(index) : key.column + hidden.length,
  }));
  return { orderBy, hidden };
}

/** `column` null: not in the output. */
function sortKey(
  node: Node,
  query: Query,
): Omit<OrderKey, "column"> & { readonly column: number | null } {
  if (!("SortBy" in node) || node.SortBy.node === undefined) throw new Refusal("crossShardOrder");
  const sort: SortBy = node.SortBy;
  const { scope, block, outputs } = query;
  const collated = "CollateClause" in node.SortBy.node ? node.SortBy.node.CollateClause : null;
  const inner = collated?.arg ?? node.SortBy.node;
  const column = outputPosition(inner, outputs, { scope, block, prefersInput: false });
  if (sort.sortby_dir === "SORTBY_USING") throw new Refusal("crossShardOrder");
  if (column === null && mayBeNamed(inner, query)) throw new Refusal("crossShardOrder");
  const isDescending = sort.sortby_dir === "SORTBY_DESC";
  const sortsByBytes =
    collated !== null
      ? /^(C|POSIX|ucs_basic|pg_c_utf8)$/.test(namesOf(collated.collname).at(-1) ?? "")
      : column === null
        ? isBytewise(inner, block, scope)
        : outputs?.[column]?.isBytewise === true;
  const nulls = sort.sortby_nulls;
  const nullsFirst =
    nulls === "SORTBY_NULLS_FIRST" || (nulls !== "SORTBY_NULLS_LAST" && isDescending);
  return { column, isDescending, nullsFirst, isBytewise: sortsByBytes };
}

/** Beside `*` that we cannot write out: a name may be that of another output. */
function mayBeNamed(node: Node, { select, outputs }: Query): boolean {
  if (outputs !== null || !("ColumnRef" in node)) return false;
  const names = namesOf(node.ColumnRef.fields);
  return (
    names.length === 1 &&
    (select.targetList ?? []).some(
      (target) => "ResTarget" in target && target.ResTarget.name === names[0],
    )
  );
}

function limitValue(clause: string, node: Node | undefined, scope: Scope): ValueRef | null {
  if (node === undefined) return null;
  const value = scope.reader.key(node, "bigint");
  if (value === null) throw new Refusal("crossShardLimit", clause);
  return value;
}
