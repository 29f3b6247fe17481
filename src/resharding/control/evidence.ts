import { describeAddress, type ServerAddress } from "../../backend/address.js";
import type { SqlClient } from "../../backend/sql-client.js";
import { SluiceError } from "../../core/errors.js";
import { RowEvidence } from "../../core/row-evidence.js";
import { SqlError } from "../../core/sql-error.js";
import { tell } from "../../core/tell.js";
import type { EngineContext } from "../context.js";
import type { MigrationRef } from "../model/migration.js";
import { isMissingControlSchema, upgradeControlSchema } from "./control-schema.js";
import { connectEngine } from "./sides.js";
import { onEach, type Status } from "./status.js";

/** Where a row was met. `step` and `scope` name the place: what is noted there again replaces the older. */
export interface EvidencePlace {
  readonly ref: MigrationRef;
  readonly step: EvidenceStep;
  /** "range 3 of source shard 0". */
  readonly scope: string;
  readonly table?: { readonly schema: string; readonly name: string };
}

export type EvidenceStep = "lane" | "aside" | "copy" | "verify" | "schema" | "other";

/** Newest ones per migration and database. */
const KEPT_ROWS = 100;
const KEEP_TIMEOUT_MS = 5_000;

/** What was written, so that a step on the way out does not write it again. */
const written = new WeakSet<RowEvidence>();

/** The row text of an error, if it has any that no column has yet. */
export function evidenceOf(error: unknown): RowEvidence | undefined {
  const isOurs = error instanceof SluiceError || error instanceof SqlError;
  const evidence = isOurs ? error.evidence : undefined;
  return evidence !== undefined && written.has(evidence) ? undefined : evidence;
}

/** For the column `evidence` beside a lane, which the lane writes itself. */
export function markWritten(evidence: RowEvidence): void {
  written.add(evidence);
}

/**
 * R56: keeps the row text of an error in the database that the row is for, and nothing of it anywhere else.
 * Part of the caller's transaction.
 */
export async function writeEvidence(
  client: SqlClient,
  place: EvidencePlace,
  told: { readonly code: string; readonly reason: string; readonly evidence: RowEvidence },
): Promise<void> {
  const { ref, step, scope, table } = place;
  await client.query(
    `INSERT INTO sluice.evidence (migration, source, destination, step, scope, schema_name, table_name,
       code, reason, evidence)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
     ON CONFLICT (migration, step, scope) DO UPDATE
       SET code = excluded.code, reason = excluded.reason, evidence = excluded.evidence,
           noted_at = clock_timestamp()`,
    [
      ...[ref.id, ref.source, ref.destination, step, scope, table?.schema ?? "", table?.name ?? ""],
      ...[told.code, told.reason, RowEvidence.open(told.evidence).replaceAll("\0", "")],
    ],
  );
  await client.query(
    `DELETE FROM sluice.evidence WHERE migration = $1 AND (step, scope) IN (
       SELECT step, scope FROM sluice.evidence WHERE migration = $1
        ORDER BY noted_at DESC, step, scope OFFSET $2)`,
    [ref.id, KEPT_ROWS],
  );
  written.add(told.evidence);
}

/** What was noted there is over: of a scope, of a step, or of the whole migration. */
export async function forgetEvidence(
  client: { query(text: string, values: unknown[]): Promise<unknown> },
  place: Pick<EvidencePlace, "ref"> & Partial<Pick<EvidencePlace, "step" | "scope">>,
): Promise<void> {
  try {
    await client.query(
      `DELETE FROM sluice.evidence WHERE migration = $1
          AND ($2::text IS NULL OR step = $2) AND ($3::text IS NULL OR scope = $3)`,
      [place.ref.id, place.step ?? null, place.scope ?? null],
    );
  } catch (error) {
    // Begun under an earlier version: there is nothing to forget.
    if (!isMissingControlSchema(error)) throw error;
  }
}

/**
 * As `writeEvidence`, by a session of its own, for a step whose sessions its error has ended. Best effort: where
 * the database cannot be reached the text is lost, the error goes on without it, and its next attempt brings
 * it again.
 */
export async function keepEvidence(
  address: ServerAddress,
  place: EvidencePlace,
  error: unknown,
): Promise<void> {
  const evidence = evidenceOf(error);
  if (evidence === undefined) return;
  // Not the attempt's signal: it may be what ends, and a person needs this all the more.
  const ended: Pick<EngineContext, "signal"> = { signal: AbortSignal.timeout(KEEP_TIMEOUT_MS) };
  try {
    await using client = await connectEngine(ended, address, "evidence", {
      lockTimeoutMs: KEEP_TIMEOUT_MS,
    });
    await upgradeControlSchema(client);
    await writeEvidence(client, place, { code: codeOf(error), reason: tell(error), evidence });
  } catch {
    // The caller's error says what is wrong; that it could not be noted as well says nothing more.
  }
}

/**
 * For whatever a step has thrown with row text that it has kept nowhere itself. On shard 0 of the side that is
 * written first; a step whose input names no migration has no rows either.
 */
export async function keepLeftEvidence(
  cluster: EngineContext["cluster"],
  failed: { readonly step: string; readonly input: readonly unknown[]; readonly error: unknown },
): Promise<void> {
  if (evidenceOf(failed.error) === undefined) return;
  const ref = failed.input.map(refIn).find((one) => one !== null);
  if (!ref) return;
  const address = firstShard(cluster, ref);
  if (address)
    await keepEvidence(address, { ref, step: "other", scope: failed.step }, failed.error);
}

