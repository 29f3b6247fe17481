import type { Node, SelectStmt, SortBy } from "libpg-query";
import { lastName, namesOf } from "../sql/ast.js";
import type { Block } from "./block.js";
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
import { enumsOf, groupFold, type Partial, partialOf, sortedEnum } from "./partial.js";
import { Refusal } from "./refusal.js";
import type { Fold, MergePlan, OrderKey } from "./route.js";
import type { Scope } from "./scope.js";
import type { ShownPart } from "./show-parts.js";

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
  /** What the merge needs of groups and the output does not have; nothing where `hidden` has something. */
  readonly shown: readonly ShownPart[];
  /** See `MergePlan.columns`. */
  readonly columns?: MergePlan["columns"];
  /** Conditions on groups that only all shards' rows meet or do not. */
  readonly having: Partial["having"];
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
  const isAggregated =
    outerAggregates(select, scope).length > 0 ||
    select.havingClause !== undefined ||
    (select.groupClause ?? []).length > 0;
  const isPartial = isAggregated && !isGrouped;
  const isFolded = foldsDistinct(query, isPartial);
  const partial = isPartial ? partialOf(query) : null;
  const { orderBy, hidden } = sortKeys(query, {
    isClosed: isPartial || (select.distinctClause ?? []).length > 0,
    shown: partial?.shown.length ?? 0,
  });
  const enums = [...hidden.map((index) => sortedEnum(index, query)), ...enumsOf(query)];
  return {
    orderBy,
    columns: starColumns(query),
    hidden,
    shown: partial?.shown ?? [],
    having: partial?.having ?? [],
    aggregates: isFolded ? allGroup(query) : (partial?.folds ?? null),
    enums: partial?.enums ?? enums,
    isBytewise: query.outputs?.every((output) => output.isBytewise) === true,
    limit: limitValue("LIMIT", select.limitCount, scope),
    offset: limitValue("OFFSET", select.limitOffset, scope),
    keepsLimitFromShards: isPartial,
  };
}

function starColumns({ outputs }: Query): MergePlan["columns"] {
  if (!outputs?.some(({ node }) => node === null)) return undefined;
  return outputs.map(({ name, node }) => (node === null ? name : null));
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

function allGroup(query: Query): readonly Fold[] {
  return (query.outputs ?? []).map((output) => groupFold(output, query));
}

/**
 * @param place.isClosed the output is all that can be sorted by
 * @param place.shown columns that are put before the output for another reason
 */
function sortKeys(
  query: Query,
  { isClosed, shown }: { readonly isClosed: boolean; readonly shown: number },
): Pick<MergeShape, "orderBy" | "hidden"> {
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
    column: key.column === null ? hidden.indexOf(index) : key.column + hidden.length + shown,
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
