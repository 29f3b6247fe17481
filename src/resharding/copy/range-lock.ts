import { setTimeout as delay } from "node:timers/promises";
import type { SqlClient } from "../../backend/sql-client.js";
import type { EngineContext } from "../context.js";
import type { CopyRangeInput } from "../model/activities.js";
import { CopyFailed } from "./copy-failed.js";

const TAKEOVER_TIMEOUT_MS = 30_000;
const TAKEOVER_POLL_MS = 20;

/**
 * Makes this transaction the only one that writes the range on this shard, until it ends.
 *
 * A predecessor is ended, not waited for: a second attempt starts only after the first was given up, and a
 * frozen process would keep its lock for ever. The lock is held by the session that holds the rows, so when
 * the lock is free the predecessor's rows are either committed or gone, and will not change any more.
 * @throws CopyFailed when the predecessor does not go
 */
export async function takeRangeLock(
  context: EngineContext,
  client: SqlClient,
  input: CopyRangeInput,
): Promise<void> {
  const name = `sluice.copy_range ${input.ref.id} ${input.sourceShard} ${input.schema}.${input.table} ${input.range}`;
  const deadline = performance.now() + TAKEOVER_TIMEOUT_MS;
  for (;;) {
    const attempt = await client.query<{ taken: boolean }>(
      "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0)) AS taken",
      [name],
    );
    if (attempt.rows[0]?.taken) return;
    const ended = await client.query<{ pid: number }>(END_HOLDERS, [name]);
    for (const { pid } of ended.rows)
      context.log.warn("ended an earlier attempt to copy a range", { pid, range: input.range });
    if (performance.now() > deadline)
      throw new CopyFailed(`an earlier attempt to copy range ${input.range} does not end`, {
        recovery: "retry",
        hint: 'Its session is in pg_stat_activity as "sluice copy"; is pg_terminate_backend allowed to us?',
      });
    // Nothing announces that a lock became free without queueing for it, and a queue has no deadline.
    await delay(TAKEOVER_POLL_MS, undefined, { signal: context.signal });
  }
}

/**
 * pg_locks shows a 64-bit advisory key as two halves, and objsubid 1. The sessions are ended in the select
 * list: among the conditions, the planner would be free to end first and look at the key afterwards.
 */
const END_HOLDERS = `
  WITH holder AS MATERIALIZED (
    SELECT l.pid FROM pg_locks l
     WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.pid <> pg_backend_pid()
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND ((l.classid::bigint << 32) | l.objid::bigint) = hashtextextended($1, 0))
  SELECT pid, pg_terminate_backend(pid) FROM holder`;
