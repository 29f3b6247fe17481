import type { SqlClient } from "../../backend/sql-client.js";
import { type ErrorFields, SluiceError } from "../../core/errors.js";
import { quoteIdentifier, quoteLiteral, quoteQualified } from "../../core/identifier.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { EngineContext } from "../context.js";
import type { MigrationRef, Side, TablePlan } from "../model/migration.js";
import { isMissingControlSchema } from "./control-schema.js";
import { type LockedTable, withLockRetries } from "./lock-retries.js";

/** A table's lock could not be had for its replica identity, however often we asked. */
export class IdentityLockTimedOut extends SluiceError {
  readonly code = "SLUICE_IDENTITY_LOCK_TIMED_OUT";
  readonly sqlState = SQLSTATE.lockNotAvailable;
  readonly recovery = "retry";
  constructor(table: string, options: ErrorFields = {}) {
    super(`waiting for the lock on ${table} to alter its replica identity`, {
      hint: "A long transaction, VACUUM or ALTER TABLE holds the table; the step tries again.",
      ...options,
    });
  }
}

/** The publication must not name the table as it is: the stream would name other rows, or writes would fail. */
export class IdentityDiffers extends SluiceError {
  readonly code = "SLUICE_IDENTITY_DIFFERS";
  readonly sqlState = SQLSTATE.objectNotInPrerequisiteState;
  readonly recovery = "operator";
  constructor(statements: string, options: ErrorFields = {}) {
    super(`a replica identity is not the planned one: ${statements}`, {
      hint: "Set it so, or STOP_TASK and begin again.",
      ...options,
    });
  }
}

/** `pg_class.relreplident` of what a plan says. */
const LETTERS = { default: "d", index: "i", full: "f" } as const;
type Letter = "d" | "i" | "f" | "n";

interface FoundIdentity {
  readonly schema_name: string;
  readonly table_name: string;
  readonly letter: Letter;
  /** null where the letter is not "i", or that index was dropped. */
  readonly index: string | null;
  /** What the stream carries of an old row; empty: nothing, or all (letter "f"). */
  readonly columns: readonly string[];
  /** Unique indexes that may be an identity, with their columns. */
  readonly fitting: readonly { readonly name: string; readonly columns: readonly string[] }[];
}

const KEY_COLUMNS = `(SELECT json_agg(a.attname ORDER BY a.attname)
    FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
   WHERE k.position <= i.indnkeyatts)`;
const FOUND = `SELECT t.schema_name, t.table_name, c.relreplident AS letter,
    (SELECT ic.relname FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
      WHERE i.indrelid = c.oid AND i.indisreplident AND c.relreplident = 'i') AS index,
    coalesce((SELECT ${KEY_COLUMNS} FROM pg_index i WHERE i.indrelid = c.oid AND i.indimmediate
       AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END), '[]') AS columns,
    coalesce((SELECT json_agg(json_build_object('name', ic.relname, 'columns', ${KEY_COLUMNS}) ORDER BY ic.relname)
       FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
      WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
        AND i.indpred IS NULL AND NOT i.indisexclusion
        AND NOT EXISTS (SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position)
              LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum AND k.attnum > 0
             WHERE k.position <= i.indnkeyatts AND a.attnotnull IS NOT TRUE)), '[]') AS fitting
  FROM unnest($1::text[], $2::text[]) AS t(schema_name, table_name)
  JOIN pg_namespace n ON n.nspname = t.schema_name
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.table_name`;

async function findIdentities(
  client: SqlClient,
  tables: readonly Pick<TablePlan, "schema" | "name">[],
): Promise<readonly FoundIdentity[]> {
  const result = await client.query<FoundIdentity>(FOUND, [
    tables.map((table) => table.schema),
    tables.map((table) => table.name),
  ]);
  return result.rows;
}

function isAsPlanned(found: FoundIdentity, plan: TablePlan): boolean {
  if (found.letter !== LETTERS[plan.identity]) return false;
  return plan.identity === "full" || holdsIdentity(found, plan);
}

function holdsIdentity({ columns }: { readonly columns: readonly string[] }, plan: TablePlan) {
  const planned = plan.columns.filter(({ inIdentity }) => inIdentity);
  return planned.length === columns.length && planned.every(({ name }) => columns.includes(name));
}

/** What was there and what is to be, of one table. */
export interface IdentityRecord {
  readonly schema_name: string;
  readonly table_name: string;
  readonly was: Letter;
  readonly was_index: string | null;
  readonly ours: Letter;
  readonly ours_index: string | null;
}

interface RecordInput {
  readonly ref: MigrationRef;
  readonly tables: readonly TablePlan[];
  readonly policy: EngineContext["policy"];
  /** On the destination: what source shard 0 has noted. Its tables come from there, with what was set there. */
  readonly inherited: readonly IdentityRecord[];
}

/**
 * Notes the tables of this shard whose identity is not the planned one, in the transaction that makes the
 * migration's row: what has no note is never altered, and what was put back is not set again by a run that was
 * frozen meanwhile, since the row is made once.
 * @throws IdentityDiffers where the policy refuses, or no index of this shard is the planned one
 */
