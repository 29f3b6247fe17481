import { setTimeout as delay } from "node:timers/promises";
import { type SqlClient, sqlStateOf } from "../backend/sql-client.js";
import { quoteIdentifier, quoteQualified } from "../core/identifier.js";
import { type Lsn, parseLsn } from "../core/lsn.js";
import { SQLSTATE } from "../core/sqlstate.js";
import {
  SlotCreationTimedOut,
  SlotEdgeTimedOut,
  SlotLost,
  StreamUnsupportedChange,
} from "./stream-errors.js";

export interface SlotState {
  /** null while the slot is being made. */
  readonly confirmedLsn: Lsn | null;
  readonly activePid: number | null;
}

/**
 * @returns null when there is no such slot
 * @throws SlotLost when it cannot be used: WAL removed, another plugin or database
 */
export async function readSlot(client: SqlClient, slot: string): Promise<SlotState | null> {
  const { rows } = await client.query<{
    plugin: string;
    here: boolean;
    wal_status: string | null;
    confirmed: string | null;
    active_pid: number | null;
  }>(
    `SELECT plugin, database = current_database() AS here, wal_status,
            confirmed_flush_lsn::text AS confirmed, active_pid
     FROM pg_replication_slots WHERE slot_name = $1`,
    [slot],
  );
  const row = rows[0];
  if (!row) return null;
  if (row.plugin !== "pgoutput" || !row.here)
    throw new SlotLost(slot, "it belongs to another plugin or database");
  if (row.wal_status === "lost") throw new SlotLost(slot, "its WAL was removed (wal_status lost)");
  return {
    confirmedLsn: row.confirmed === null ? null : parseLsn(row.confirmed),
    activePid: row.active_pid,
  };
}

/**
 * Makes a logical slot, or finds it there. It waits for all transactions of the cluster that were open
 * before (R26). Ended half-way by deadline, abort or crash, it leaves nothing: until it is whole the slot
 * is ephemeral and dies with our session, and the session notices a dead client within a second.
 * @param client without a lock timeout: whom it waits for is found out when the time is over. To be closed
 *   when this throws
 * @returns the position from which the slot delivers
 * @throws SlotCreationTimedOut naming whom it waits for; SlotLost when one of this name is unusable
 */
export async function ensureSlot(
  client: SqlClient,
  slot: string,
  options: { readonly timeoutMs: number },
): Promise<Lsn> {
  await client.query("SET client_connection_check_interval = '1s'");
  await client.query(`SET statement_timeout = ${options.timeoutMs}`);
  const lockName = `sluice.slot.${slot}`;
  try {
    // A run beside us would find the slot half made; it waits here instead.
    await client.query("SELECT pg_advisory_lock(hashtextextended($1, 0))", [lockName]);
    const lsn = await findOrMakeSlot(client, slot);
    // Only here: a session that failed is given up, and what it holds goes with it.
    await client.query("SELECT pg_advisory_unlock(hashtextextended($1, 0))", [lockName]);
    await client.query("RESET statement_timeout");
    return lsn;
  } catch (error) {
    if (sqlStateOf(error) !== SQLSTATE.queryCanceled) throw error;
    throw new SlotCreationTimedOut(slot, await describeWriters(client, 0n), { cause: error });
  }
}

async function findOrMakeSlot(client: SqlClient, slot: string): Promise<Lsn> {
  const existing = await readSlot(client, slot);
  if (existing?.confirmedLsn) return existing.confirmedLsn;
  const { rows } = await client.query<{ lsn: string }>(
    "SELECT lsn::text AS lsn FROM pg_create_logical_replication_slot($1, 'pgoutput')",
    [slot],
  );
  return parseLsn(rows[0]?.lsn ?? "");
}

/**
 * R2: a commit before the slot's first position may still be invisible, then neither slot nor snapshot has
 * it. Afterwards every transaction that had an id when this began is over *and visible*.
 * @throws SlotEdgeTimedOut naming whom it waits for
 */
