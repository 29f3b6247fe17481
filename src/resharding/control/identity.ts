import type { SqlClient } from "../../backend/sql-client.js";
import { assert } from "../../core/assert.js";
import type { ServerIdentity } from "../../replication/walsender.js";

/**
 * Who this server is (R18, R30): what IDENTIFY_SYSTEM says, without a replication connection. The timeline is
 * read from the WAL file's name, as pg_control still shows the old one between a promotion and its checkpoint.
 */
export async function readIdentity(client: SqlClient): Promise<ServerIdentity> {
  const result = await client.query<ServerIdentity>(
    `SELECT system_identifier::text AS "systemIdentifier",
            ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer AS timeline
       FROM pg_control_system()`,
  );
  const [row] = result.rows;
  assert(row, "pg_control_system() returns a row");
  return row;
}

/** The same server in the same history: a restored or promoted one differs in one of the two. */
export function sameServer(one: ServerIdentity, other: ServerIdentity): boolean {
  return one.systemIdentifier === other.systemIdentifier && one.timeline === other.timeline;
}

/** For people. */
export function describeIdentity(identity: ServerIdentity): string {
  return `${identity.systemIdentifier} timeline ${identity.timeline}`;
}
