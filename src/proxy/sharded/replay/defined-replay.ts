import type { ServerConnection } from "../../../backend/server-connection.js";
import type { DefinedReplay } from "../../../router/route.js";
import { encodeErrorFields } from "../../../wire/error-fields.js";
import type { ScatterOutcome, StatementRequest } from "../scatter/contract.js";
import { statementMessages } from "../scatter/shard-messages.js";
import { type ShardEnd, ShardStatement } from "../scatter/shard-statement.js";
import { ClientRows } from "./client-rows.js";
import { HeldAnswer } from "./held-answer.js";
import { FirstColumns } from "./replica-rows.js";
import { type ReplayEnds, replayReturned } from "./returned-replay.js";

/** One shard after the other, as the statement locks its table; then the first one's rows go to the others. */
export async function replayDefined(
  plan: DefinedReplay,
  ends: ReplayEnds,
): Promise<ScatterOutcome> {
  const { request, sink, owner, replicas } = ends;
  const client = new ClientRows(sink);
  const messages = statementMessages(request, request.sql, null);
  const before = plan.beforeSql ?? null;
  const after = (shard: number) =>
    typeof plan.afterSql === "string" ? plan.afterSql : (plan.afterSql?.[shard] ?? null);
  const failedBefore = await ask(owner, before);
  if (failedBefore !== null) return { kind: "failed", error: failedBefore };
  const own = new ShardStatement(owner, new HeldAnswer(request, client, owner));
  const end = await own.run(messages);
  if (end.kind === "failed") return end;
  const { rows } = plan;
  const failedAfter = await ask(owner, after(0));
  if (failedAfter !== null) return { kind: "failed", error: failedAfter };
  for (const [index, replica] of (await replicas()).entries()) {
    const refused = await ask(replica, before);
    if (refused !== null) return { kind: "failed", error: refused };
    const other = await new ShardStatement(replica, new FirstColumns()).run(messages);
    if (other.kind === "failed") return other;
    const empties = rows !== null && hasMadeRows(other) ? rows.emptySql : null;
    const failed = (await ask(replica, empties)) ?? (await ask(replica, after(index + 1)));
    if (failed !== null) return { kind: "failed", error: failed };
  }
  if (rows !== null && (rows.emptySql === null || hasMadeRows(end))) {
    const replay = { ...rows, kind: "returned", hasReturning: false } as const;
    const outcome = await replayReturned(replay, { ...ends, request: quiet(request) });
    if (outcome.kind === "failed") return outcome;
  }
  client.show();
  return { kind: "complete", tag: end.tags.at(-1) ?? "" };
}

/** CREATE TABLE IF NOT EXISTS .. AS leaves a table as it is; then its tag has no count. */
function hasMadeRows(end: ShardEnd): boolean {
  return end.kind === "complete" && /^SELECT /.test(end.tags.at(-1) ?? "");
}

/** @returns the server's ErrorResponse; null: done, or nothing to do */
async function ask(server: ServerConnection, sql: string | null): Promise<Buffer | null> {
  if (sql === null) return null;
  const { error } = await server.query(sql);
  return error && encodeErrorFields("E", error);
}

/** A statement of ours, which tells the client nothing. */
function quiet(request: StatementRequest): StatementRequest {
  return { ...request, protocol: "simple", wantsDescription: false };
}
