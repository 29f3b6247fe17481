import type { SqlClient } from "../../backend/sql-client.js";
import type { TablePlan } from "../model/migration.js";
import type { StreamInput } from "./lane-watch.js";
import { KEY_OF_JSON } from "./lanes/aside.js";

/**
 * `sluice.aside` of one to-shard as settlement uses it. A key is in one of these states there:
 *
 *     snapshots  settled_at
 *     NULL       NULL        set aside: the lanes of this shard skip its changes
 *     there      NULL        settled here, not yet known to be settled on every shard: the lanes judge by the
 *                            snapshots, everybody else takes the key for set aside
 *     there      there       settled; forgotten when all lanes have passed a marker that is younger
 */
export interface AsideRow {
  readonly schema_name: string;
  readonly table_name: string;
  readonly key: readonly string[];
  readonly from_shard: number;
  readonly reason: string;
}

/**
 * Those first that no settlement has found a conflict for.
 * @returns keys that are not settled on every shard, as this one knows them
 */
export async function readUnsettled(
  client: SqlClient,
  input: StreamInput & { readonly limit?: number },
): Promise<readonly AsideRow[]> {
  const { rows } = await client.query<AsideRow>(
    `SELECT schema_name, table_name, key, from_shard, reason FROM sluice.aside
      WHERE migration = $1 AND stream = $2 AND settled_at IS NULL
      ORDER BY conflict IS NOT NULL LIMIT $3`,
    [input.ref.id, input.stream, input.limit ?? null],
  );
  return rows;
}

export interface AsideCount {
  readonly unsettledKeys: number;
  /** The snapshots by which keys were settled, each once; for `forgetSettled`. */
  readonly settledBy: readonly string[];
}

export async function countAside(client: SqlClient, input: StreamInput): Promise<AsideCount> {
  const { rows } = await client.query<{ count: number; settled_by: string[] }>(
    `SELECT count(*) FILTER (WHERE settled_at IS NULL)::integer AS count,
            coalesce(array_agg(DISTINCT snapshots::text) FILTER (WHERE settled_at IS NOT NULL), '{}')
              AS settled_by
       FROM sluice.aside WHERE migration = $1 AND stream = $2`,
    [input.ref.id, input.stream],
  );
  return { unsettledKeys: rows[0]?.count ?? 0, settledBy: rows[0]?.settled_by ?? [] };
}

/**
 * When all lanes have passed a marker that was written after these snapshots were read, no change that they have
 * can come any more. By the snapshots, as a key may have been settled again meanwhile.
 */
export async function forgetSettled(
  client: SqlClient,
  input: StreamInput & { readonly settledBy: readonly string[] },
): Promise<void> {
  if (input.settledBy.length === 0) return;
  await client.query(
    `DELETE FROM sluice.aside
      WHERE migration = $1 AND stream = $2 AND settled_at IS NOT NULL AND snapshots::text = ANY ($3)`,
    [input.ref.id, input.stream, [...input.settledBy]],
  );
}

/** In the transaction that writes the rows: from its commit on the lanes of this shard judge by the snapshots. */
export async function noteSnapshots(
  client: SqlClient,
  input: StreamInput & {
    readonly rows: readonly AsideRow[];
    /** By from-shard. */
    readonly snapshots: readonly string[];
  },
): Promise<void> {
  const entries = input.rows.map((row) => [
    row.schema_name,
    row.table_name,
    row.key,
    row.from_shard,
    row.reason,
  ]);
  await client.query(
    `INSERT INTO sluice.aside (migration, stream, schema_name, table_name, key, from_shard, reason, snapshots)
     SELECT $1, $2, r.value ->> 0, r.value ->> 1, ${KEY_OF_JSON}, (r.value ->> 3)::integer,
            r.value ->> 4, $3
       FROM json_array_elements($4::json) AS r, LATERAL (SELECT r.value -> 2 AS value) AS k
     ON CONFLICT (migration, stream, schema_name, table_name, key)
     DO UPDATE SET snapshots = excluded.snapshots, settled_at = NULL, conflict = NULL, holder = NULL`,
    [input.ref.id, input.stream, [...input.snapshots], JSON.stringify(entries)],
  );
}

/**
 * After every shard has committed. A key that a lane sets aside again at this moment is left: it is not settled.
 */
export async function markSettled(
  client: SqlClient,
  input: StreamInput & { readonly snapshots: readonly string[] },
): Promise<void> {
  await client.query(
    `UPDATE sluice.aside SET settled_at = clock_timestamp()
      WHERE migration = $1 AND stream = $2 AND (schema_name, table_name, key) IN (
        SELECT schema_name, table_name, key FROM sluice.aside
         WHERE migration = $1 AND stream = $2 AND settled_at IS NULL AND snapshots = $3
           FOR UPDATE SKIP LOCKED)`,
    [input.ref.id, input.stream, [...input.snapshots]],
  );
}

/**
 * For SHOW EVIDENCE, which names the keys beside it. Snapshots of an attempt that did not get to every shard go:
 * they must not be taken for those of one that did.
 */
export async function noteConflict(
  client: SqlClient,
  input: StreamInput & {
    readonly plan: Pick<TablePlan, "schema" | "name">;
    readonly keys: readonly (readonly string[])[];
    readonly conflict: string;
    /** Key of the row that is in the way; undefined: not known. */
    readonly holder: readonly string[] | undefined;
  },
): Promise<void> {
  await client.query(
    `UPDATE sluice.aside SET conflict = $5, holder = $7, snapshots = NULL, settled_at = NULL
      WHERE migration = $1 AND stream = $2 AND schema_name = $3 AND table_name = $4
        AND key IN (SELECT ${KEY_OF_JSON} FROM json_array_elements($6::json) AS k)`,
    [
      ...[input.ref.id, input.stream, input.plan.schema, input.plan.name],
      ...[input.conflict, JSON.stringify(input.keys)],
      input.holder === undefined ? null : [...input.holder],
    ],
  );
}
