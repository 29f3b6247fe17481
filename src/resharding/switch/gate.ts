import type { SqlClient } from "../../backend/sql-client.js";
import { type ErrorFields, SluiceError } from "../../core/errors.js";
import { quoteIdentifier, quoteLiteral } from "../../core/identifier.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import { type MigrationRef, names } from "../model/migration.js";

/**
 * The gate: may applications write the moving tables of this database? (R22)
 *
 *     application  --INSERT-->  statement trigger on the table
 *                                 WHEN pg_sequence_last_value(gate) IS DISTINCT FROM 1
 *                                 |                                   \
 *                               passes, and holds RowExclusiveLock     raises SL001
 *                               on the sequence until its end (R23)
 *
 * A sequence, because it is read outside MVCC: a row is passed by a REPEATABLE READ transaction with an
 * older snapshot. The row `sluice.gate` says for which epoch and token it may be turned (R27).
 */
export const GATE_OPEN = 1;
export const GATE_CLOSED = 2;

/** The right to turn a gate: anybody with an older token changes nothing. */
export interface GateKey {
  readonly ref: MigrationRef;
  readonly epoch: number;
  readonly token: string;
}

/** A writer, or a prepared transaction, did not end within the time. */
export class BarrierTimedOut extends SluiceError {
  readonly code = "SLUICE_BARRIER_TIMED_OUT";
  readonly sqlState = SQLSTATE.lockNotAvailable;
  readonly recovery = "retry";
  constructor(holders: string, options: ErrorFields = {}) {
    super(`transactions that write moving tables did not end in time: ${holders}`, {
      hint: "End them, or switch when none is long; the switch was undone.",
      ...options,
    });
  }
}

/** A partition that was made after the migration began; its rows are on neither the copy nor the stream. */
export class TablesAdded extends SluiceError {
  readonly code = "SLUICE_TABLES_ADDED";
  readonly sqlState = SQLSTATE.objectNotInPrerequisiteState;
  readonly recovery = "operator";
  constructor(tables: string, options: ErrorFields = {}) {
    super(`made after the migration began, so not moved: ${tables}`, {
      hint: "Drop or detach them, or STOP_TASK and begin again: partitions are made before RESHARD.",
      ...options,
    });
  }
}

/** Some table would let writers pass (R25). */
export class GateIncomplete extends SluiceError {
  readonly code = "SLUICE_GATE_INCOMPLETE";
  readonly sqlState = SQLSTATE.objectNotInPrerequisiteState;
  readonly recovery = "retry";
  constructor(tables: string, options: ErrorFields = {}) {
    super(`tables without an enabled gate trigger: ${tables}`, {
      hint: "The trigger was disabled or a partition was added; the next attempt installs it again.",
      ...options,
    });
  }
}

/** `sluice.gate_<id>`, quoted. */
export function gateSequence(ref: MigrationRef): string {
  return `sluice.${quoteIdentifier(names.gateSequence(ref))}`;
}

/**
 * Turns the gate in one statement that needs the key: the update finds no row with an old token, and then
 * `setval`, which no rollback takes back, is not reached. (A test of the token in a CTE let an old token
 * close the gate.)
 * @returns false when the key is not the current one: nothing happened
 */
export async function turnGate(
  client: SqlClient,
  key: GateKey,
  to: "open" | "closed",
): Promise<boolean> {
  const isOpen = to === "open";
  const result = await client.query(
    `UPDATE sluice.gate
        SET is_open = $4,
            opened_epochs = CASE WHEN $4 AND NOT $2 = ANY (opened_epochs)
                                 THEN opened_epochs || $2 ELSE opened_epochs END
      WHERE migration = $1 AND epoch = $2 AND token = $3
  RETURNING setval(${quoteLiteral(gateSequence(key.ref))}::regclass, $5)`,
    [key.ref.id, key.epoch, key.token, isOpen, isOpen ? GATE_OPEN : GATE_CLOSED],
  );
  return result.rowCount === 1;
}