export async function noteIdentities(client: SqlClient, input: RecordInput): Promise<void> {
  const { ref, tables, inherited } = input;
  const found = await findIdentities(client, tables);
  const records = tables.flatMap((plan) => {
    const here = found.find((one) => isOf(one, plan));
    const source = inherited.find((one) => isOf(one, plan));
    // Not there yet: it comes with the schema, as the source had it but for what we set.
    if (!here) return source ? [source] : [];
    if (!source && isAsPlanned(here, plan)) return [];
    const { letter: was, index: was_index, schema_name, table_name } = here;
    const ours = source ?? oursOf(here, plan);
    return [
      { schema_name, table_name, was, was_index, ours: ours.ours, ours_index: ours.ours_index },
    ];
  });
  if (records.length > 0 && input.policy.replicaIdentity === "refuse")
    throw new IdentityDiffers(records.map((record) => statementOf(record)).join(" "));
  await client.query(
    `INSERT INTO sluice.replica_identity (migration, schema_name, table_name, was, was_index, ours, ours_index)
     SELECT $1, r.schema_name, r.table_name, r.was, r.was_index, r.ours, r.ours_index
       FROM json_populate_recordset(NULL::sluice.replica_identity, $2) AS r`,
    [ref.id, JSON.stringify(records)],
  );
}

function oursOf(here: FoundIdentity, plan: TablePlan): Pick<IdentityRecord, "ours" | "ours_index"> {
  const ours = LETTERS[plan.identity];
  if (ours !== "i") return { ours, ours_index: null };
  const index = here.fitting.find((one) => holdsIdentity(one, plan));
  if (!index) throw new IdentityDiffers(plannedInWords(plan));
  return { ours, ours_index: index.name };
}

function isOf(
  row: { readonly schema_name: string; readonly table_name: string },
  plan: Pick<TablePlan, "schema" | "name">,
): boolean {
  return row.schema_name === plan.schema && row.table_name === plan.name;
}

/** What is noted on a shard, in order of name. Empty where a migration began before there were notes. */
export async function readIdentityNotes(
  client: SqlClient,
  ref: MigrationRef,
): Promise<readonly IdentityRecord[]> {
  try {
    const result = await client.query<IdentityRecord>(
      `SELECT schema_name, table_name, was, was_index, ours, ours_index
         FROM sluice.replica_identity WHERE migration = $1 ORDER BY 1, 2`,
      [ref.id],
    );
    return result.rows;
  } catch (error) {
    if (isMissingControlSchema(error)) return [];
    throw error;
  }
}

interface IdentifyInput {
  readonly ref: MigrationRef;
  readonly context: EngineContext;
  readonly tables: readonly TablePlan[];
  readonly side: Side;
}

/**
 * Sets what is noted on this shard, one table at a time, each in one statement: a run that freezes holds no lock
 * of a table. Never in the pause (R26).
 * Second run, or one beside the first: finds it set. After the end: finds no note, and sets nothing.
 * @throws IdentityLockTimedOut; IdentityDiffers when somebody else altered one meanwhile
 */
export async function identifyTables(client: SqlClient, input: IdentifyInput): Promise<void> {
  const { ref, context, tables, side } = input;
  for (const record of await readIdentityNotes(client, ref)) {
    const table = quoteQualified(record.schema_name, record.table_name);
    await withLockRetries(context, identityLock(table), async () => {
      await client.query(setStatement(ref, record, side));
    });
    context.heartbeat({ identity: table });
    await context.announce("identity.afterTable");
  }
  await refuseUnlessIdentified(client, tables);
}

/**
 * The door of our publications: before one names the tables, each has its planned identity.
 * @throws IdentityDiffers with the statements that are missing
 */
export async function refuseUnlessIdentified(
  client: SqlClient,
  tables: readonly TablePlan[],
): Promise<void> {
  const found = await findIdentities(client, tables);
  const others = tables.filter((plan) => {
    const here = found.find((one) => isOf(one, plan));
    // One that is gone is told by who misses it.
    return here !== undefined && !isAsPlanned(here, plan);
  });
  if (others.length > 0) throw new IdentityDiffers(others.map(plannedInWords).join(" "));
}

/**
 * Puts back what was there, one table at a time, each in one statement together with its note. A table that
 * somebody else altered since, or dropped, is left as it is. After our publications are gone: before that the
 * application's updates would fail.
 * Second run: finds the notes that are left.
 * @throws IdentityLockTimedOut
 */
export async function putBackIdentities(
  client: SqlClient,
  input: { readonly ref: MigrationRef; readonly context: EngineContext; readonly side: Side },
): Promise<void> {
  const { ref, context, side } = input;
  for (const record of await readIdentityNotes(client, ref)) {
    const table = quoteQualified(record.schema_name, record.table_name);
    await withLockRetries(context, identityLock(table), async () => {
      await client.query(putBackStatement(ref, record, side));
    });
    context.heartbeat({ identity: table });
    await context.announce("identity.afterPutBack");
  }
}