function firstShard(
  cluster: EngineContext["cluster"],
  ref: MigrationRef,
): ServerAddress | undefined {
  try {
    return cluster(ref.destination).shards[0];
  } catch (error) {
    if (error instanceof SluiceError) return undefined;
    throw error;
  }
}

/** Steps take a migration, or something that has one. */
function refIn(input: unknown): MigrationRef | null {
  if (typeof input !== "object" || input === null) return null;
  const ref: unknown = "ref" in input ? input.ref : input;
  return isRef(ref) ? ref : null;
}

function isRef(value: unknown): value is MigrationRef {
  return (
    typeof value === "object" &&
    value !== null &&
    ["id", "source", "destination", "publication"].every(
      (name) => name in value && typeof Reflect.get(value, name) === "string",
    )
  );
}

function codeOf(error: unknown): string {
  return error instanceof SluiceError || error instanceof SqlError ? error.code : "";
}

/** A row of SHOW EVIDENCE. */
export interface EvidenceStatus {
  readonly migration: string;
  readonly source: string;
  readonly destination: string;
  /** Where it is kept: "host:port/database". */
  readonly server: string;
  readonly step: EvidenceStep;
  readonly scope: string;
  readonly schema: string;
  readonly table: string;
  readonly code: string;
  readonly reason: string;
  readonly notedAt: Date | null;
  readonly evidence: string | null;
}

/**
 * Everything about rows that live migrations have stopped at, with the rows' text: for the eyes of whoever
 * asked, straight from the databases, and for nothing else.
 * @param workflowId of one task; null: all
 */
export async function readEvidence(
  servers: readonly ServerAddress[],
  workflowId: string | null,
): Promise<Status<EvidenceStatus>> {
  const { rows, unreachable } = await onEach(servers, async (client, address) => {
    const server = describeAddress(address);
    const found = [
      ...(await client.query<EvidenceRow>(LANES)).rows,
      ...(await client.query<EvidenceRow>(ASIDE, [KEPT_ROWS])).rows,
      // Migrations that began under an earlier version may lack the table.
      ...((await hasTable(client)) ? (await client.query<EvidenceRow>(NOTED)).rows : []),
    ];
    return { rows: found.map((row) => ({ ...row, server })) };
  });
  return {
    unreachable,
    rows: rows.filter((row) => workflowId === null || isOfTask(row, workflowId)),
  };
}

type EvidenceRow = Omit<EvidenceStatus, "server">;

async function hasTable(client: SqlClient): Promise<boolean> {
  const { rows } = await client.query<{ has: boolean }>(
    "SELECT to_regclass('sluice.evidence') IS NOT NULL AS has",
  );
  return rows[0]?.has === true;
}

/** Workflow ids are made of the pair: `workflowIds` in model/tasks. */
function isOfTask({ source, destination }: EvidenceStatus, workflowId: string): boolean {
  const pair = `${source}/${destination}`;
  return ["reshard", "replicate", "schema-sync"].some((family) =>
    `${workflowId}/`.startsWith(`${family}/${pair}/`),
  );
}

const LANES = `
  SELECT m.id AS migration, m.source, m.destination, 'lane' AS step,
         format('stream %s, %s -> %s', l.stream, l.from_shard, l.to_shard) AS scope,
         '' AS schema, '' AS table, coalesce(l.stopped_code, '') AS code,
         coalesce(l.stopped_reason, 'it does not go on') AS reason, l.updated_at AS "notedAt",
         to_jsonb(l) ->> 'evidence' AS evidence
    FROM sluice.lane l JOIN sluice.migration m ON m.id = l.migration AND m.state = 'active'
   WHERE l.state = 'stopped' OR to_jsonb(l) ->> 'evidence' IS NOT NULL
   ORDER BY l.migration, l.stream, l.from_shard, l.to_shard`;

function keyInWords(key: string): string {
  return `(SELECT string_agg(format('%s = %s', coalesce(c.name, '?'), k.value), ', ' ORDER BY k.at)
            FROM unnest(${key}) WITH ORDINALITY AS k (value, at)
            LEFT JOIN LATERAL (
              SELECT t -> 'keyColumns' ->> (k.at - 1)::int AS name
                FROM jsonb_array_elements(m.spec -> 'tables') t
               WHERE t ->> 'schema' = a.schema_name AND t ->> 'name' = a.table_name) c ON true)`;
}

/** A column that a schema of an earlier version does not have. */
const HOLDER = `ARRAY(SELECT jsonb_array_elements_text(coalesce(nullif(to_jsonb(a) -> 'holder', 'null'), '[]')))`;

/** R33: undecided keys. Their columns' names are in the plan. */
const ASIDE = `
  SELECT m.id AS migration, m.source, m.destination, 'aside' AS step,
         format('stream %s, from shard %s', a.stream, a.from_shard) AS scope,
         a.schema_name AS schema, a.table_name AS table, a.reason AS code,
         coalesce(to_jsonb(a) ->> 'conflict', 'not settled yet') AS reason,
         NULL::timestamptz AS "notedAt",
         concat_ws('; in its way: ', ${keyInWords("a.key")}, ${keyInWords(HOLDER)}) AS evidence
    FROM sluice.aside a JOIN sluice.migration m ON m.id = a.migration AND m.state = 'active'
   WHERE a.settled_at IS NULL
   ORDER BY a.migration, a.stream, a.schema_name, a.table_name, a.key LIMIT $1`;

const NOTED = `
  SELECT migration, source, destination, step, scope, schema_name AS schema, table_name AS table,
         code, reason, noted_at AS "notedAt", evidence
    FROM sluice.evidence ORDER BY migration, step, scope`;