/**
 * The end of an aborted attempt on the side that stays: open, and a fresh token, in one statement, whether it
 * had been closed or not. A coordinator that wakes up later cannot close it. Needs no token: `aborted` is for
 * ever, so this is right as long as the gate belongs to that epoch.
 */
export async function reopenGate(
  client: SqlClient,
  input: { readonly ref: MigrationRef; readonly epoch: number; readonly nextToken: string },
): Promise<void> {
  await client.query(
    `UPDATE sluice.gate SET is_open = true, token = $3 WHERE migration = $1 AND epoch = $2
  RETURNING setval(${quoteLiteral(gateSequence(input.ref))}::regclass, ${GATE_OPEN})`,
    [input.ref.id, input.epoch, input.nextToken],
  );
}

/** A gate that is closed and was never open in this epoch gets a fresh token: nobody can open it any more. */
export async function revokeGate(
  client: SqlClient,
  input: { readonly ref: MigrationRef; readonly epoch: number; readonly nextToken: string },
): Promise<void> {
  await client.query(
    `UPDATE sluice.gate SET token = $3
      WHERE migration = $1 AND epoch = $2 AND NOT is_open AND NOT $2 = ANY (opened_epochs)`,
    [input.ref.id, input.epoch, input.nextToken],
  );
}

/**
 * Gives the gate to a new attempt, never from a later one. "open": on the side that serves, in the same
 * statement, since an aborted attempt before it can open it no more (a process that died between two
 * statements left it shut).
 * @returns false when the gate belongs to a later epoch
 */
export async function assignGate(
  client: SqlClient,
  key: GateKey,
  as: "as it is" | "open" = "as it is",
): Promise<boolean> {
  const result = await client.query(
    `UPDATE sluice.gate
        SET epoch = $2, token = $3, is_open = is_open OR $4,
            opened_epochs = CASE WHEN $4 AND NOT $2 = ANY (opened_epochs)
                                 THEN opened_epochs || $2 ELSE opened_epochs END
      WHERE migration = $1 AND (epoch < $2 OR (epoch = $2 AND token = $3))
  RETURNING CASE WHEN $4 THEN setval(${quoteLiteral(gateSequence(key.ref))}::regclass, ${GATE_OPEN}) END`,
    [key.ref.id, key.epoch, key.token, as === "open"],
  );
  return result.rowCount === 1;
}

/** What `sluice.gate` and the sequence say now. */
export interface GateState {
  readonly epoch: number;
  readonly token: string;
  readonly isOpen: boolean;
  readonly lastValue: number | null;
  readonly openedEpochs: readonly number[];
}

export async function readGate(client: SqlClient, ref: MigrationRef): Promise<GateState | null> {
  const result = await client.query<GateState>(
    `SELECT epoch, token, is_open AS "isOpen", opened_epochs AS "openedEpochs",
            pg_sequence_last_value(to_regclass(${quoteLiteral(gateSequence(ref))}))::int AS "lastValue"
       FROM sluice.gate WHERE migration = $1`,
    [ref.id],
  );
  return result.rows[0] ?? null;
}

/** Between two looks at pg_locks. The barrier is inside the pause; a look costs about 0.3 ms. */
const BARRIER_POLL_MS = 2;

/**
 * Waits until nobody but us holds a lock on the gate's sequence: whoever passed the gate holds one to the
 * end of its transaction, a prepared one (no pid) too. Exact, and independent of the number of tables (R23).
 * @throws BarrierTimedOut naming who holds it
 */
export async function passBarrier(
  client: SqlClient,
  ref: MigrationRef,
  deadline: { readonly atMs: number; readonly signal: AbortSignal },
): Promise<void> {
  for (;;) {
    deadline.signal.throwIfAborted();
    const holders = await gateHolders(client, ref);
    if (holders.length === 0) return;
    if (performance.now() >= deadline.atMs) throw new BarrierTimedOut(holders.join("; "));
    await new Promise((resolve) => setTimeout(resolve, BARRIER_POLL_MS));
  }
}

