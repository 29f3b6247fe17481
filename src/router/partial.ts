import type { A_Expr, FuncCall, Node } from "libpg-query";
import { lastName, namesOf } from "../sql/ast.js";
import type { ColumnUse } from "./block.js";
import type { Query } from "./grouping.js";
import type { ValueRef } from "./key-value.js";
import { isBytewise, type Output, outputPosition } from "./outputs.js";
import { Refusal } from "./refusal.js";
import type { EnumLabels, Fold, GroupCondition } from "./route.js";
import type { ShownPart } from "./show-parts.js";

/** What the shards' partial rows of groups, or of all rows, are made into. */
export interface Partial {
  /** Of the columns that are shown beside the output, which come first, and of the output. */
  readonly folds: readonly Fold[];
  readonly enums: readonly (EnumLabels | null)[];
  readonly shown: readonly ShownPart[];
  readonly having: readonly PartialCondition[];
}

type PartialCondition = Omit<GroupCondition, "value"> & { readonly value: ValueRef };

interface Shown {
  readonly part: ShownPart;
  readonly fold: Fold;
  readonly labels: EnumLabels | null;
}

/** @throws Refusal where the rows of the shards' groups do not make those of the whole */
export function partialOf(query: Query): Partial {
  const { outputs, select } = query;
  if (outputs === null) throw new Refusal("crossShardGroup");
  const groups = groupsOf(query);
  const shown = [...groups.hidden];
  const having = conditionsOf(query).map(({ operator, value }, item) => {
    shown.push({ part: { kind: "having", item }, fold: "count", labels: null });
    return { column: shown.length - 1, operator, value };
  });
  const folds = outputs.map((output, position): Fold => {
    const { node } = output;
    if (groups.positions.has(position)) return groupFold(output, query);
    const isAverage = node !== null && "FuncCall" in node && isPlainAverage(node.FuncCall, query);
    // Targets are counted in the text: with `*` they are other ones.
    if (isAverage && select.targetList?.length === outputs.length) {
      for (const fold of ["sum", "count"] as const)
        shown.push({ part: { kind: "average", target: position, fold }, fold, labels: null });
      return { sum: shown.length - 2, count: shown.length - 1 };
    }
    const aggregate = node === null ? null : aggregateOf(node, query);
    if (aggregate === null) throw new Refusal("crossShardAggregate", describe(node));
    return aggregate;
  });
  return {
    folds: [...shown.map(({ fold }) => fold), ...folds],
    enums: [...shown.map(({ labels }) => labels), ...enumsOf(query)],
    shown: shown.map(({ part }) => part),
    having,
  };
}

interface Groups {
  /** Of the outputs that group. */
  readonly positions: ReadonlySet<number>;
  /** What groups and is in no output. */
  readonly hidden: readonly Shown[];
}

function groupsOf(query: Query): Groups {
  const { select, block, scope, outputs } = query;
  const positions = new Set<number>();
  const hidden: Shown[] = [];
  for (const [item, node] of (select.groupClause ?? []).entries()) {
    if ("GroupingSet" in node || select.groupDistinct === true)
      throw new Refusal("crossShardGroup");
    const position = outputPosition(node, outputs, { scope, block, prefersInput: true });
    if (position !== null) positions.add(position);
    else {
      const use = scope.column(node, block);
      const fold = groupFold({ use, isBytewise: isBytewise(node, block, scope) }, query);
      hidden.push({ part: { kind: "group", item }, fold, labels: enumOf(use, query) });
    }
  }
  return { positions, hidden };
}

const COMPARISONS = ["=", "<>", "<", "<=", ">", ">="] as const;

/** `HAVING count(...) > 3 AND ...`, and nothing else. */
function conditionsOf({ select, ...query }: Query): readonly Omit<PartialCondition, "column">[] {
  const clause = select.havingClause;
  if (clause === undefined) return [];
  const isAnd = "BoolExpr" in clause && clause.BoolExpr.boolop === "AND_EXPR";
  const nodes = isAnd ? (clause.BoolExpr.args ?? []) : [clause];
  return nodes.map((node) => {
    const condition = "A_Expr" in node ? comparison(node.A_Expr, { select, ...query }) : null;
    if (condition === null) throw new Refusal("crossShardHaving");
    return condition;
  });
}

function comparison(
  { kind, name, lexpr, rexpr }: A_Expr,
  query: Query,
): Omit<PartialCondition, "column"> | null {
  const operator = COMPARISONS.find((one) => one === lastName(name));
  if (kind !== "AEXPR_OP" || operator === undefined || namesOf(name).length > 1) return null;
  if (lexpr === undefined || !("FuncCall" in lexpr)) return null;
  const call = lexpr.FuncCall;
  const isCount = call.over === undefined && call.agg_filter === undefined;
  if (!isCount || plainAggregate(call, query) !== "count") return null;
  const value = query.scope.reader.key(rexpr, "bigint");
  return value === null ? null : { operator, value };
}

/** Of what is grouped by. What an expression is computed of is not looked into, beyond what sorts by its bytes. */
export function groupFold(
  { use, isBytewise }: Pick<Output, "use" | "isBytewise">,
  { scope }: Query,
): "group" | "looseGroup" {
  if (isBytewise) return "group";
  const column = use?.ref.table?.facts?.columns.find(({ name }) => name === use.column);
  const mayBeLoose = column
    ? !column.isDeterministic
    : scope.catalog.facts?.hasLooseCollations === true;
  return mayBeLoose ? "looseGroup" : "group";
}

/** Labels of the outputs that are enums, and of the least and greatest of one. */
export function enumsOf(query: Query): readonly (EnumLabels | null)[] {
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
export function sortedEnum(index: number, query: Query): EnumLabels | null {
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

/** Of which the sum and the count make the whole. Whether of exact numbers, its type says. */
function isPlainAverage(call: FuncCall, { scope }: Query): boolean {
  const isOwn = scope.catalog.facts?.functions.get("avg")?.isBuiltIn === false;
  const isWhole = call.agg_distinct !== true && call.agg_filter === undefined;
  return namesOf(call.funcname).join(".") === "avg" && !isOwn && isWhole && call.over === undefined;
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
