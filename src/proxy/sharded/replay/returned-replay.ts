import type { ServerConnection } from "../../../backend/server-connection.js";
import type { ReturnedReplay } from "../../../router/route.js";
import { encodeThrown } from "../../../wire/error-fields.js";
import type { ClientSink, ScatterOutcome, StatementRequest } from "../scatter/contract.js";
import { statementMessages } from "../scatter/shard-messages.js";
import { ShardStatement } from "../scatter/shard-statement.js";
import { ClientRows } from "./client-rows.js";
import { differenceOf } from "./replay-errors.js";
import { type ReplicaEnd, replayOn } from "./replica-rows.js";
import { ReturnedRows } from "./returned-rows.js";

/** The servers and the client of one statement. */
export interface ReplayEnds {
  readonly request: StatementRequest;
  readonly sink: ClientSink;
  /** The shard that decides. */
  readonly owner: ServerConnection;
  /** The others, in their order; joined when first asked for. */
  readonly replicas: () => Promise<readonly ServerConnection[]>;
}

/**
 *     first shard   UPDATE .. RETURNING  r1 r2 r3 | r4 r5 ..      the server is not read while a batch is
 *     the others                         UPDATE .. FROM (r1 r2 r3)    on its way, so memory holds one batch
 */
export async function replayReturned(
  plan: ReturnedReplay,
  { request, sink, owner, replicas }: ReplayEnds,
): Promise<ScatterOutcome> {
  const rows = new ReturnedRows(plan, request, new ClientRows(sink));
  const statement = new ShardStatement(owner, rows);
  const ended = statement.run(statementMessages(ownerRequest(request, plan), plan.ownerSql, null));
  let failed: Buffer | null = null;
  do {
    await untilWork(rows, statement, ended);
    const batch = rows.takeBatch();
    if (rows.error) failed = encodeThrown(rows.error);
    else if (!statement.hasFailed && batch.length > 0) {
      failed = await replayBatch(plan, batch, replicas);
    }
    if (failed !== null) rows.drop();
    owner.resume();
  } while (!statement.isDone && failed === null);
  const end = await ended;
  if (failed !== null) return { kind: "failed", error: failed };
  if (end.kind === "failed") return end;
  rows.client.show();
  return { kind: "complete", tag: end.tags.at(-1) ?? "" };
}

/** Our columns are text, and text is the same in either format; only a list of formats must go on. */
function ownerRequest(
  request: StatementRequest,
  { hasReturning }: ReturnedReplay,
): StatementRequest {
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
      if (rows.isFull || rows.client.isBlocked) statement.connection.pause();
      else if (!statement.isDone) statement.connection.resume();
      if (rows.isFull || rows.error) resolve();
    };
    rows.onChange();
  });
  await Promise.race([full, ended]);
}

/** @returns an ErrorResponse; null: the rows are the same on all */
async function replayBatch(
  plan: ReturnedReplay,
  batch: readonly Buffer[],
  replicas: ReplayEnds["replicas"],
): Promise<Buffer | null> {
  try {
    const servers = await replicas();
    const ends = await Promise.all(servers.map((server) => replayOn(server, plan, batch)));
    return await firstFailure(plan, servers, ends);
  } catch (error) {
    return encodeThrown(error);
  }
}

/** @returns an ErrorResponse; null: all came out the same */
export async function firstFailure(
  { table }: { readonly table: string },
  servers: readonly ServerConnection[],
  ends: readonly ReplicaEnd[],
): Promise<Buffer | null> {
  for (const [index, end] of ends.entries()) {
    if (end.kind === "failed") return end.error;
    const server = servers[index];
    if (end.kind === "same" || server === undefined) continue;
    return encodeThrown(await differenceOf(table, index + 1, server));
  }
  return null;
}
