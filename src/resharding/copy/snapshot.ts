import { describeAddress, type ServerAddress } from "../../backend/address.js";
import type { SqlClient } from "../../backend/sql-client.js";
import { assert } from "../../core/assert.js";
import type { EngineContext } from "../context.js";
import type { TablePlan } from "../model/migration.js";
import { connectEngine } from "../steps/sides.js";
import { SnapshotOnStandby } from "./errors.js";
import { tableName } from "./table-sql.js";

/** A session within a repeatable-read, read-only transaction that sees one state of its tables. */
export interface SnapshotReader extends AsyncDisposable {
  readonly client: SqlClient;
  /** `pg_current_snapshot()` of that transaction. */
  readonly snapshot: string;
  /** Goes on with the next snapshot. */
  renew(): Promise<void>;
}

/** A reader queues behind DDL without holding up anybody else; longer than this, someone should know. */
const LOCK_TIMEOUT_MS = 60_000;

/**
 * R7: the lock comes first and the snapshot second. TRUNCATE and rewriting DDL are not MVCC: with the
 * snapshot first, one that commits before the lock leaves a reader with an empty table and an old snapshot.
 * LOCK TABLE takes no snapshot itself. `row_security = off` (connectSql) makes a policy an error.
 * @throws SnapshotOnStandby (R6), ServerUnreachable
 */
export async function openSnapshot(
  context: Pick<EngineContext, "signal">,
  address: ServerAddress,
  options: { readonly tables: readonly TablePlan[]; readonly purpose: string },
): Promise<SnapshotReader> {
  const client = await connectEngine(context, address, options.purpose, {
    lockTimeoutMs: LOCK_TIMEOUT_MS,
  });
  let snapshot = "";
  const begin = async () => {
    await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    for (const table of options.tables)
      await client.query(`LOCK TABLE ONLY ${tableName(table)} IN ACCESS SHARE MODE`);
    const result = await client.query<{ snapshot: string; standby: boolean }>(
      "SELECT pg_current_snapshot()::text AS snapshot, pg_is_in_recovery() AS standby",
    );
    const [row] = result.rows;
    assert(row, "no snapshot");
    if (row.standby) throw new SnapshotOnStandby(describeAddress(address));
    snapshot = row.snapshot;
  };
  try {
    await begin();
  } catch (error) {
    await client[Symbol.asyncDispose]();
    throw error;
  }
  return {
    client,
    get snapshot() {
      return snapshot;
    },
    renew: async () => {
      await client.query("COMMIT");
      await begin();
    },
    [Symbol.asyncDispose]: async () => await client[Symbol.asyncDispose](),
  };
}
