import type { LiftedText } from "../sql/literals.js";
import type { ShardId } from "../topology/topology.js";
import type { Block } from "./block.js";
import type { Catalog } from "./catalog.js";
import { type StatementValues, ValueReader } from "./key-value.js";
import { Placement } from "./placement.js";
import { refused } from "./refusal.js";
import type { MergePlan, Route } from "./route.js";
import { Scope } from "./scope.js";
import { addWrite } from "./write-scope.js";

/** What an analysis leaves: the route for the values of the moment. */
export type Plan = (values: StatementValues) => Route;

/** One statement while it is analysed. */
export interface Analysis {
  readonly sql: string;
  readonly catalog: Catalog;
  readonly reader: ValueReader;
  readonly scope: Scope;
}

export function beginAnalysis(sql: string, lifted: LiftedText, catalog: Catalog): Analysis {
  const reader = new ValueReader(sql, lifted);
  return { sql, catalog, reader, scope: new Scope(catalog, reader, addWrite) };
}

export const ANY: Route = { kind: "any" };

export const CONCATENATED: MergePlan = {
  orderBy: [],
  aggregates: null,
  isBytewise: false,
  limit: null,
  offset: 0,
};

/** On the shards, each with its own rows. */
export function onShards(shards: readonly ShardId[] | "all", isWrite: boolean): Route {
  return {
    kind: "many",
    shards,
    isWrite,
    merge: CONCATENATED,
    rows: "merged",
    count: "sum",
    rewrittenSql: null,
  };
}

/** The same on every shard: one answer stands for all. */
export function everywhere(isWrite: boolean): Extract<Route, { kind: "many" }> {
  return {
    kind: "many",
    shards: "all",
    isWrite,
    merge: CONCATENATED,
    rows: "first",
    count: "first",
    rewrittenSql: null,
  };
}

/** Where the statement's keys say, or what `several` makes of more shards than one. */
export function placed(
  analysis: Analysis,
  top: Block,
  options: {
    readonly isWrite: boolean;
    readonly several: (values: StatementValues, shards: readonly ShardId[] | "all") => Route;
  },
): Plan {
  const placement = new Placement(analysis.scope, top);
  return (values) => {
    const where = placement.resolve(values);
    switch (where.kind) {
      case "single":
        return { kind: "one", shard: where.shard, isWrite: options.isWrite };
      case "several":
        return options.several(values, where.shards);
      case "unknown":
        return ANY;
      case "refused":
        return where.route;
      default:
        return refused("unsupported", "this statement");
    }
  };
}
