import { setTimeout as pause } from "node:timers/promises";
import { type SqlClient, sqlStateOf } from "../../backend/sql-client.js";
import { quoteIdentifier } from "../../core/identifier.js";
import { SqlError } from "../../core/sql-error.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import { tell } from "../../core/tell.js";
import type { EngineContext } from "../context.js";
import { writeEvidence } from "../control/evidence.js";
import type { MigrationRef } from "../model/migration.js";
import { describeObject } from "./existing-object.js";
import { SchemaStatementFailed } from "./schema-failures.js";
import type { SchemaObject, SchemaPhase, SchemaStatement } from "./statement.js";

export interface ShardRun {
  readonly context: EngineContext;
  readonly ref: MigrationRef;
  readonly phase: SchemaPhase;
  readonly shard: number;
  /** "shard 1 (host:port/database)". */
  readonly scope: string;
  readonly client: SqlClient;
  /** Source shard 0: what an existing object is compared with. Shared by all shards. */
  readonly source: SqlClient;
}

export interface ShardOutcome {
  readonly statementCount: number;
  readonly deferred: readonly string[];
  readonly warnings: readonly string[];
}

/** A lock is waited for this long, by us and by everyone who queues behind us; then again. */
export const LOCK_TIMEOUT_MS = 2_000;
const LOCK_ATTEMPTS = 30;
const LOCK_PAUSE_MS = 500;

/** Duplicate schema, table, object, function, column: something of this name is there already. */
const DUPLICATE = new Set<string>([
  SQLSTATE.duplicateSchema,
  SQLSTATE.duplicateTable,
  SQLSTATE.duplicateObject,
  SQLSTATE.duplicateFunction,
  SQLSTATE.duplicateColumn,
]);
/** What has no "duplicate" state: a second primary key, an identity that is set, a partition that is attached. */
const DUPLICATE_OF: Readonly<Partial<Record<SchemaObject["kind"], string>>> = {
  constraint: SQLSTATE.invalidTableDefinition,
  identity: SQLSTATE.objectNotInPrerequisiteState,
  attachment: SQLSTATE.wrongObjectType,
};

/**
 * Rows do not fit yet (unique, exclusion, foreign key), or what the statement builds on had to wait for
 * that: no such relation, object or key.
 */
const NOT_YET = new Set<string>([
  SQLSTATE.uniqueViolation,
  SQLSTATE.exclusionViolation,
  SQLSTATE.foreignKeyViolation,
  SQLSTATE.undefinedTable,
  SQLSTATE.undefinedObject,
  SQLSTATE.invalidForeignKey,
]);

/** No such role, or we may not give to it. */
const ACCESS_REFUSED = new Set<string>([SQLSTATE.undefinedObject, SQLSTATE.insufficientPrivilege]);

/**
 * Runs one phase's statements on one shard, in order, each in a transaction of its own with its record.
 * A repeat after a crash finds what is there and goes on: an existing object passes when it is the same.
 * @throws SchemaStatementFailed
 */
export async function runStatements(
  run: ShardRun,
  statements: readonly SchemaStatement[],
): Promise<ShardOutcome> {
  await recordStatements(run, statements);
  const deferred: string[] = [];
  const warnings: string[] = [];
  for (const [ordinal, statement] of statements.entries()) {
    run.context.signal.throwIfAborted();
    const outcome = await runStatement(run, statement, ordinal);
    if (outcome.kind === "deferred") deferred.push(`${run.scope}: ${outcome.reason}`);
    if (outcome.kind === "refused") warnings.push(`${run.scope}: ${outcome.reason}`);
    run.context.heartbeat({ shard: run.shard, statement: ordinal + 1, of: statements.length });
    await run.context.announce("schema.afterStatement");
  }
  return { statementCount: statements.length, deferred, warnings };
}

type Outcome =
  | { readonly kind: "done" }
  | { readonly kind: "deferred"; readonly reason: string }
  | { readonly kind: "refused"; readonly reason: string };

async function runStatement(
  run: ShardRun,
  statement: SchemaStatement,
  ordinal: number,
): Promise<Outcome> {
  await markStarted(run, ordinal);
  for (let attempt = 1; ; attempt += 1) {
    try {
      await execute(run, statement, ordinal);
      return { kind: "done" };
    } catch (error) {
      const state = sqlStateOf(error);
      const isBusy = state === SQLSTATE.lockNotAvailable || state === SQLSTATE.deadlockDetected;
      if (isBusy && attempt < LOCK_ATTEMPTS) {
        await pause(LOCK_PAUSE_MS, undefined, { signal: run.context.signal });
        continue;
      }
      run.context.signal.throwIfAborted();
      return await judge(run, { statement, ordinal, error, state, isBusy });
    }
  }
}

async function execute(
  run: ShardRun,
  { sql, accessMethod }: SchemaStatement,
  ordinal: number,
): Promise<void> {
  const { client } = run;
  await client.query("BEGIN");
  try {
    if (accessMethod !== null)
      await client.query(
        `SET LOCAL default_table_access_method = ${quoteIdentifier(accessMethod)}`,
      );
    await client.query(sql);
    await markFinished(run, ordinal);
    await client.query("COMMIT");
  } catch (error) {
    // On a broken connection this fails too; the first error says why.
    await client.query("ROLLBACK").catch(() => {});
    throw error;
  }
}

