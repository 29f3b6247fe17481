import { randomBytes } from "node:crypto";
import type { SqlClient } from "../../backend/sql-client.js";
import { type ErrorFields, SluiceError } from "../../core/errors.js";
import { quoteIdentifier, quoteLiteral, quoteQualified } from "../../core/identifier.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { EngineContext } from "../context.js";
import {
  type LockedTable,
  TABLE_LOCK_TIMEOUT_MS,
  withLockRetries,
} from "../control/lock-retries.js";
import { identifyTables } from "../control/replica-identity.js";
import { openSides, type SessionUse, type Sides } from "../control/sides.js";
import { type MigrationRef, type MigrationSpec, names, type Side } from "../model/migration.js";
import { FAMILY_OF_TABLES, GATE_CLOSED, GATE_OPEN, gateSequence } from "./gate.js";
import { guardPlacement } from "./placement-guards.js";
import { guardRows } from "./row-guards.js";

/** A table's lock could not be had for its trigger, however often we asked. */
export class GateLockTimedOut extends SluiceError {
  readonly code = "SLUICE_GATE_LOCK_TIMED_OUT";
  readonly sqlState = SQLSTATE.lockNotAvailable;
  readonly recovery = "retry";
  constructor(table: string, options: ErrorFields = {}) {
    super(`waiting for the lock on ${table} to install its gate trigger`, {
      hint: "A long transaction, VACUUM FULL or ALTER TABLE holds the table; the step tries again.",
      ...options,
    });
  }
}

export const GATE: SessionUse = { purpose: "gate", lockTimeoutMs: TABLE_LOCK_TIMEOUT_MS };

/**
 * Sequence, row, function and triggers on every shard of both sides; open where applications write now,
 * closed on the other side. One table at a time, never in the pause (R26).
 * Second run, or one beside the first: everything is created if absent, the value of an existing gate is
 * left as it is.
 */
export async function installGates(context: EngineContext, ref: MigrationRef): Promise<void> {
  await using sides = await openSides(context, ref);
  await identifyDestination(context, sides);
  await installGatesOn(context, sides);
}

/**
 * The way back reads these tables. The schema brought the source's identities with it; a table that was there
 * before gets them here, while nobody else uses it.
 */
async function identifyDestination(context: EngineContext, sides: Sides): Promise<void> {
  const { ref, spec } = sides;
  for (const client of await sides.sessions("destination", GATE))
    await identifyTables(client, { ref, context, tables: spec.tables, side: "destination" });
}

/** `installGates` within an activity that has the sides open. */
export async function installGatesOn(context: EngineContext, sides: Sides): Promise<void> {
  const { ref, spec } = sides;
  for (const side of ["source", "destination"] as const) {
    const clients = await sides.sessions(side, GATE);
    await Promise.all(
      clients.map((client, shard) => installGate(client, { ref, spec, side, shard, context })),
    );
  }
}

interface InstallInput {
  readonly ref: MigrationRef;
  readonly spec: MigrationSpec;
  readonly side: Side;
  readonly shard: number;
  readonly context: EngineContext;
}

async function installGate(client: SqlClient, input: InstallInput): Promise<void> {
  const { ref, side } = input;
  await client.query(
    `INSERT INTO sluice.resource (migration, kind, name) VALUES ($1, 'gate', $2), ($1, 'trigger', $3)
     ON CONFLICT DO NOTHING`,
    [ref.id, names.gateSequence(ref), names.gateTrigger(ref)],
  );
  const sequence = gateSequence(ref);
  await client.query(`CREATE SEQUENCE IF NOT EXISTS ${sequence} MINVALUE 1 MAXVALUE 2`);
  // The value before the first trigger, the grant too: without it every write of an application would fail.
  await client.query(`GRANT SELECT ON SEQUENCE ${sequence} TO PUBLIC`);
  await client.query(
    `INSERT INTO sluice.gate (migration, epoch, token, is_open) VALUES ($1, 0, $2, $3)
     ON CONFLICT DO NOTHING`,
    [ref.id, randomBytes(16).toString("hex"), side === "source"],
  );
  // By the row, not by the side: this runs again before every switch.
  await client.query(
    `SELECT setval(${quoteLiteral(sequence)}::regclass, CASE WHEN is_open THEN ${GATE_OPEN} ELSE ${GATE_CLOSED} END)
       FROM sluice.gate
      WHERE migration = $1 AND pg_sequence_last_value(${quoteLiteral(sequence)}::regclass) IS NULL`,
    [ref.id],
  );
  await client.query(REFUSE_FUNCTION);
  await probeLoginRoles(client, ref);
  await installTriggers(client, input);
  // The source is not altered; its own omnisharded tables are as they were.
  if (side === "source") return;
  const { spec, context } = input;
  const omnisharded = spec.tables.filter(({ kind }) => kind === "omnisharded");
  await guardRows(client, omnisharded, (table, act) =>
    withLockRetries(context, { ...gateLock(table), what: "row guard" }, act),
  );
  if (!context.policy.placementGuard) return;
  const placed = { ref, tables: spec.tables, shard: input.shard, ...spec.destination };
  await guardPlacement(client, placed, placementLock(context));
}

