import { sqlStateOf } from "../../backend/sql-client.js";
import { type ErrorFields, SluiceError } from "../../core/errors.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { EngineContext } from "../context.js";
import { ensureControlSchema } from "../control/control-schema.js";
import { TABLE_LOCK_TIMEOUT_MS } from "../control/lock-retries.js";
import { identifyTables, noteIdentities, readIdentityNotes } from "../control/replica-identity.js";
import { configuredSides, type SessionUse, type SideSessions } from "../control/sides.js";
import type { MigrationRef, MigrationSpec, Side } from "../model/migration.js";
import { noteFingerprints } from "../switch/fingerprint.js";

const BEGIN: SessionUse = { purpose: "begin" };
const IDENTIFY: SessionUse = { purpose: "identify", lockTimeoutMs: TABLE_LOCK_TIMEOUT_MS };

/** The tables belong to another migration that is not over. */
export class MigrationExists extends SluiceError {
  readonly code = "SLUICE_MIGRATION_EXISTS";
  readonly sqlState = SQLSTATE.objectInUse;
  readonly recovery = "operator";
  constructor(where: string, options: ErrorFields = {}) {
    super(`tables of this publication belong to another migration on ${where}`, {
      hint: "SHOW TASKS names it; finalize it with STOP_TASK of its reverse task, or abort it.",
      ...options,
    });
  }
}

/**
 * Control schema, migration row and the locks on the moving tables, on every shard of both sides. The lock is
 * PostgreSQL's primary key on (schema, table), so it holds over nodes, namespaces and Temporal servers.
 *
 * Then the replica identities that are missing on the source: before the schema is dumped, which brings them to
 * the other side with their indexes, and before a publication of ours names the tables.
 * Second run: the rows are there and are ours. Dies between two shards: `abortMigration` finds what is there.
 * @throws MigrationExists when another live migration has one of the tables; IdentityLockTimedOut, IdentityDiffers
 */
export async function beginMigration(
  context: EngineContext,
  input: { readonly ref: MigrationRef; readonly spec: MigrationSpec },
): Promise<void> {
  await using sides = configuredSides(context, input.ref);
  for (const side of ["source", "destination"] as const) {
    for (const shard of sides[side].shards.keys()) {
      await beginOnShard(context, sides, { ...input, side, shard });
    }
  }
  await context.announce("begin.afterNotes");
  const { ref, spec } = input;
  const what = { ref, context, tables: spec.tables, side: "source" } as const;
  for (const client of await sides.sessions("source", IDENTIFY)) {
    await identifyTables(client, what);
    // Before the schema is read: what changes from here on is not on the other side.
    await noteFingerprints(client, { ref, stream: 0, tables: spec.tables });
  }
}

interface BeginInput {
  readonly ref: MigrationRef;
  readonly spec: MigrationSpec;
  readonly side: Side;
  readonly shard: number;
}

async function beginOnShard(
  context: EngineContext,
  sides: SideSessions,
  input: BeginInput,
): Promise<void> {
  const { ref, spec } = input;
  const client = await sides.session(input.side, input.shard, BEGIN);
  await ensureControlSchema(client);
  const inherited =
    input.side === "source"
      ? []
      : await readIdentityNotes(await sides.session("source", 0, BEGIN), ref);
  await client.query("BEGIN");
  const made = await client.query(
    `INSERT INTO sluice.migration (id, source, destination, publication, side, shard, spec)
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING`,
    [
      ref.id,
      ref.source,
      ref.destination,
      ref.publication,
      input.side,
      input.shard,
      JSON.stringify(spec),
    ],
  );
  try {
    await client.query(
      `INSERT INTO sluice.moving_table (migration, schema_name, table_name)
       SELECT $1, t.* FROM unnest($2::text[], $3::text[]) AS t
        WHERE NOT EXISTS (SELECT FROM sluice.moving_table m
                           WHERE m.migration = $1 AND (m.schema_name, m.table_name) = t.*)`,
      [ref.id, spec.tables.map((table) => table.schema), spec.tables.map((table) => table.name)],
    );
  } catch (cause) {
    if (sqlStateOf(cause) !== SQLSTATE.uniqueViolation) throw cause;
    await client.query("ROLLBACK");
    throw new MigrationExists(`${input.side} shard ${input.shard}`, { cause });
  }
  // With the row or never: a run that was frozen must not note again what has been put back.
  if (made.rowCount === 1)
    await noteIdentities(client, { ref, tables: spec.tables, policy: context.policy, inherited });
  await client.query("COMMIT");
}
