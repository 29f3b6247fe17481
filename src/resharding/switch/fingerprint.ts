import type { SqlClient } from "../../backend/sql-client.js";
import { type ErrorFields, SluiceError } from "../../core/errors.js";
import { PLACEMENT_GUARD } from "../../core/placement-guard.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { MigrationRef, StreamNumber } from "../model/migration.js";

/** What is moved is the schema as it was: a default, a constraint or an index made since is not on the other side. */
export class TablesChanged extends SluiceError {
  readonly code = "SLUICE_TABLES_CHANGED";
  readonly sqlState = SQLSTATE.objectNotInPrerequisiteState;
  readonly recovery = "operator";
  constructor(tables: string, options: ErrorFields = {}) {
    super(`definition changed since the schema was copied: ${tables}`, {
      hint:
        "Take the change back, or STOP_TASK: before the switch to begin again with the new schema, " +
        "after it to finalize (the old side does not have the change, so there is no way back to it).",
      ...options,
    });
  }
}

interface TableName {
  readonly schema: string;
  readonly name: string;
}

/**
 * Columns, defaults, constraints, indexes and triggers but our own, and the replica identity. Indexes that are
 * not unique count on the way there only: one made since the switch is no reason to refuse the way back.
 */
const FINGERPRINTS = `SELECT t.schema_name, t.table_name, md5(concat_ws(E'\\n', c.relreplident,
    (SELECT string_agg(format('%s %s %s %s', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                              pg_get_expr(d.adbin, d.adrelid)), E'\\n' ORDER BY a.attname)
       FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    (SELECT string_agg(pg_get_constraintdef(oid), E'\\n' ORDER BY conname) FROM pg_constraint
      WHERE conrelid = c.oid AND conname <> '${PLACEMENT_GUARD}'),
    (SELECT string_agg(pg_get_indexdef(indexrelid), E'\\n' ORDER BY pg_get_indexdef(indexrelid))
       FROM pg_index WHERE indrelid = c.oid AND indisvalid AND (indisunique OR $4 = 0)),
    (SELECT string_agg(pg_get_triggerdef(oid), E'\\n' ORDER BY tgname) FROM pg_trigger
      WHERE tgrelid = c.oid AND NOT tgisinternal AND tgname !~ '^(sluice_gate_|[!~]sluice_)'))) AS digest
  FROM unnest($1::text[], $2::text[]) AS t(schema_name, table_name)
  JOIN pg_namespace n ON n.nspname = t.schema_name
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.table_name`;

export interface FingerprintInput {
  readonly ref: Pick<MigrationRef, "id">;
  /** The stream that reads this shard. */
  readonly stream: StreamNumber;
  readonly tables: readonly TableName[];
}

/** Notes the tables as they are now. Second run: notes them again. */
export async function noteFingerprints(client: SqlClient, input: FingerprintInput): Promise<void> {
  await client.query(
    `INSERT INTO sluice.fingerprint (migration, stream, schema_name, table_name, digest)
     SELECT $3, $4::integer, f.* FROM (${FINGERPRINTS}) f
     ON CONFLICT (migration, stream, schema_name, table_name) DO UPDATE SET digest = excluded.digest`,
    [...namesOf(input.tables), input.ref.id, input.stream],
  );
}

/** @returns tables that are not as they were noted, quoted; one that is gone too */
export async function findChanged(
  client: SqlClient,
  input: FingerprintInput,
): Promise<readonly string[]> {
  const result = await client.query<{ name: string }>(
    `SELECT format('%I.%I', s.schema_name, s.table_name) AS name
       FROM sluice.fingerprint s
       LEFT JOIN (${FINGERPRINTS}) f USING (schema_name, table_name)
      WHERE s.migration = $3 AND s.stream = $4 AND f.digest IS DISTINCT FROM s.digest ORDER BY 1`,
    [...namesOf(input.tables), input.ref.id, input.stream],
  );
  return result.rows.map((row) => row.name);
}

function namesOf(tables: readonly TableName[]): [string[], string[]] {
  return [tables.map((table) => table.schema), tables.map((table) => table.name)];
}
