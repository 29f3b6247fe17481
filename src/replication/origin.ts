import { type SqlClient, sqlStateOf } from "../backend/sql-client.js";
import { LSN_ZERO, type Lsn, parseLsn } from "../core/lsn.js";
import { SQLSTATE } from "../core/sqlstate.js";

/** Makes the origin unless it is there. Its position is the server's, durable with each commit (R15). */
export async function ensureOrigin(client: SqlClient, origin: string): Promise<void> {
  try {
    await client.query(
      "SELECT pg_replication_origin_create($1) WHERE pg_replication_origin_oid($1) IS NULL",
      [origin],
    );
  } catch (error) {
    const state = sqlStateOf(error);
    if (state !== SQLSTATE.duplicateObject && state !== SQLSTATE.uniqueViolation) throw error;
  }
}

/**
 * Everything that this session commits from now on carries the origin.
 * @returns the position that the origin has reached, zero before the first batch; null when another
 *   session holds the origin still
 */
export async function setupOrigin(client: SqlClient, origin: string): Promise<Lsn | null> {
  try {
    await client.query("SELECT pg_replication_origin_session_setup($1)", [origin]);
  } catch (error) {
    if (sqlStateOf(error) === SQLSTATE.objectInUse) return null;
    throw error;
  }
  const { rows } = await client.query<{ lsn: string | null }>(
    "SELECT pg_replication_origin_session_progress(true)::text AS lsn",
  );
  const lsn = rows[0]?.lsn ?? null;
  return lsn === null ? LSN_ZERO : parseLsn(lsn);
}

/** Dropping what is not there is no error. Fails while a session holds it. */
export async function dropOrigin(client: SqlClient, origin: string): Promise<void> {
  await client.query(
    "SELECT pg_replication_origin_drop($1) WHERE pg_replication_origin_oid($1) IS NOT NULL",
    [origin],
  );
}