async function gateHolders(client: SqlClient, ref: MigrationRef): Promise<string[]> {
  const result = await client.query<{ who: string }>(
    `SELECT CASE WHEN l.pid IS NULL THEN 'prepared transaction'
                 ELSE format('pid %s, application %s, open %s s', l.pid, a.application_name,
                             round(extract(epoch FROM clock_timestamp() - a.xact_start)::numeric, 1)) END AS who
       FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
      WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock'
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND l.relation = ${quoteLiteral(gateSequence(ref))}::regclass
        AND l.pid IS DISTINCT FROM pg_backend_pid()`,
  );
  return result.rows.map((row) => row.who);
}

/**
 * R25, under the closed gate and before the marker: every moving table, with all its partitions, inheritance
 * children and ancestors as they are *now*, has the trigger, enabled for ordinary sessions.
 * @throws GateIncomplete naming the others
 */
export async function checkGateTriggers(
  client: SqlClient,
  ref: MigrationRef,
  tables: readonly { readonly schema: string; readonly name: string }[],
): Promise<void> {
  const result = await client.query<{ name: string }>(
    `${FAMILY_OF_TABLES}
     SELECT format('%I.%I', n.nspname, c.relname) AS name
       FROM family f JOIN pg_class c ON c.oid = f.oid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE NOT EXISTS (SELECT FROM pg_trigger t
                         WHERE t.tgrelid = c.oid AND t.tgname = $3 AND t.tgenabled IN ('O', 'A'))
      ORDER BY 1`,
    [
      tables.map((table) => table.schema),
      tables.map((table) => table.name),
      names.gateTrigger(ref),
    ],
  );
  const missing = result.rows.map((row) => row.name);
  if (missing.length > 0) throw new GateIncomplete(missing.join(", "));
  const strangers = await findStrangers(client, tables);
  if (strangers.length > 0) throw new TablesAdded(strangers.join(", "));
}

/**
 * `family(oid)`: the tables named by $1 (schemas) and $2 (names), all their ancestors, and everything below
 * those, so partitions that were added beside a named one too. A statement trigger fires on the table that
 * the statement names only, so each of them needs one.
 */
export const FAMILY_OF_TABLES = `WITH RECURSIVE
  named(oid) AS (
    SELECT c.oid FROM unnest($1::text[], $2::text[]) AS t(schema_name, table_name)
      JOIN pg_namespace n ON n.nspname = t.schema_name
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.table_name AND c.relkind IN ('r', 'p')),
  up(oid) AS (
    SELECT oid FROM named UNION SELECT i.inhparent FROM pg_inherits i JOIN up ON i.inhrelid = up.oid),
  down(oid) AS (
    SELECT oid FROM up UNION SELECT i.inhrelid FROM pg_inherits i JOIN down ON i.inhparent = down.oid),
  family(oid) AS (
    SELECT d.oid FROM down d JOIN pg_class c ON c.oid = d.oid WHERE c.relkind IN ('r', 'p'))`;

/**
 * Tables with rows of their own that belong to a moving table and are not moved: partitions that were made
 * after the migration began. Neither copy nor stream has them.
 * @returns their quoted names
 */
export async function findStrangers(
  client: SqlClient,
  tables: readonly { readonly schema: string; readonly name: string }[],
): Promise<readonly string[]> {
  const result = await client.query<{ name: string }>(
    `${FAMILY_OF_TABLES}
     SELECT format('%I.%I', n.nspname, c.relname) AS name
       FROM family f JOIN pg_class c ON c.oid = f.oid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind = 'r' AND NOT EXISTS (SELECT FROM named WHERE named.oid = f.oid)
      ORDER BY 1`,
    [tables.map((table) => table.schema), tables.map((table) => table.name)],
  );
  return result.rows.map((row) => row.name);
}
