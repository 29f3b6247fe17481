import type { ParameterValues } from "../../router/key-value.js";
import type { DrawPlan, KeyDefault, Route, SettledRoute } from "../../router/route.js";
import type { Router } from "../../router/router.js";
import { FIRST_SHARD } from "../../topology/topology.js";
import type { ExecutionContext } from "../execution/executor.js";
import type { ShardedStatements } from "./statements.js";

export interface DrawContext {
  readonly statements: ShardedStatements;
  readonly context: ExecutionContext;
  readonly router: Router;
  readonly parameters: ParameterValues;
}

/**
 * A statement as it is to run: where its route says that a sharding key is left to its default, with values drawn
 * for it, anew at each call; else as it came. All values of a statement take one round trip.
 *
 * They are drawn on the first shard, whose sequences then give ids in the order in which they are asked for, as one
 * database's would. What dies between drawing and inserting leaves a gap in the sequence, as a rollback does.
 * @throws StatementFailed with the server's own error (a sequence at its end, no right to use it)
 */
export async function withDrawnValues(
  sql: string,
  route: Route,
  at: DrawContext,
): Promise<{ readonly sql: string; readonly route: SettledRoute }> {
  if (route.kind !== "draw") return { sql, route };
  const drawn = await draw(route.plan, at);
  const settled = at.router.routeDrawn(route.plan, drawn, at.parameters);
  if (settled.route.kind === "draw") throw new Error("a drawn key is missing still");
  return { sql: settled.sql, route: settled.route };
}

async function draw(
  { draws }: DrawPlan,
  { statements, context }: DrawContext,
): Promise<readonly (string | null)[]> {
  const bindings = new Set(draws.map(({ key }) => key.binding));
  const { transaction } = statements;
  const sql = draws.map(({ key, count }) => drawSql(key, count)).join("; ");
  // A count that is kept in a table goes back with the row.
  statements.begin(context, bindings.has("counter") ? "BEGIN" : null);
  if (bindings.has("counter")) return firstOf(await transaction.ask(FIRST_SHARD, sql));
  const isOfTransaction = bindings.has("transaction") && transaction.isBegun;
  if (!isOfTransaction) return firstOf(await transaction.askAside(FIRST_SHARD, sql));
  return firstOf(await transaction.ask(transaction.usedShards[0] ?? FIRST_SHARD, sql));
}

function drawSql({ sql }: KeyDefault, count: number): string {
  return `SELECT ${sql} FROM pg_catalog.generate_series(1, ${count})`;
}

function firstOf({ rows }: { readonly rows: readonly (readonly (string | null)[])[] }) {
  return rows.map(([value]) => value ?? null);
}
