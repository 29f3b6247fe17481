import { describeAddress } from "../../backend/address.js";
import type { SqlClient } from "../../backend/sql-client.js";
import { quoteQualified } from "../../core/identifier.js";
import type { EngineContext } from "../context.js";
import { ensureControlSchema } from "../control/control-schema.js";
import { forgetEvidence } from "../control/evidence.js";
import {
  configuredSides,
  MigrationUnknown,
  openSides,
  type SessionUse,
  type SideSessions,
  shardAddress,
} from "../control/sides.js";
import { takeOver } from "../control/takeover.js";
import type { SchemaResult } from "../model/activities.js";
import type { MigrationRef } from "../model/migration.js";
import { dumpSchema, findPgDump } from "./pg-dump.js";
import {
  LOCK_TIMEOUT_MS,
  recordStatements,
  runStatements,
  type ShardOutcome,
} from "./run-statements.js";
import { SchemaStatementFailed } from "./schema-failures.js";
import { planStatements, type SchemaPhase, type SchemaStatement } from "./statement.js";

const SHOWN_REASONS = 50;

const SOURCE: SessionUse = { purpose: "schema source" };
/** SHOW SCHEMA_SYNC knows by this name that a sync runs. */
const SCHEMA: SessionUse = { purpose: "schema", lockTimeoutMs: LOCK_TIMEOUT_MS };

/**
 * Brings the source's schema to every destination shard, in parallel; nothing else of the destination is
 * touched, and no column changes its type.
 *
 * - `pre`, before the copy: types, functions, sequences, tables, views, primary keys, replica identities.
 * - `post`, right after the copy and *before the lanes apply*: indexes, constraints, foreign keys as NOT VALID,
 *   triggers, policies. A lock that is not to be had is tried again for a minute, so beside running lanes it
 *   would end, not hang; but an index build holds them up.
 * - `cutover`, after catch-up and before arm: constraints that the copied ranges did not fit yet, and
 *   VALIDATE of the foreign keys (SHARE UPDATE EXCLUSIVE: beside the lanes), materialized views. Ranges have
 *   different snapshots, so only then are the rows consistent. Sequences are `advanceSequences`' work.
 *
 * Second run: what exists is compared and kept. One beside the first: the later one ends the earlier one's
 * session, as that may be frozen. Without a migration (SCHEMA_SYNC alone) the configured names say the sides.
 * @throws SchemaDumpFailed, SchemaStatementFailed (recovery "retry" when rows do not fit in phase `cutover`)
 */
export async function syncSchema(
  context: EngineContext,
  input: { readonly ref: MigrationRef; readonly phase: SchemaPhase },
): Promise<SchemaResult> {
  await using sides = await findSides(context, input.ref);
  const sourceAddress = shardAddress(sides.source, 0);
  const sourceClient = await sides.session("source", 0, SOURCE);
  const pgDump = await findPgDump(context.policy.pgDumpPath, await majorOf(sourceClient));
  const dump = await dumpSchema(pgDump, sourceAddress, context.signal);
  const statements = planStatements(dump).concat(await planRefreshes(sourceClient));
  const outcomes = await Promise.allSettled(
    sides.destination.shards.map((_, shard) =>
      syncShard(context, { ...input, sides, shard, statements, source: sourceClient }),
    ),
  );
  return summarize(outcomes);
}

/**
 * Statements that have not been done on a shard: until `cutover` has run, constraints may be missing there.
 * @returns 0 when every phase that began on this shard has finished
 */
export async function countPendingStatements(
  client: SqlClient,
  migration: string,
): Promise<number> {
  const result = await client.query<{ count: number }>(
    "SELECT count(*)::int AS count FROM sluice.schema_statement WHERE migration = $1 AND finished_at IS NULL",
    [migration],
  );
  return result.rows[0]?.count ?? 0;
}

async function findSides(context: EngineContext, ref: MigrationRef): Promise<SideSessions> {
  try {
    return await openSides(context, ref);
  } catch (error) {
    if (!(error instanceof MigrationUnknown)) throw error;
    return configuredSides(context, ref);
  }
}

async function majorOf(client: SqlClient): Promise<number> {
  const result = await client.query<{ version: number }>(
    "SELECT current_setting('server_version_num')::int AS version",
  );
  return Math.floor((result.rows[0]?.version ?? 0) / 10_000);
}