interface Refusal {
  readonly statement: SchemaStatement;
  readonly ordinal: number;
  readonly error: unknown;
  readonly state: string | null;
  readonly isBusy: boolean;
}

/** What a refused statement means: there already, not yet, a role that is missing, or a failure. */
async function judge(
  run: ShardRun,
  { statement, ordinal, error, state, isBusy }: Refusal,
): Promise<Outcome> {
  const reason = tell(error);
  if (state === null) throw error;
  if (statement.isAccess && ACCESS_REFUSED.has(state)) {
    await markFinished(run, ordinal);
    return { kind: "refused", reason };
  }
  if (DUPLICATE.has(state) || DUPLICATE_OF[statement.object.kind] === state) {
    const difference = await compareExisting(run, statement);
    if (difference !== null)
      throw await failed(
        run,
        { statement, ordinal, error },
        { reason: `${reason}; ${difference}` },
      );
    await markFinished(run, ordinal);
    return { kind: "done" };
  }
  const isLastPhase = statement.phases.at(-1) === run.phase;
  if (NOT_YET.has(state) && !isLastPhase) {
    run.context.log.warn("schema statement is put off until after catch-up", {
      shard: run.shard,
      reason,
    });
    await forget(run, ordinal);
    return { kind: "deferred", reason };
  }
  const isTransient = isBusy || (run.phase === "cutover" && NOT_YET.has(state));
  throw await failed(run, { statement, ordinal, error }, { reason, isTransient });
}

/** @returns null when what exists is what the source has */
async function compareExisting(
  { client, source }: ShardRun,
  { object }: SchemaStatement,
): Promise<string | null> {
  const [here, there] = await Promise.all([
    describeObject(client, object),
    describeObject(source, object),
  ]);
  if (here !== null && here === there) return null;
  if (here === null) return "another object is in its way";
  return `it exists as "${here}" and is "${there ?? "gone"}" on the source`;
}

/** R56: what the server said of rows (which value is twice there) is noted beside them, on the shard. */
async function failed(
  { scope, ref, phase, shard, client }: ShardRun,
  { statement, ordinal, error }: Pick<Refusal, "statement" | "ordinal" | "error">,
  why: { readonly reason: string; readonly isTransient?: boolean },
): Promise<SchemaStatementFailed> {
  const state = sqlStateOf(error);
  const isTold = state === null || why.reason.includes(state);
  const failure = new SchemaStatementFailed(
    {
      sql: statement.sql,
      shard: scope,
      reason: isTold ? why.reason : `${why.reason} (SQLSTATE ${state})`,
      recovery: why.isTransient ? "retry" : "operator",
    },
    { cause: error },
  );
  const evidence = error instanceof SqlError ? error.evidence : undefined;
  if (evidence === undefined) return failure;
  const table = statement.table ?? undefined;
  await writeEvidence(
    client,
    {
      ...{ ref, step: "schema", scope: `phase ${phase} on shard ${shard}, statement ${ordinal}` },
      ...(table === undefined ? {} : { table }),
    },
    { code: failure.code, reason: failure.message, evidence },
  );
  return failure;
}

/** The list of SHOW SCHEMA_SYNC: written as a whole, so that what waits is seen before it runs. */
export async function recordStatements(
  { client, ref, phase, shard }: Pick<ShardRun, "client" | "ref" | "phase" | "shard">,
  statements: readonly SchemaStatement[],
): Promise<void> {
  await client.query("BEGIN");
  await client.query(
    "DELETE FROM sluice.schema_statement WHERE migration = $1 AND phase = $2 AND shard = $3",
    [ref.id, phase, shard],
  );
  await client.query(
    `INSERT INTO sluice.schema_statement (migration, phase, shard, ordinal, kind, table_schema, table_name, sql)
     SELECT $1, $2, $3, row_number() OVER () - 1, s.* FROM ROWS FROM (
       unnest($4::text[]), unnest($5::text[]), unnest($6::text[]), unnest($7::text[]))
       AS s(kind, table_schema, table_name, sql)`,
    [
      ref.id,
      phase,
      shard,
      statements.map(({ kind }) => kind),
      statements.map(({ table }) => table?.schema ?? ""),
      statements.map(({ table }) => table?.name ?? ""),
      statements.map(({ sql }) => sql),
    ],
  );
  await client.query("COMMIT");
}

async function markStarted(run: ShardRun, ordinal: number): Promise<void> {
  await updateRecord(
    run,
    ordinal,
    "UPDATE sluice.schema_statement SET started_at = clock_timestamp()",
  );
}

async function markFinished(run: ShardRun, ordinal: number): Promise<void> {
  await updateRecord(
    run,
    ordinal,
    "UPDATE sluice.schema_statement SET finished_at = clock_timestamp()",
  );
}

/** It is on the list of a later phase. */
async function forget(run: ShardRun, ordinal: number): Promise<void> {
  await updateRecord(run, ordinal, "DELETE FROM sluice.schema_statement");
}

async function updateRecord(
  { client, ref, phase, shard }: ShardRun,
  ordinal: number,
  action: string,
): Promise<void> {
  await client.query(
    `${action} WHERE migration = $1 AND phase = $2 AND shard = $3 AND ordinal = $4`,
    [ref.id, phase, shard, ordinal],
  );
}
