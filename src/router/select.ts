import type { SelectStmt } from "libpg-query";
import { lastName } from "../sql/ast.js";
import { FIRST_SHARD } from "../topology/topology.js";
import { ANY, type Analysis, everywhere, type Plan, placed } from "./analysis.js";
import { constantOf, isBinary, type StatementValues, type ValueRef } from "./key-value.js";
import { rewriteLimit } from "./limit-rewrite.js";
import { type MergeShape, mergeShape, refuseUnmergeable } from "./merge.js";
import { showSortKeys } from "./order-rewrite.js";
import { addSelect } from "./query.js";
import { REFUSALS, Refusal, refused } from "./refusal.js";
import type { GroupCondition, Route } from "./route.js";
import type { Scope } from "./scope.js";
import { showParts } from "./show-parts.js";

export function selectPlan(analysis: Analysis, select: SelectStmt): Plan {
  const { scope } = analysis;
  const exists = existsQuery(select);
  if (exists !== null) return existsPlan(analysis, exists);
  const top = addSelect(scope, select, null);
  if (select.intoClause !== undefined) throw new Refusal("crossShardInto");
  if (scope.sharded.length === 0) return withoutKeys(analysis);
  const merge = mergeOrRefusal(() => {
    // A view's own order reaches no further than its shard.
    const isOrdered = (select.sortClause ?? []).length > 0;
    const shape = mergeShape(select, top, scope);
    const keepsOrder = top.hasInnerOrder && top.refs.length === 1 && shape.aggregates === null;
    if (keepsOrder && !isOrdered) throw new Refusal("crossShardOrder");
    return shape;
  });
  const plan = placed(analysis, top, {
    isWrite: isWriting(scope),
    several: (values, shards) => {
      if ("kind" in merge) return merge;
      if (scope.locksRows && merge.aggregates !== null) return refused("crossShardLock");
      return manyRoute(values, { shards, locksRows: scope.locksRows }, merge);
    },
  });
  if (select.op === "SETOP_NONE") return plan;
  return (values) => {
    const route = plan(values);
    const isCrossShard = route.kind === "refused" && CROSS_SHARD.has(route.reason);
    return isCrossShard ? refused("crossShardSetOperation") : route;
  };
}

/** The query of `SELECT EXISTS (...)` and nothing else, if there is a row where any shard has one. */
function existsQuery(select: SelectStmt): SelectStmt | null {
  const { targetList = [], ...others } = select;
  const [only] = targetList;
  const isAlone = Object.keys(others).every((key) => /^(op|limitOption)$/.test(key));
  if (!isAlone || targetList.length !== 1 || only === undefined) return null;
  const link = "ResTarget" in only ? only.ResTarget.val : undefined;
  if (link === undefined || !("SubLink" in link)) return null;
  const { subLinkType, subselect } = link.SubLink;
  if (subLinkType !== "EXISTS_SUBLINK" || !subselect || !("SelectStmt" in subselect)) return null;
  const query = subselect.SelectStmt;
  // Which groups there are, and how many rows, is a matter of all shards.
  const isOfAll = query.havingClause !== undefined || query.limitOffset !== undefined;
  return query.op === "SETOP_NONE" && !isOfAll ? query : null;
}

function existsPlan(analysis: Analysis, query: SelectStmt): Plan {
  const { scope } = analysis;
  const block = addSelect(scope, query, null);
  if (scope.sharded.length === 0) return withoutKeys(analysis);
  const merge = mergeOrRefusal(() => {
    if (scope.locksRows) throw new Refusal("crossShardLock");
    refuseUnmergeable(block, scope);
    return ANY_IS_TRUE;
  });
  return placed(analysis, block, {
    isWrite: isWriting(scope),
    several: (values, shards) =>
      "kind" in merge ? merge : manyRoute(values, { shards, locksRows: false }, merge),
  });
}

/** True is above false. */
const ANY_IS_TRUE: MergeShape = {
  orderBy: [],
  aggregates: ["max"],
  enums: [],
  isBytewise: true,
  limit: null,
  offset: null,
  keepsLimitFromShards: false,
  hidden: [],
  shown: [],
  having: [],
};

/** What the branches of a UNION look like to the placement: tables side by side, or below. */
const CROSS_SHARD = new Set([
  REFUSALS.crossShardJoin.reason(""),
  REFUSALS.crossShardSubquery.reason(""),
]);

function mergeOrRefusal(work: () => MergeShape): MergeShape | Route {
  try {
    return work();
  } catch (error) {
    // Refused only if more shards than one are asked.
    if (error instanceof Refusal) return error.route;
    throw error;
  }
}

