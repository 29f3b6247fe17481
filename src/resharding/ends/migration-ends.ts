import { type SqlClient, sqlStateOf } from "../../backend/sql-client.js";
import { type ErrorFields, NotReady, SluiceError } from "../../core/errors.js";
import { quoteQualified } from "../../core/identifier.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { Cluster, EngineContext } from "../context.js";
import { ensureControlSchema } from "../control/control-schema.js";
import { forgetEvidence } from "../control/evidence.js";
import {
  connectEngine,
  isMissingControlSchema,
  MigrationUnknown,
  openSides,
  type Sides,
  shardAddress,
} from "../control/sides.js";
import type { FinalizeResult } from "../model/activities.js";
import { type MigrationRef, type MigrationSpec, otherSide, type Side } from "../model/migration.js";
import { dropStream } from "../stream/stream-steps.js";
import { type Board, readBoard } from "../switch/board.js";
import { noteFingerprints } from "../switch/fingerprint.js";
import { removeGate } from "../switch/install-gates-step.js";
import { resolve } from "../switch/resolve-step.js";

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
 * Second run: the rows are there and are ours. Dies between two shards: `abortMigration` finds what is there.
 * @throws MigrationExists when another live migration has one of the tables
 */
export async function beginMigration(
  context: EngineContext,
  input: { readonly ref: MigrationRef; readonly spec: MigrationSpec },
): Promise<void> {
  const clusters = {
    source: context.cluster(input.ref.source),
    destination: context.cluster(input.ref.destination),
  };
  for (const side of ["source", "destination"] as const) {
    for (let shard = 0; shard < clusters[side].shards.length; shard++) {
      await beginOnShard(context, { ...input, side, shard, cluster: clusters[side] });
    }
  }
}

interface BeginInput {
  readonly ref: MigrationRef;
  readonly spec: MigrationSpec;
  readonly side: Side;
  readonly shard: number;
  readonly cluster: Cluster;
}

async function beginOnShard(context: EngineContext, input: BeginInput): Promise<void> {
  const { ref, spec } = input;
  const address = shardAddress(input.cluster, input.shard);
  await using client = await connectEngine(context, address, "begin");
  await ensureControlSchema(client);
  await client.query("BEGIN");
  await client.query(
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
    if (sqlStateOf(cause) !== "23505") throw cause;
    await client.query("ROLLBACK");
    throw new MigrationExists(`${input.side} shard ${input.shard}`, { cause });
  }
  if (input.side === "source") {
    // Before the schema is read: what changes from here on is not on the other side.
    await noteFingerprints(client, { ref, stream: 0, tables: spec.tables });
  }
  await client.query("COMMIT");
}

/**
 * Before the decision: removes everything that we made and leaves the source open. Copied rows are removed too:
 * preflight found the destination empty, and its gate has been closed since.
 * Second run: finds what is left; also after a `beginMigration` that reached some shards only.
 * @throws NotReady when a switch has been committed: then the way back is a rollback
 */
export async function abortMigration(context: EngineContext, ref: MigrationRef): Promise<void> {
  const sides = await openIfThere(context, ref);
  if (!sides) return await removeRows(context, ref);
  const board = await readBoard(context, sides, ref);
  if (board.epoch > 0) {
    throw new NotReady("a switch was committed: this migration cannot be aborted", {
      hint: "CUTOVER <reverse task> rolls back; STOP_TASK <reverse task> finalizes.",
    });
  }
  await settleOpenDecisions(context, board, ref);
  for (const stream of [0, 1]) await dropStream(context, { ref, stream });
  await emptyDestination(context, sides, ref);
  for (const side of ["source", "destination"] as const) {
    for (const address of sides[side].shards) {
      await using client = await connectEngine(context, address, "abort", { lockTimeoutMs: 500 });
      await removeGate(client, { ref, context });
      await closeBooks(client, ref, "aborted");
    }
  }
}

async function settleOpenDecisions(
  context: EngineContext,
  board: Board,
  ref: MigrationRef,
): Promise<void> {
  for (const decision of board.decisions) {
    if (decision.state === "committed" || decision.state === "aborted") continue;
    const result = await resolve(context, { ref, decision, as: "coordinator" });
    if (result.outcome === "committed") throw new NotReady("a switch was just committed");
  }
}

async function openIfThere(context: EngineContext, ref: MigrationRef): Promise<Sides | null> {
  try {
    return await openSides(context, ref);
  } catch (error) {
    if (error instanceof MigrationUnknown) return null;
    throw error;
  }
}

/** `beginMigration` stopped before shard 0 of either side, or never ran: at most rows are there. */
async function removeRows(context: EngineContext, ref: MigrationRef): Promise<void> {
  for (const name of [ref.source, ref.destination]) {
    for (const address of context.cluster(name).shards) {
      await using client = await connectEngine(context, address, "abort");
      try {
        await closeBooks(client, ref, "aborted");
      } catch (error) {
        if (!isMissingControlSchema(error)) throw error;
      }
    }
  }
}

/** Only a destination that never served, and that no application could write: its gate is ours and closed. */
async function emptyDestination(
  context: EngineContext,
  sides: Sides,
  ref: MigrationRef,
): Promise<void> {
  for (const address of sides.destination.shards) {
    await using client = await connectEngine(context, address, "abort", { lockTimeoutMs: 5_000 });
    const guard = await client.query(
      `SELECT FROM sluice.migration m JOIN sluice.gate g ON g.migration = m.id
        WHERE m.id = $1 AND m.side = 'destination' AND NOT g.is_open AND g.opened_epochs = '{}'`,
      [ref.id],
    );
    if (guard.rowCount !== 1) continue;
    const present = await client.query<{ schema_name: string; table_name: string }>(
      `SELECT schema_name, table_name FROM sluice.moving_table
        WHERE migration = $1 AND to_regclass(format('%I.%I', schema_name, table_name)) IS NOT NULL`,
      [ref.id],
    );
    const tables = present.rows.map((row) => quoteQualified(row.schema_name, row.table_name));
    if (tables.length === 0) continue;
    await emptyTables(client, tables);
  }
}

