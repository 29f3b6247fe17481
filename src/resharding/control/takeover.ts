import { setTimeout as delay } from "node:timers/promises";
import type { SqlClient } from "../../backend/sql-client.js";

export interface Takeover {
  /** The advisory lock's name; its key is `hashtextextended(name, 0)`. */
  readonly name: string;
  /** Until the session ends, or its transaction. */
  readonly until: "session" | "transaction";
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** A predecessor was told to end, or has been before and is still there. */
  readonly onEnded?: (pid: number) => void;
}

const POLL_MS = 20;
const TRY = { session: "pg_try_advisory_lock", transaction: "pg_try_advisory_xact_lock" } as const;

/**
 * R16: takes an advisory lock over. Whoever holds it is ended on the server, not waited for: a second attempt
 * starts only after the first was given up, and a frozen process would keep its lock for ever. The lock is held
 * by the session that holds the predecessor's effects, so once it is ours they are committed or gone.
 *
 * Frozen here for an hour: somebody else has ended this session by then, and the next statement says so.
 * @returns false when a predecessor does not go in time; `listHolders` names it
 */
export async function takeOver(client: SqlClient, lock: Takeover): Promise<boolean> {
  const deadlineAtMs = performance.now() + lock.timeoutMs;
  for (;;) {
    lock.signal.throwIfAborted();
    const { rows } = await client.query<{ taken: boolean }>(
      `SELECT ${TRY[lock.until]}(hashtextextended($1, 0)) AS taken`,
      [lock.name],
    );
    if (rows[0]?.taken === true) return true;
    for (const pid of await endHolders(client, lock.name)) lock.onEnded?.(pid);
    if (performance.now() >= deadlineAtMs) return false;
    // Nothing announces that a lock became free without queueing for it, and a queue has no deadline.
    await delay(POLL_MS, undefined, { signal: lock.signal });
  }
}

/** Ends whoever holds the lock, on the server: its process may be frozen and never answer. @returns their pids */
export async function endHolders(client: SqlClient, name: string): Promise<readonly number[]> {
  const { rows } = await client.query<{ pid: number }>(
    `${HOLDERS} SELECT pid, pg_terminate_backend(pid) FROM holder`,
    [name],
  );
  return rows.map((row) => row.pid);
}

/** @returns the pids of those that hold the lock */
export async function listHolders(client: SqlClient, name: string): Promise<readonly number[]> {
  const { rows } = await client.query<{ pid: number }>(`${HOLDERS} SELECT pid FROM holder`, [name]);
  return rows.map((row) => row.pid);
}

/**
 * pg_locks shows a 64-bit advisory key as two halves, and objsubid 1. Materialized, as the sessions are ended in
 * the select list: the planner would be free to end first and look at the key afterwards.
 */
const HOLDERS = `
  WITH holder AS MATERIALIZED (
    SELECT l.pid FROM pg_locks l
     WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.pid <> pg_backend_pid()
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND ((l.classid::bigint << 32) | l.objid::bigint) = hashtextextended($1, 0))`;