function isWriting(scope: Scope): boolean {
  const mayWrite = scope.calls.some(({ nature }) => nature === "unknown" || nature === "shard0");
  return scope.locksRows || scope.writesInWith || mayWrite;
}

/** Only omnisharded tables, or none. */
function withoutKeys({ scope }: Analysis): Plan {
  if (scope.calls.some((one) => one.nature === "setting")) return () => everywhere(false);
  // Locks exclude each other only where all take them on one server.
  if (scope.locksRows || scope.calls.some((one) => one.nature === "shard0")) {
    const route: Route = { kind: "one", shard: FIRST_SHARD, isWrite: true };
    return () => route;
  }
  const unknown = scope.calls.find((one) => one.nature === "unknown");
  if (unknown !== undefined) {
    throw new Refusal("unknownFunction", lastName(unknown.call.funcname));
  }
  if (scope.calls.some((one) => one.nature === "counter")) {
    const route: Route = { kind: "one", shard: FIRST_SHARD, isWrite: false };
    return () => route;
  }
  if (scope.asksCatalog) {
    const route: Route = { kind: "one", shard: FIRST_SHARD, isWrite: false };
    return () => route;
  }
  return () => ANY;
}

function manyRoute(
  values: StatementValues,
  to: {
    readonly shards: Extract<Route, { kind: "many" }>["shards"];
    readonly locksRows: boolean;
  },
  shape: MergeShape,
): Route {
  const limit = count(shape.limit, values);
  const offset = count(shape.offset, values);
  if (limit === undefined || offset === undefined) {
    return values.parameters === null ? ANY : refused("crossShardLimit", "LIMIT or OFFSET");
  }
  const having: GroupCondition[] = [];
  for (const { value, ...condition } of shape.having) {
    const number = count(value, values);
    if (typeof number === "number") having.push({ ...condition, value: number });
    else if (value.kind === "parameter" && values.parameters === null) return ANY;
    else return refused("crossShardHaving");
  }
  const mustRewrite = shape.offset !== null || (shape.keepsLimitFromShards && shape.limit !== null);
  const limitedSql = mustRewrite ? rewriteLimit(values.sql, shape.keepsLimitFromShards) : null;
  if (mustRewrite && limitedSql === null) return refused("crossShardLimit", "FETCH or OFFSET");
  const rewritten = withHidden(limitedSql, values.sql, shape);
  if ("kind" in rewritten) return rewritten;
  const hidden = shape.hidden.length + shape.shown.length;
  const { orderBy, aggregates, enums, isBytewise, columns } = shape;
  return {
    kind: "many",
    shards: to.shards,
    isWrite: to.locksRows,
    merge: {
      ...{ orderBy, aggregates, enums, isBytewise, columns },
      ...{ having, limit, offset: offset ?? 0, hidden },
    },
    rows: "merged",
    count: "sum",
    rewrittenSql: rewritten.sql,
  };
}

/** The text with the columns that the merge needs beside the output; `sql` null: as the client wrote it. */
function withHidden(
  limitedSql: string | null,
  sql: string,
  { hidden, shown }: MergeShape,
): { readonly sql: string | null } | Route {
  const text = limitedSql ?? sql;
  if (shown.length > 0) {
    const withParts = showParts(text, shown);
    return withParts === null ? refused("crossShardGroup") : { sql: withParts };
  }
  if (hidden.length === 0) return { sql: limitedSql };
  const withKeys = showSortKeys(text, hidden);
  return withKeys === null ? refused("crossShardOrder") : { sql: withKeys };
}

/** null: no limit; undefined: cannot be read. */
function count(ref: ValueRef | null, values: StatementValues): number | null | undefined {
  if (ref === null) return null;
  const text =
    ref.kind === "parameter" ? parameterText(ref.index, values) : constantOf(ref, values);
  if (text === null || text === undefined) return text;
  return /^\s*\d{1,15}\s*$/.test(text) ? Number(text) : undefined;
}

function parameterText(index: number, { parameters }: StatementValues): string | null | undefined {
  const bytes = parameters?.values[index];
  if (parameters === null || bytes === undefined || bytes === null)
    return bytes as null | undefined;
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (!isBinary(parameters, index)) return buffer.toString("utf8");
  if (buffer.length === 8) return String(buffer.readBigInt64BE());
  if (buffer.length === 4) return String(buffer.readInt32BE());
  return buffer.length === 2 ? String(buffer.readInt16BE()) : undefined;
}