function identityLock(table: string): LockedTable {
  const timedOut = (cause: unknown) => new IdentityLockTimedOut(table, { cause });
  return { table, what: "replica identity", timedOut };
}

const DECLARE = `DECLARE
    note sluice.replica_identity;
    relation regclass;
    is_now "char";
    is_now_index text;`;

/** The note first: who takes it away waits until this is over, or has been here and nothing is done. */
function noteOf(ref: MigrationRef, { schema_name, table_name }: IdentityRecord): string {
  return `SELECT i.* INTO note FROM sluice.replica_identity i
     WHERE i.migration = ${quoteLiteral(ref.id)} AND i.schema_name = ${quoteLiteral(schema_name)}
       AND i.table_name = ${quoteLiteral(table_name)} FOR UPDATE;
    IF NOT FOUND THEN RETURN; END IF;`;
}

const LOCK_AND_LOOK = `EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', relation);
    SELECT c.relreplident, (SELECT ic.relname FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
                             WHERE i.indrelid = c.oid AND i.indisreplident AND c.relreplident = 'i')
      INTO is_now, is_now_index FROM pg_class c WHERE c.oid = relation;`;

/**
 * At the source only what is as it was noted is altered: anything else is somebody's decision of this minute. The
 * destination is ours.
 */
function setStatement(ref: MigrationRef, record: IdentityRecord, side: Side): string {
  return block(`${noteOf(ref, record)}
    relation := to_regclass(format('%I.%I', note.schema_name, note.table_name));
    IF relation IS NULL THEN RETURN; END IF;
    ${LOCK_AND_LOOK}
    IF (is_now, is_now_index) IS DISTINCT FROM (note.ours, note.ours_index) THEN
      IF ${side === "source"} AND (is_now, is_now_index) IS DISTINCT FROM (note.was, note.was_index) THEN
        RETURN;
      END IF;
      EXECUTE format('ALTER TABLE ONLY %s REPLICA IDENTITY ${wordsOf(record.ours, record.ours_index)}', relation);
    END IF;
    UPDATE sluice.replica_identity i SET table_oid = relation
     WHERE i.migration = note.migration AND i.schema_name = note.schema_name AND i.table_name = note.table_name;`);
}

/**
 * Ours is told by the letter and the index; an index of ours that was dropped leaves the letter. An identity index
 * that is gone meanwhile cannot be put back: PostgreSQL treats its table as under NOTHING.
 */
function putBackStatement(ref: MigrationRef, record: IdentityRecord, side: Side): string {
  return block(`${noteOf(ref, record)}
    relation := CASE WHEN note.table_oid IS NOT NULL
                     THEN (SELECT c.oid FROM pg_class c WHERE c.oid = note.table_oid)
                     WHEN ${side === "destination"}
                     THEN to_regclass(format('%I.%I', note.schema_name, note.table_name)) END;
    IF relation IS NOT NULL THEN
      ${LOCK_AND_LOOK}
      IF is_now = note.ours AND (is_now_index IS NULL OR is_now_index = note.ours_index) THEN
        IF note.was = 'i' AND NOT EXISTS (
          SELECT FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
           WHERE i.indrelid = relation AND ic.relname = note.was_index)
        THEN
          EXECUTE format('ALTER TABLE ONLY %s REPLICA IDENTITY NOTHING', relation);
        ELSE
          EXECUTE format('ALTER TABLE ONLY %s REPLICA IDENTITY ${wordsOf(record.was, record.was_index)}', relation);
        END IF;
      END IF;
    END IF;
    DELETE FROM sluice.replica_identity i
     WHERE i.migration = note.migration AND i.schema_name = note.schema_name AND i.table_name = note.table_name;`);
}

/** One statement, so one transaction that needs no second word from us. */
function block(body: string): string {
  return `DO ${quoteLiteral(`${DECLARE}\n  BEGIN\n    ${body}\n  END`)}`;
}

/** As a part of a constant that `format` reads. */
function wordsOf(letter: Letter, index: string | null): string {
  return identityWords(letter, index).replaceAll("'", "''").replaceAll("%", "%%");
}

function identityWords(letter: Letter, index: string | null): string {
  switch (letter) {
    case "d":
      return "DEFAULT";
    case "f":
      return "FULL";
    case "n":
      return "NOTHING";
    case "i":
      return index === null ? "NOTHING" : `USING INDEX ${quoteIdentifier(index)}`;
  }
}

function statementOf({ schema_name, table_name, ours, ours_index }: IdentityRecord): string {
  return `ALTER TABLE ${quoteQualified(schema_name, table_name)} REPLICA IDENTITY ${identityWords(ours, ours_index)};`;
}

function plannedInWords(plan: TablePlan): string {
  const columns = plan.columns.filter(({ inIdentity }) => inIdentity).map(({ name }) => name);
  const words =
    plan.identity === "full"
      ? "FULL"
      : plan.identity === "default"
        ? `DEFAULT, a primary key (${columns.join(", ")})`
        : `USING a unique INDEX on (${columns.join(", ")})`;
  return `ALTER TABLE ${quoteQualified(plan.schema, plan.name)} REPLICA IDENTITY ${words};`;
}
