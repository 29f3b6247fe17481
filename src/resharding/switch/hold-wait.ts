import type { SqlClient } from "../../backend/sql-client.js";
import { isMissingControlSchema } from "../control/control-schema.js";

/** A transaction that a hold waits for: nothing of its statements, parameters or rows (R56). */
interface WaitedFor {
  /** As in pg_stat_activity; none while the client waits for a server connection. */
  readonly pids: readonly number[];
  readonly application: string;
  readonly ageMs: number;
}

/** Why a node has not come to rest, as it says itself. */
export interface HoldWait {
  readonly waitingClients: number;
  readonly openTransactions: number;
  /** A few of the open ones, the oldest first. */
  readonly oldest: readonly WaitedFor[];
}

/** Which hold, in the control database of its decision. */
export interface HoldKey {
  readonly migration: string;
  readonly epoch: number;
  readonly token: string;
}

/** Who says it. */
interface Speaker {
  readonly nodeId: string;
  readonly incarnation: string;
}

/**
 * Second run: the same row, anew. Nothing depends on it, so nobody waits for its fsync: the node's answer to the
 * hold may stand behind it in the same session.
 */
export async function reportHoldWait(
  client: SqlClient,
  key: HoldKey & Speaker,
  wait: HoldWait,
): Promise<void> {
  await client.query(
    `INSERT INTO sluice.hold_wait (migration, epoch, token, node_id, incarnation,
                                   waiting_clients, open_transactions, oldest)
     SELECT $1, $2, $3, $4, $5, $6, $7, $8 FROM set_config('synchronous_commit', 'off', true)
     ON CONFLICT (migration, node_id) DO UPDATE
        SET epoch = excluded.epoch, token = excluded.token, incarnation = excluded.incarnation,
            waiting_clients = excluded.waiting_clients, oldest = excluded.oldest,
            open_transactions = excluded.open_transactions, said_at = clock_timestamp()`,
    [
      key.migration,
      key.epoch,
      key.token,
      key.nodeId,
      key.incarnation,
      wait.waitingClients,
      wait.openTransactions,
      JSON.stringify(wait.oldest),
    ],
  );
}

/**
 * What the nodes say that have not answered this hold yet, with ages as of now. Nothing once the decision is made,
 * and nothing in a schema of before.
 */
export async function readHoldWaits(
  client: SqlClient,
  key: HoldKey,
): Promise<readonly (Speaker & HoldWait)[]> {
  try {
    const { rows } = await client.query<Speaker & HoldWait & { readonly sinceMs: number }>(
      `SELECT node_id AS "nodeId", incarnation, waiting_clients AS "waitingClients",
              open_transactions AS "openTransactions", oldest,
              (extract(epoch FROM clock_timestamp() - said_at) * 1000)::float8 AS "sinceMs"
         FROM sluice.hold_wait w
        WHERE migration = $1 AND epoch = $2 AND token = $3
          AND EXISTS (SELECT FROM sluice.decision d
                       WHERE d.migration = w.migration AND d.epoch = w.epoch AND d.token = w.token
                         AND d.state = 'prepared')
          AND NOT EXISTS (SELECT FROM sluice.hold h
                           WHERE h.migration = w.migration AND h.epoch = w.epoch AND h.token = w.token
                             AND h.node_id = w.node_id
                             AND (h.incarnation = w.incarnation OR h.held_at > w.said_at))
        ORDER BY node_id`,
      [key.migration, key.epoch, key.token],
    );
    return rows.map(({ sinceMs, oldest, ...wait }) => ({
      ...wait,
      oldest: oldest.map((one) => ({ ...one, ageMs: one.ageMs + sinceMs })),
    }));
  } catch (error) {
    if (isMissingControlSchema(error)) return [];
    throw error;
  }
}

/** `3 clients wait; open transaction of pid 812, application "billing", 2.3 s` */
export function holdWaitInWords({ waitingClients, openTransactions, oldest }: HoldWait): string {
  const clients = waitingClients === 1 ? "1 client waits" : `${waitingClients} clients wait`;
  if (openTransactions === 0) return clients;
  const named = oldest.map(waitedForInWords).join(", and of ");
  if (openTransactions === 1) return `${clients}; open transaction of ${named}`;
  return `${clients}; ${openTransactions} open transactions, the oldest of ${named}`;
}

function waitedForInWords({ pids, application, ageMs }: WaitedFor): string {
  const who =
    pids.length === 0
      ? "a client without a server connection yet"
      : `${pids.length === 1 ? "pid" : "pids"} ${pids.join(" ")}`;
  const what = application === "" ? "no application_name" : `application "${application}"`;
  return `${who}, ${what}, ${(ageMs / 1_000).toFixed(1)} s`;
}