/** For what takes a table's lock for its placement guard. */
export function placementLock(
  context: EngineContext,
): (table: string, act: () => Promise<void>) => Promise<void> {
  return (table, act) =>
    withLockRetries(context, { ...gateLock(table), what: "placement guard" }, act);
}

/** SECURITY DEFINER: the writer that is refused may not read our schema, but shall be told where to go. */
const REFUSE_FUNCTION = `CREATE OR REPLACE FUNCTION sluice.refuse() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $body$
DECLARE
  gate sluice.gate;
BEGIN
  SELECT * INTO gate FROM sluice.gate WHERE migration = TG_ARGV[0];
  RAISE EXCEPTION 'table "%.%" does not take writes here (epoch %)', TG_TABLE_SCHEMA, TG_TABLE_NAME, gate.epoch
    USING ERRCODE = '${SQLSTATE.gateClosed}',
          HINT = CASE WHEN gate.moved_to = '' THEN 'Its data is being moved; connect through Sluice, or try again.'
                      ELSE 'It has moved to ' || gate.moved_to || '.' END;
END $body$`;

/**
 * R22: on 15 to 17 a role without SELECT on the sequence could not write at all. Proved per login role
 * before the first trigger, as PUBLIC's grant can be cut off by a role's own setting only in theory.
 */
async function probeLoginRoles(client: SqlClient, ref: MigrationRef): Promise<void> {
  const result = await client.query<{ rolname: string }>(
    `SELECT rolname FROM pg_roles
      WHERE rolcanlogin AND NOT has_sequence_privilege(oid, ${quoteLiteral(gateSequence(ref))}, 'SELECT')`,
  );
  const blocked = result.rows.map((row) => row.rolname);
  if (blocked.length > 0) {
    throw new GateUnreadable(blocked.join(", "));
  }
}

/** Installing the gate would have stopped an application. */
export class GateUnreadable extends SluiceError {
  readonly code = "SLUICE_GATE_UNREADABLE";
  readonly sqlState = SQLSTATE.insufficientPrivilege;
  readonly recovery = "operator";
  constructor(roles: string, options: ErrorFields = {}) {
    super(`roles cannot read the gate's sequence, so their writes would fail: ${roles}`, options);
  }
}

function gateLock(table: string): LockedTable {
  const timedOut = (cause: unknown) => new GateLockTimedOut(table, { cause });
  return { table, what: "gate trigger", timedOut };
}

async function installTriggers(client: SqlClient, input: InstallInput): Promise<void> {
  const { ref, spec, context } = input;
  const trigger = names.gateTrigger(ref);
  const missing = await client.query<{ nspname: string; relname: string }>(
    `${FAMILY_OF_TABLES}
     SELECT n.nspname, c.relname
       FROM family f JOIN pg_class c ON c.oid = f.oid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE NOT EXISTS (SELECT FROM pg_trigger t
                         WHERE t.tgrelid = c.oid AND t.tgname = $3 AND t.tgenabled IN ('O', 'A'))
      ORDER BY 1, 2`,
    [spec.tables.map((table) => table.schema), spec.tables.map((table) => table.name), trigger],
  );
  for (const { nspname, relname } of missing.rows) {
    const table = quoteQualified(nspname, relname);
    await withLockRetries(context, gateLock(table), async () => {
      // Replaced, as one that was disabled by hand must be enabled again.
      await client.query(
        `CREATE OR REPLACE TRIGGER ${quoteIdentifier(trigger)}
           BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ${table} FOR EACH STATEMENT
           WHEN (pg_sequence_last_value(${quoteLiteral(gateSequence(ref))}::regclass) IS DISTINCT FROM ${GATE_OPEN}::bigint)
           EXECUTE FUNCTION sluice.refuse(${quoteLiteral(ref.id)})`,
      );
      await client.query(`ALTER TABLE ${table} ENABLE TRIGGER ${quoteIdentifier(trigger)}`);
    });
    context.heartbeat({ gate: table });
  }
}

/**
 * Drops the triggers and the sequence of a gate on one shard, one table at a time.
 * Second run: finds what is left.
 */
export async function removeGate(
  client: SqlClient,
  input: { readonly ref: MigrationRef; readonly context: EngineContext },
): Promise<void> {
  const { ref, context } = input;
  const trigger = names.gateTrigger(ref);
  const found = await client.query<{ nspname: string; relname: string }>(
    `SELECT n.nspname, c.relname
       FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE t.tgname = $1 AND t.tgparentid = 0 ORDER BY 1, 2`,
    [trigger],
  );
  for (const { nspname, relname } of found.rows) {
    const table = quoteQualified(nspname, relname);
    await withLockRetries(context, gateLock(table), async () => {
      await client.query(`DROP TRIGGER IF EXISTS ${quoteIdentifier(trigger)} ON ${table}`);
    });
  }
  await client.query(`DROP SEQUENCE IF EXISTS ${gateSequence(ref)}`);
  await client.query("DELETE FROM sluice.gate WHERE migration = $1", [ref.id]);
  await client.query(
    "DELETE FROM sluice.resource WHERE migration = $1 AND kind IN ('gate', 'trigger')",
    [ref.id],
  );
}
