import type { SqlClient } from "../../backend/sql-client.js";
import { quoteIdentifier } from "../../core/identifier.js";
import type { MigrationRef, TablePlan } from "../model/migration.js";
import { columnList, tableName } from "./range-sql.js";

const STAGING = "pg_temp.sluice_staged";

/** In the range's transaction, which it does not outlive. @returns its name */
export async function makeStaging(client: SqlClient, table: TablePlan): Promise<string> {
  await client.query(
    `CREATE TEMPORARY TABLE sluice_staged (LIKE ${tableName(table)}) ON COMMIT DROP`,
  );
  return STAGING;
}

/**
 * Writes what was staged. A row that meets another one stays away, and its key is set aside for the stream that will
 * feed this shard: no lane touches it before settlement has looked at all source shards (R9, R33).
 */
export async function writeStaged(
  client: SqlClient,
  input: { readonly ref: MigrationRef; readonly sourceShard: number; readonly table: TablePlan },
): Promise<void> {
  const { ref, sourceShard, table } = input;
  const key = (table.keyColumns ?? []).map(quoteIdentifier);
  const columns = columnList(table);
  await client.query(
    `WITH written AS (
       INSERT INTO ${tableName(table)} (${columns}) OVERRIDING SYSTEM VALUE
       SELECT ${columns} FROM ${STAGING} ON CONFLICT DO NOTHING RETURNING ${key.join(", ")})
     INSERT INTO sluice.aside (migration, stream, schema_name, table_name, key, from_shard, reason)
     SELECT $1, 0, $2, $3, ARRAY[${key.map((name) => `s.${name}::text`).join(", ")}], $4, 'exists'
       FROM ${STAGING} AS s
      WHERE NOT EXISTS (SELECT FROM written AS w
        WHERE ${key.map((name) => `w.${name} = s.${name}`).join(" AND ")})
     ON CONFLICT (migration, stream, schema_name, table_name, key)
     DO UPDATE SET settled_at = NULL, snapshots = NULL, reason = excluded.reason`,
    [ref.id, table.schema, table.name, sourceShard],
  );
}
