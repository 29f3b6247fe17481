import type { LiftedText } from "../sql/literals.js";
import { parse } from "../sql/parser.js";
import { type Analyzed, StatementCache } from "../sql/statement-cache.js";
import type { Database } from "../topology/topology.js";
import { ANY, beginAnalysis, type Plan } from "./analysis.js";
import { Catalog } from "./catalog.js";
import { ColumnLists } from "./column-lists.js";
import { drawnText, drawPlan, orderedDraw } from "./draw.js";
import type { ParameterValues } from "./key-value.js";
import { Refusal, refused } from "./refusal.js";
import type { DrawPlan, Route } from "./route.js";
import { rowsInText } from "./row-source.js";
import type { SchemaFacts } from "./schema-facts.js";
import { planOf } from "./utility.js";

/** Routes the statements of one database at one epoch. Pure but for its cache. */
export interface Router {
  /**
   * Where a statement goes. Never guesses: what cannot be placed is `refused`. Text with
   * `standard_conforming_strings` off is read wrongly; a session must not turn it off here.
   * @param parameters values of Bind; null when there are none yet (Describe of a statement): where they
   * decide, the answer is then `any`, as every shard parses and describes alike
   */
  route(sql: string, parameters: ParameterValues | null): Route;
  /**
   * The text as it is to be sent: with the list of columns that it was routed by, where an INSERT or COPY has none. A
   * table that is another by then fails it, and puts no row elsewhere. `route` of either text is the same.
   */
  written(sql: string): string;
  /**
   * Where a statement goes whose route was `draw`, with the values drawn. Its rows are dealt out to shards whatever
   * `split_inserts` says: which value a row gets is nothing that a client could mind.
   * @param drawn as many as `plan.draws` ask for, in their order
   */
  routeDrawn(
    plan: DrawPlan,
    drawn: readonly (string | null)[],
    parameters: ParameterValues | null,
  ): DrawnStatement;
}

/** A statement as it is sent, and where. */
export interface DrawnStatement {
  readonly sql: string;
  readonly route: Route;
}

export interface RouterOptions {
  /** What remembered statements may take in memory; default 64 MB. */
  readonly cacheBytes?: number;
}

/**
 * Needs `loadParser()` first. Make a new one when the topology or the schema changes; a database with one
 * shard needs none.
 * @param schema read with SCHEMA_FACTS_SQL; without it, statements that need a table's columns are refused
 */
export function createRouter(
  database: Database,
  schema?: SchemaFacts,
  options: RouterOptions = {},
): Router {
  const catalog = new Catalog(database, schema);
  const cache = new StatementCache<Plan>(
    (sql, lifted) => analyze(sql, lifted, catalog),
    options.cacheBytes,
  );
  const route = (sql: string, parameters: ParameterValues | null, isDrawn: boolean): Route => {
    const { value: plan, lifted } = cache.get(sql);
    return plan({ sql, lifted, parameters, isDrawn });
  };
  const lists = new ColumnLists(catalog);
  return {
    written: (sql) => lists.written(sql),
    route(text, parameters) {
      const sql = lists.written(text);
      const rows = rowsInText(sql, catalog);
      if (rows === null) return route(sql, parameters, false);
      const found = route(rows.sql, parameters, false);
      return found.kind === "split" && rows.isOrdered
        ? (inOrder(rows.sql, catalog) ?? found)
        : found;
    },
    routeDrawn(plan, drawn, parameters) {
      const sql = drawnText(plan, drawn);
      return { sql, route: route(sql, parameters, true) };
    },
  };
}

function analyze(sql: string, lifted: LiftedText, catalog: Catalog): Analyzed<Plan> {
  const parsed = parse(sql);
  // A mistake may lie in the constants ('{1' as an escape), so it is remembered for these alone.
  if (parsed.kind !== "parsed") return always(refused(parsed.kind, parsed.message), lifted);
  const [statement, ...others] = parsed.statements;
  if (statement === undefined) return always(ANY, lifted);
  if (others.length > 0) return always(refused("multipleStatements"), lifted);
  const analysis = beginAnalysis(sql, lifted, catalog);
  try {
    const plan = drawPlan(analysis, statement) ?? planOf(analysis, statement);
    return { value: plan, pinned: [...analysis.reader.pinned] };
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    const { route } = error;
    return { value: () => route, pinned: [...analysis.reader.pinned] };
  }
}

function inOrder(sql: string, catalog: Catalog): Route | null {
  try {
    const plan = orderedDraw({ sql, catalog });
    return plan && { kind: "draw", plan };
  } catch (error) {
    if (error instanceof Refusal) return error.route;
    throw error;
  }
}

function always(route: Route, { spans }: LiftedText): Analyzed<Plan> {
  const pinned = Array.from({ length: spans.length / 2 }, (_, index) => index);
  return { value: () => route, pinned };
}
