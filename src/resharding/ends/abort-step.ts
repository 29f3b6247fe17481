import { type SqlClient, sqlStateOf } from "../../backend/sql-client.js";
import { NotReady } from "../../core/errors.js";
import { quoteQualified } from "../../core/identifier.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { EngineContext } from "../context.js";
import { isMissingControlSchema } from "../control/control-schema.js";
import { putBackIdentities } from "../control/replica-identity.js";
import {
  configuredSides,
  MigrationUnknown,
  openSides,
  type SessionUse,
  type Sides,
} from "../control/sides.js";
import type { MigrationRef } from "../model/migration.js";
import { dropStreamOn } from "../stream/drop-stream-step.js";
import { type Board, readBoard } from "../switch/board.js";
import { GATE, placementLock, removeGate } from "../switch/install-gates-step.js";
import { putBackPlacement } from "../switch/placement-guards.js";
import { resolveOn } from "../switch/resolve-step.js";
import { closeBooks } from "./close-books.js";

const ROWS: SessionUse = { purpose: "abort" };
const EMPTY: SessionUse = { purpose: "abort copy", lockTimeoutMs: 5_000 };

/**
 * Before the decision: removes everything that we made and leaves the source open. Copied rows are removed too:
 * preflight found the destination empty, and its gate has been closed since.
 * Second run: finds what is left; also after a `beginMigration` that reached some shards only.
 * @throws NotReady when a switch has been committed: then the way back is a rollback
 */
export async function abortMigration(context: EngineContext, ref: MigrationRef): Promise<void> {
  await using sides = await openIfThere(context, ref);
  if (!sides) return await removeRows(context, ref);
  const board = await readBoard(sides, ref);
  if (board.epoch > 0) {
    throw new NotReady("a switch was committed: this migration cannot be aborted", {
      hint: "CUTOVER <reverse task> rolls back; STOP_TASK <reverse task> finalizes.",
    });
  }
  await settleOpenDecisions(context, sides, board);
  for (const stream of [0, 1]) await dropStreamOn(context, sides, { ref, stream });
  await emptyDestination(sides, ref);
  for (const side of ["source", "destination"] as const) {
    for (const shard of sides[side].shards.keys()) {
      const client = await sides.session(side, shard, GATE);
      await removeGate(client, { ref, context });
      await putBackIdentities(client, { ref, context, side });
      await closeBooks(client, ref, "aborted");
      // Behind the row that says so: what was frozen while it made guards makes none any more.
      await putBackPlacement(client, ref, placementLock(context));
    }
  }
}

async function settleOpenDecisions(
  context: EngineContext,
  sides: Sides,
  board: Board,
): Promise<void> {
  const { ref } = sides;
  for (const decision of board.decisions) {
    if (decision.state === "committed" || decision.state === "aborted") continue;
    const result = await resolveOn(context, sides, { ref, decision, as: "coordinator" });
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
  await using sides = configuredSides(context, ref);
  for (const side of ["source", "destination"] as const) {
    for (const shard of sides[side].shards.keys()) {
      const client = await sides.session(side, shard, ROWS);
      try {
        await closeBooks(client, ref, "aborted");
      } catch (error) {
        if (!isMissingControlSchema(error)) throw error;
      }
    }
  }
}

/** Only a destination that never served, and that no application could write: its gate is ours and closed. */
async function emptyDestination(sides: Sides, ref: MigrationRef): Promise<void> {
  for (const client of await sides.sessions("destination", EMPTY)) {
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
    // Referenced in a foreign key from outside.
    if (sqlStateOf(error) !== SQLSTATE.featureNotSupported) throw error;
    for (const table of tables) await client.query(`DELETE FROM ${table}`);
  }
  await client.query("RESET session_replication_role");
}
