import type { QueryOutcome, ServerConnection } from "../../../backend/server-connection.js";
import { SQLSTATE } from "../../../core/sqlstate.js";
import type { Database, DatabaseUser, ShardId } from "../../../topology/topology.js";
import { encodeErrorFields } from "../../../wire/error-fields.js";
import type { ServedDatabase } from "../../databases/served-database.js";
import { StatementFailed, StatementRefused } from "../../session-errors.js";

/** A shard of the transaction that is to be committed. */
export interface CommitPart {
  readonly shard: ShardId;
  readonly server: ServerConnection;
}

export interface CommitInput {
  readonly parts: readonly CommitPart[];
  readonly served: ServedDatabase;
  readonly user: DatabaseUser;
  readonly mode: Database["twoPhaseCommit"];
  /** Cancels whatever runs on the servers of the transaction. */
  readonly cancel: () => void;
  /** Called when it cannot be stopped any more, neither by the client nor by its end. */
  readonly onPassed: () => void;
}

/** What the server says of its part, once nothing is left to be checked there at the end. */
export interface AskedPart extends CommitPart {
  /** null: nothing was written there, whatever the statements were called. */
  readonly xid: string | null;
  readonly isSerializable: boolean;
  /** A commit is told before it is on disk. */
  readonly isUnflushed: boolean;
  /** PREPARE TRANSACTION refuses it. */
  readonly usesTemporary: boolean;
}

/** Locks tell of tables that are gone again, as well; nothing is looked up where there was never a temporary one. */
const USES_TEMPORARY = `CASE WHEN pg_my_temp_schema() = 0 THEN false ELSE EXISTS (
  SELECT FROM pg_catalog.pg_locks l WHERE l.pid = pg_backend_pid() AND CASE l.locktype
    WHEN 'relation' THEN l.database <> 0 AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_class c WHERE c.oid = l.relation AND c.relnamespace <> pg_my_temp_schema())
    ELSE l.locktype = 'object' AND l.classid = 'pg_catalog.pg_namespace'::regclass AND l.objid = pg_my_temp_schema()
  END) END`;

/** Deferred checks and triggers run first, and may write. */
const ASK = `SET CONSTRAINTS ALL IMMEDIATE;
SELECT pg_catalog.pg_current_xact_id_if_assigned()::text, pg_catalog.current_setting('transaction_isolation') = 'serializable',
  pg_catalog.current_setting('synchronous_commit') = 'off', ${USES_TEMPORARY}`;

/**
 * Runs what is deferred on all shards, before any commits, and asks who has written.
 * @throws StatementFailed with the first error; what the other shards still do is cancelled
 */
export async function askParts({ parts, cancel }: CommitInput): Promise<readonly AskedPart[]> {
  return await together(
    parts,
    async (part) => {
      const { rows } = await must(part.server, ASK);
      const [xid = null, serializable, unflushed, temporary] = rows[0] ?? [];
      return {
        ...part,
        xid,
        isSerializable: serializable === "t",
        isUnflushed: unflushed === "t",
        usesTemporary: temporary === "t",
      };
    },
    cancel,
  );
}

/**
 * On all at once; settles when all have.
 * @throws the first error; the others are cancelled by it
 */
export async function together<P, T>(
  parts: readonly P[],
  work: (part: P) => Promise<T>,
  cancel: () => void,
): Promise<readonly T[]> {
  const errors: unknown[] = [];
  let left = parts.length;
  const ends = await Promise.allSettled(
    parts.map(async (part) => {
      try {
        return await work(part);
      } catch (error) {
        if (errors.length === 0 && left > 1) cancel();
        errors.push(error);
        throw error;
      } finally {
        left--;
      }
    }),
  );
  if (errors.length > 0) throw errors[0];
  return ends.flatMap((end) => (end.status === "fulfilled" ? [end.value] : []));
}

/** @throws StatementFailed with the server's error, ServerConnectionLost */
export async function must(server: ServerConnection, sql: string): Promise<QueryOutcome> {
  const outcome = await server.query(sql);
  if (outcome.error) throw new StatementFailed(encodeErrorFields("E", outcome.error));
  return outcome;
}

/** COMMIT and PREPARE TRANSACTION of a failed transaction roll it back, without an error. */
export async function mustEnd(server: ServerConnection, sql: string, tag: string): Promise<void> {
  const outcome = await must(server, sql);
  if (outcome.tag !== tag)
    throw new StatementRefused(
      SQLSTATE.inFailedSqlTransaction,
      "the transaction had failed on a shard and was rolled back",
    );
}
