import { describeAddress, type ServerAddress } from "../../backend/address.js";
import type { SqlClient } from "../../backend/sql-client.js";
import { assert } from "../../core/assert.js";
import type { TablePlan } from "../model/migration.js";
import { SnapshotOnStandby } from "./copy-failed.js";
import { tableName } from "./range-sql.js";

/** A session within a repeatable-read, read-only transaction that sees one state of its tables. */
export interface SnapshotReader {
  readonly client: SqlClient;
  /** `pg_current_snapshot()` of that transaction. */
  readonly snapshot: string;
}

/** A reader queues behind DDL without holding up anybody else; longer than this, someone should know. */
const LOCK_TIMEOUT_MS = 60_000;

/** Where a snapshot is taken: a session that nothing else uses meanwhile, and what it reads. */
export interface SnapshotOf {
  readonly address: ServerAddress;
  readonly table: TablePlan;
}

/**
 * Begins, see `beginSnapshot`; ROLLBACK or the end of the session ends the transaction.
 * @throws SnapshotOnStandby (R6)
 */
export async function openSnapshot(client: SqlClient, of: SnapshotOf): Promise<SnapshotReader> {
  return { client, snapshot: await beginSnapshot(client, of.address, of.table) };
}

/** Reads one state of the table, in a transaction of its own. @throws SnapshotOnStandby (R6) */
export async function readAtSnapshot<T>(
  client: SqlClient,
  of: SnapshotOf,
  read: (client: SqlClient) => Promise<T>,
): Promise<T> {
  try {
    await beginSnapshot(client, of.address, of.table);
    return await read(client);
  } finally {
    await client.query("ROLLBACK").catch(() => {});
  }
}

/**
 * R7: the lock comes first and the snapshot second. TRUNCATE and rewriting DDL are not MVCC: with the
 * snapshot first, one that commits before the lock leaves a reader with an empty table and an old snapshot.
 * LOCK TABLE takes no snapshot itself. `row_security = off` (connectSql) makes a policy an error.
 * @returns the snapshot of all later statements of the transaction
 */
async function beginSnapshot(
  client: SqlClient,
  address: ServerAddress,
  table: TablePlan,
): Promise<string> {
  await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  await client.query(`SET LOCAL lock_timeout = ${LOCK_TIMEOUT_MS}`);
  await client.query(`LOCK TABLE ONLY ${tableName(table)} IN ACCESS SHARE MODE`);
  const result = await client.query<{ snapshot: string; standby: boolean }>(
    "SELECT pg_current_snapshot()::text AS snapshot, pg_is_in_recovery() AS standby",
  );
  const [row] = result.rows;
  assert(row, "no snapshot");
  if (row.standby) throw new SnapshotOnStandby(describeAddress(address));
  return row.snapshot;
}