/**
 * Never CASCADE: a table of somebody else that refers to one of ours keeps its rows, and then ours are deleted
 * one by one. In replica role, as the gate refuses everybody else.
 */
async function emptyTables(client: SqlClient, tables: readonly string[]): Promise<void> {
  await client.query("SET session_replication_role = replica");
  try {
    await client.query(`TRUNCATE ${tables.join(", ")}`);
  } catch (error) {
    // feature_not_supported: referenced in a foreign key from outside.
    if (sqlStateOf(error) !== "0A000") throw error;
    for (const table of tables) await client.query(`DELETE FROM ${table}`);
  }
  await client.query("RESET session_replication_role");
}

/** Frees the tables for the next migration; the row and its decisions stay for nodes that boot (R32). */
async function closeBooks(
  client: { query(text: string, values: unknown[]): Promise<unknown> },
  ref: MigrationRef,
  state: "aborted" | "finalized",
): Promise<void> {
  await client.query("DELETE FROM sluice.moving_table WHERE migration = $1", [ref.id]);
  await client.query("DELETE FROM sluice.copy_chunk WHERE migration = $1", [ref.id]);
  await forgetEvidence(client, { ref });
  await client.query("UPDATE sluice.migration SET state = $2 WHERE id = $1", [ref.id, state]);
}

/**
 * The end: streams, publications and slots go, and on the side that serves gate and triggers. The other side
 * stays fenced, with its data and the row that says where everything went, until UNFENCE (R36).
 * Second run: finds what is left.
 * @throws NotReady before any switch, or while a decision is not final
 */
export async function finalizeMigration(
  context: EngineContext,
  ref: MigrationRef,
): Promise<FinalizeResult> {
  const sides = await openSides(context, ref);
  const board = await readBoard(context, sides, ref);
  if (board.unreachable.length > 0) {
    throw new NotReady(`finalize needs every shard; silent: ${board.unreachable.join(", ")}`);
  }
  if (board.epoch === 0)
    throw new NotReady("nothing was switched: STOP_TASK aborts this migration");
  // Those of a rollback that was given up. The committed ones were driven home before this task began, and a
  // second run of this finds no gates to drive any more.
  for (const decision of board.decisions) {
    if (decision.state === "committed" || decision.state === "aborted") continue;
    await resolve(context, { ref, decision, as: "coordinator" });
  }
  const after = await readBoard(context, sides, ref);
  const committed = after.decisions.filter((decision) => decision.state === "committed").length;
  for (let stream = 0; stream <= committed + 1; stream++)
    await dropStream(context, { ref, stream });
  const unsavedNodes = await listUnsavedNodes(context, { sides, ref, board: after });
  await openServingSide(context, { sides, ref, board: after });
  for (const address of sides[otherSide(after.serving)].shards) {
    await using client = await connectEngine(context, address, "finalize");
    await closeBooks(client, ref, "finalized");
  }
  return { unsavedNodes };
}

interface FinalizeWork {
  readonly sides: Sides;
  readonly ref: MigrationRef;
  readonly board: Board;
}

async function openServingSide(context: EngineContext, work: FinalizeWork): Promise<void> {
  for (const address of work.sides[work.board.serving].shards) {
    await using client = await connectEngine(context, address, "finalize", { lockTimeoutMs: 500 });
    await removeGate(client, { ref: work.ref, context });
    await closeBooks(client, work.ref, "finalized");
  }
}

/** Nodes whose files still name the side that was left (R36). */
async function listUnsavedNodes(context: EngineContext, work: FinalizeWork): Promise<string[]> {
  const address = shardAddress(work.sides[work.board.serving], 0);
  await using client = await connectEngine(context, address, "finalize");
  const result = await client.query<{ node_id: string }>(
    "SELECT node_id FROM sluice.node WHERE migration = $1 AND saved_epoch < $2 ORDER BY node_id",
    [work.ref.id, work.board.epoch],
  );
  return result.rows.map((row) => row.node_id);
}

/**
 * Takes the fence from a side that a finalized migration left: applications may write it again, apart from the
 * side that serves. Only on a person's word (R36).
 * @throws NotReady when this database serves, or its migration is not finalized
 */
export async function unfence(context: EngineContext, database: string): Promise<number> {
  const cluster = context.cluster(database);
  let fences = 0;
  for (const address of cluster.shards) {
    await using client = await connectEngine(context, address, "unfence", { lockTimeoutMs: 500 });
    const fenced = await client.query<MigrationRef & { state: string }>(
      `SELECT m.id, m.source, m.destination, m.publication, m.state
         FROM sluice.gate g JOIN sluice.migration m ON m.id = g.migration WHERE NOT g.is_open`,
    );
    for (const { state, ...ref } of fenced.rows) {
      if (state !== "finalized") {
        throw new NotReady(`migration ${ref.id} of "${database}" is ${state}, not finalized`, {
          hint: "STOP_TASK <reverse task> finalizes; before that the fence is what keeps both sides apart.",
        });
      }
      await removeGate(client, { ref, context });
      fences++;
    }
  }
  return fences;
}