export async function waitForSlotEdge(
  client: SqlClient,
  options: { readonly server: string; readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<void> {
  const late = await waitUntilVisible(client, options);
  if (late !== null) throw new SlotEdgeTimedOut(options.server, late);
}

/**
 * Waits until all transactions with an id by now are over and visible to new snapshots.
 *
 * The edge is an id of our own, which is above all that were given out. `pg_snapshot_xmax` would not do: it
 * is one above the newest *finished* id, so a running transaction may have just that id, and be missed.
 * @returns null when they are, else the ones that were waited for, in words
 */
export async function waitUntilVisible(
  client: SqlClient,
  options: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<string | null> {
  const { rows } = await client.query<{ edge: string }>(
    "SELECT pg_current_xact_id()::text AS edge",
  );
  const edge = BigInt(rows[0]?.edge ?? "0");
  const deadlineAtMs = Date.now() + options.timeoutMs;
  for (;;) {
    options.signal.throwIfAborted();
    const now = await client.query<{ xmin: string }>(
      "SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS xmin",
    );
    if (BigInt(now.rows[0]?.xmin ?? "0") >= edge) return null;
    if (Date.now() >= deadlineAtMs) return await describeWriters(client, edge);
    // PostgreSQL offers nothing to wait on for the end of many transactions.
    await delay(5, undefined, { signal: options.signal });
  }
}

/** The oldest transactions with an id, below `before` where that is not 0, prepared ones included. */
async function describeWriters(client: SqlClient, before: bigint): Promise<string> {
  const { rows } = await client.query<{ who: string }>(
    `SELECT format('pid %s, application "%s", database "%s", open for %s s', pid, application_name,
                   datname, round(extract(epoch FROM clock_timestamp() - xact_start)::numeric, 1)) AS who
     FROM pg_stat_activity
     WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
       AND ($1::bigint = 0 OR age(backend_xid) >= age(($1 % 4294967296)::text::xid))
     UNION ALL
     SELECT format('prepared transaction "%s" of %s', gid, owner) FROM pg_prepared_xacts
     LIMIT 5`,
    [before.toString()],
  );
  return rows.map((row) => row.who).join("; ") || "a transaction that has ended meanwhile";
}

/** Ends the walsender that reads a slot and waits until it has let go. @returns whether it has */
export async function freeSlot(
  client: SqlClient,
  slot: string,
  timeoutMs: number,
): Promise<boolean> {
  const deadlineAtMs = Date.now() + timeoutMs;
  for (;;) {
    const { rows } = await client.query<{ active_pid: number | null }>(
      "SELECT active_pid, pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1",
      [slot],
    );
    if (!rows[0] || rows[0].active_pid === null) return true;
    if (Date.now() >= deadlineAtMs) return false;
    await delay(10);
  }
}

/** Dropping what is not there is no error. */
export async function dropSlot(client: SqlClient, slot: string): Promise<void> {
  await client.query(
    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1",
    [slot],
  );
}

export interface PublishedTable {
  readonly schema: string;
  readonly name: string;
}

/**
 * R10: fixed tables, all operations, no filter, leaf tables under their own names. Made before the slot:
 * pgoutput reads the catalogue of the position that it decodes.
 * @throws StreamUnsupportedChange when one of this name publishes something else
 */
export async function ensurePublication(
  client: SqlClient,
  publication: string,
  tables: readonly PublishedTable[],
): Promise<void> {
  if (!(await publicationExists(client, publication))) {
    const list = tables
      .map((table) => `ONLY ${quoteQualified(table.schema, table.name)}`)
      .join(", ");
    try {
      await client.query(
        `CREATE PUBLICATION ${quoteIdentifier(publication)}${list === "" ? "" : ` FOR TABLE ${list}`}
         WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = false)`,
      );
      return;
    } catch (error) {
      // Another run was faster; what it made is checked below.
      if (sqlStateOf(error) !== SQLSTATE.duplicateObject) throw error;
    }
  }
  await checkPublication(client, publication, tables);
}

async function publicationExists(client: SqlClient, publication: string): Promise<boolean> {
  const found = await client.query("SELECT 1 FROM pg_publication WHERE pubname = $1", [
    publication,
  ]);
  return found.rows.length > 0;
}

async function checkPublication(
  client: SqlClient,
  publication: string,
  tables: readonly PublishedTable[],
): Promise<void> {
  const { rows } = await client.query<{ name: string }>(
    "SELECT schemaname || '.' || tablename AS name FROM pg_publication_tables WHERE pubname = $1",
    [publication],
  );
  const published = new Set(rows.map((row) => row.name));
  const missing = tables
    .map((table) => `${table.schema}.${table.name}`)
    .filter((name) => !published.has(name));
  if (missing.length === 0 && published.size === tables.length) return;
  throw new StreamUnsupportedChange(
    `publication "${publication}" does not hold the moving tables`,
    {
      detail: missing.length > 0 ? `missing: ${missing.join(", ")}` : "it has others, too",
      hint: "It is Sluice's own and was changed by somebody. Abort the migration and start again.",
    },
  );
}

export async function dropPublication(client: SqlClient, publication: string): Promise<void> {
  await client.query(`DROP PUBLICATION IF EXISTS ${quoteIdentifier(publication)}`);
}