/** A dump leaves materialized views empty, and an empty one refuses to be read. */
async function planRefreshes(client: SqlClient): Promise<readonly SchemaStatement[]> {
  const result = await client.query<{ schema: string; name: string }>(
    `SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'm' AND c.relispopulated AND n.nspname <> 'sluice' ORDER BY c.oid`,
  );
  return result.rows.map((table) => ({
    phases: ["cutover"],
    kind: "statement",
    table,
    sql: `REFRESH MATERIALIZED VIEW ${quoteQualified(table.schema, table.name)}`,
    accessMethod: null,
    object: { kind: "other" },
    isAccess: false,
  }));
}

interface ShardInput {
  readonly ref: MigrationRef;
  readonly phase: SchemaPhase;
  readonly sides: SideSessions;
  readonly shard: number;
  readonly statements: readonly SchemaStatement[];
  readonly source: SqlClient;
}

async function syncShard(context: EngineContext, input: ShardInput): Promise<ShardOutcome> {
  const { ref, phase, sides, shard, statements, source } = input;
  const address = shardAddress(sides.destination, shard);
  const scope = `shard ${shard} (${describeAddress(address)})`;
  const client = await sides.session("destination", shard, SCHEMA);
  await ensureControlSchema(client);
  await succeedOthers(context, client, scope);
  await forgetAbandoned(client, ref);
  await forgetEvidence(client, { ref, step: "schema" });
  // As pg_dump's own preamble has them: bodies may name what comes later, and names are complete.
  await client.query("SET check_function_bodies = off");
  await client.query("SET search_path = ''");
  await client.query("SET xmloption = content");
  const ofPhase = (wanted: SchemaPhase) =>
    statements.filter(({ phases }) => phases.includes(wanted));
  // From here on `countPendingStatements` knows that something is left to do.
  if (phase === "post")
    await recordStatements({ client, ref, phase: "cutover", shard }, ofPhase("cutover"));
  const run = { context, ref, phase, shard, scope, client, source };
  return await runStatements(run, ofPhase(phase));
}

/** One sync at a time in a database, whatever its migration. */
const LOCK_NAME = "sluice.schema_sync";
const SUCCESSION_TIMEOUT_MS = 15_000;

/** An earlier attempt may be frozen with its session open: it is ended, and its statement with it. */
async function succeedOthers(
  context: EngineContext,
  client: SqlClient,
  scope: string,
): Promise<void> {
  const lock = { name: LOCK_NAME, until: "session", timeoutMs: SUCCESSION_TIMEOUT_MS } as const;
  if (await takeOver(client, { ...lock, signal: context.signal })) return;
  throw new SchemaStatementFailed({
    sql: `take the lock "${LOCK_NAME}"`,
    shard: scope,
    reason: "another schema sync runs there and does not end",
    recovery: "retry",
  });
}

/** Lists of a SCHEMA_SYNC that failed: no migration has its id, so nobody would come back to them. */
async function forgetAbandoned(client: SqlClient, ref: MigrationRef): Promise<void> {
  await client.query(
    `DELETE FROM sluice.schema_statement s
      WHERE s.migration <> $1 AND NOT EXISTS (SELECT FROM sluice.migration m WHERE m.id = s.migration)`,
    [ref.id],
  );
  await client.query(
    `DELETE FROM sluice.evidence e
      WHERE e.migration <> $1 AND NOT EXISTS (SELECT FROM sluice.migration m WHERE m.id = e.migration)`,
    [ref.id],
  );
}

/** All shards have ended, well or not, before a failure is told: no statement runs on behind the caller's back. */
function summarize(outcomes: readonly PromiseSettledResult<ShardOutcome>[]): SchemaResult {
  const done: ShardOutcome[] = [];
  for (const outcome of outcomes) {
    if (outcome.status === "rejected") throw outcome.reason;
    done.push(outcome.value);
  }
  return {
    statementCount: done.reduce((sum, shard) => sum + shard.statementCount, 0),
    deferred: done.flatMap((shard) => shard.deferred).slice(0, SHOWN_REASONS),
    warnings: done.flatMap((shard) => shard.warnings).slice(0, SHOWN_REASONS),
  };
}
