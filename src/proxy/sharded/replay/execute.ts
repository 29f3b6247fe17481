import type { ServerConnection } from "../../../backend/server-connection.js";
import type { ReplayPlan } from "../../../router/route.js";
import { encodeThrown } from "../../../wire/error-fields.js";
import type {
  ClientSink,
  ScatterOutcome,
  ShardServers,
  StatementRequest,
} from "../scatter/contract.js";
import { statementMessages } from "../scatter/shard-messages.js";
import { ShardStatement } from "../scatter/shard-statement.js";
import { cameOutOtherwise } from "./replay-errors.js";
import { replayOn } from "./replica-rows.js";
import { ReturnedRows } from "./returned-rows.js";

export interface ReplayInput {
  readonly plan: ReplayPlan;
  readonly request: StatementRequest;
  readonly servers: ShardServers;
  readonly sink: ClientSink;
}

/**
 * Runs a write to an omnisharded table on the first shard and brings the rows that came of it to the others, in
 * the session's transaction on all. Every connection that was acquired has seen ReadyForQuery when it returns.
 * After "failed" the transaction must end everywhere. Never throws for what a server or client does.
 *
 *     first shard   UPDATE .. RETURNING  r1 r2 r3 | r4 r5 ..      the server is not read while a batch is
 *     the others                         UPDATE .. FROM (r1 r2 r3)    on its way, so memory holds one batch
 *
 * The others need no order among themselves: whoever wants the same rows waits at the first shard, until this
 * transaction has committed there, which it does last (`ShardTransaction.commit`).
 */
export async function executeReplay(input: ReplayInput): Promise<ScatterOutcome> {
  try {
    return await run(input);
  } catch (error) {
    return { kind: "failed", error: encodeThrown(error) };
  }
}

async function run({ plan, request, servers, sink }: ReplayInput): Promise<ScatterOutcome> {
  const [first, ...others] = servers.shards;
  if (first === undefined) throw new Error("a database without shards");
  const owner = await servers.acquire(first);
  const rows = new ReturnedRows(plan, request, sink);
  const statement = new ShardStatement(owner, rows);
  const ended = statement.run(statementMessages(ownerRequest(request, plan), plan.ownerSql, null));
  const replicas: ServerConnection[] = [];
  let failed: Buffer | null = null;
  for (;;) {
    await untilWork(rows, statement, ended);
    if (rows.error) failed = encodeThrown(rows.error);
    const batch = rows.takeBatch();
    if (failed === null && !statement.hasFailed && batch.length > 0) {
      try {
        await joinAll(servers, others, replicas);
        failed = await replayBatch(plan, replicas, batch);
      } catch (error) {
        failed = encodeThrown(error);
      }
    }
    if (failed !== null) rows.drop();
    owner.resume();
    if (statement.isDone || failed !== null) break;
  }
  const end = await ended;
  if (failed !== null) return { kind: "failed", error: failed };
  if (end.kind === "failed") return end;
  rows.show();
  return { kind: "complete", tag: end.tags.at(-1) ?? "" };
}

/** Our columns are text, and text is the same in either format; only a list of formats must go on. */
function ownerRequest(request: StatementRequest, { hasReturning }: ReplayPlan): StatementRequest {
  const { resultFormats } = request;
  if (!hasReturning) return { ...request, resultFormats: [] };
  if (resultFormats.length < 2) return request;
  return { ...request, resultFormats: [...resultFormats, 0, 0] };
}

/** Resolves with a full batch, or when all has come; meanwhile the server is read as fast as the client takes rows. */
async function untilWork(
  rows: ReturnedRows,
  statement: ShardStatement,
  ended: Promise<unknown>,
): Promise<void> {
  const full = new Promise<void>((resolve) => {
    rows.onChange = () => {
      if (rows.isFull || rows.isBlocked) statement.connection.pause();
      else if (!statement.isDone) statement.connection.resume();
      if (rows.isFull || rows.error) resolve();
    };
    rows.onChange();
  });
  await Promise.race([full, ended]);
}

async function joinAll(
  servers: ShardServers,
  others: ShardServers["shards"],
  replicas: ServerConnection[],
): Promise<void> {
  if (replicas.length > 0) return;
  for (const shard of others) replicas.push(await servers.acquire(shard));
}

/** @returns an ErrorResponse; null: the rows are the same on all */
async function replayBatch(
  plan: ReplayPlan,
  replicas: readonly ServerConnection[],
  batch: readonly Buffer[],
): Promise<Buffer | null> {
  const ends = await Promise.all(replicas.map((replica) => replayOn(replica, plan, batch)));
  for (const [index, end] of ends.entries()) {
    if (end.kind === "failed") return end.error;
    const replica = replicas[index];
    if (end.kind === "same" || replica === undefined) continue;
    const difference = {
      table: plan.table,
      shard: index + 1,
      isGuarded: plan.isGuarded,
      isSnapshotKept: await keepsSnapshot(replica),
    };
    return encodeThrown(cameOutOtherwise(difference));
  }
  return null;
}

async function keepsSnapshot(server: ServerConnection): Promise<boolean> {
  const { rows } = await server.query("SHOW transaction_isolation");
  return /^(repeatable read|serializable)$/.test(rows[0]?.[0] ?? "");
}
