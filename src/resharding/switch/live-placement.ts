import { type SqlClient, sqlStateOf } from "../../backend/sql-client.js";
import { quoteIdentifier, quoteQualified } from "../../core/identifier.js";
import { PLACEMENT_GUARD } from "../../core/placement-guard.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import { placementSql } from "../../topology/placement-guard.js";
import type { Cluster } from "../context.js";
import { classify } from "../preflight/table-class.js";

/**
 * - valid: as this shard's, and every row was looked at
 * - unvalidated: as this shard's; rows from before may belong elsewhere
 * - other: of another number of shards, another key, or not ours
 * - missing: a sharded table without one
 * - stray: on a table that no rule shards
 */
type GuardState = "valid" | "unvalidated" | "other" | "missing" | "stray";

export interface TableGuard {
  readonly schema: string;
  readonly name: string;
  readonly state: GuardState;
  /** What the CHECK is to be; null: none. */
  readonly condition: string | null;
  /** The table alone, as its heirs have rules of their own. */
  readonly hasHeirs: boolean;
}

interface Found {
  readonly schema: string;
  readonly name: string;
  readonly columns: readonly string[];
  readonly definition: string | null;
  readonly isValidated: boolean | null;
  readonly hasHeirs: boolean;
}

/** Not partitions, which inherit. */
const TABLES = `SELECT n.nspname AS schema, c.relname AS name,
    (SELECT json_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a
      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
    (SELECT pg_get_expr(k.conbin, k.conrelid) FROM pg_constraint k
      WHERE k.conrelid = c.oid AND k.conname = '${PLACEMENT_GUARD}') AS definition,
    (SELECT k.convalidated FROM pg_constraint k
      WHERE k.conrelid = c.oid AND k.conname = '${PLACEMENT_GUARD}') AS "isValidated",
    c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid) AS "hasHeirs"
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
   AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'sluice')
 ORDER BY 1, 2`;

/** Every table of one shard that has a guard, or is to have one. With one shard nothing is. */
export async function listPlacement(
  client: SqlClient,
  cluster: Cluster,
  shard: number,
): Promise<readonly TableGuard[]> {
  const { rows } = await client.query<Found>(TABLES);
  const guards: TableGuard[] = [];
  for (const found of rows) {
    const condition = conditionOf(found, cluster, shard);
    if (condition === null && found.definition === null) continue;
    const { schema, name, hasHeirs } = found;
    const state = await stateOf(client, found, condition);
    guards.push({ schema, name, hasHeirs, condition, state });
  }
  return guards;
}

function conditionOf(
  { schema, name, columns }: Found,
  cluster: Cluster,
  shard: number,
): string | null {
  const shardCount = cluster.shards.length;
  const named = { schema, name, rootSchema: null, rootName: null };
  const kind = classify(cluster, {
    ...named,
    columns: columns.map((column) => ({ name: column })),
  });
  if (kind.kind !== "sharded" || shardCount === 1 || !columns.includes(kind.column)) return null;
  return placementSql(quoteIdentifier(kind.column), { dataType: kind.type }, { shard, shardCount });
}

async function stateOf(
  client: SqlClient,
  found: Found,
  condition: string | null,
): Promise<GuardState> {
  if (condition === null) return "stray";
  if (found.definition === null) return "missing";
  if (found.definition !== (await asServerHasIt(client, found, condition))) return "other";
  return found.isValidated === true ? "valid" : "unvalidated";
}

/** The server's own text of a condition, of which there is one for each version: asked of a table that is gone again. */
async function asServerHasIt(
  client: SqlClient,
  table: Pick<Found, "schema" | "name">,
  condition: string,
): Promise<string | null> {
  await client.query("BEGIN");
  try {
    await client.query(
      `CREATE TEMP TABLE sluice_probe (LIKE ${quoteQualified(table.schema, table.name)})`,
    );
    await client.query(
      `ALTER TABLE pg_temp.sluice_probe ADD CONSTRAINT ${PLACEMENT_GUARD} CHECK (${condition})`,
    );
    const { rows } = await client.query<{ definition: string }>(
      `SELECT pg_get_expr(conbin, conrelid) AS definition FROM pg_constraint
        WHERE conrelid = 'pg_temp.sluice_probe'::regclass AND conname = '${PLACEMENT_GUARD}'`,
    );
    return rows[0]?.definition ?? null;
  } finally {
    await client.query("ROLLBACK");
  }
}

type WithLock = (table: string, act: () => Promise<void>) => Promise<void>;

/**
 * Brings one table's guard to what it is to be. The table is locked for a moment only, as NOT VALID; then its rows
 * are looked at while others read and write.
 * @returns false: rows are there that belong to other shards; new ones are refused from now on
 */
export async function addPlacement(
  client: SqlClient,
  guard: TableGuard,
  withLock: WithLock,
): Promise<boolean> {
  const table = quoteQualified(guard.schema, guard.name);
  if (guard.state === "missing" || guard.state === "other") {
    const inherits = guard.hasHeirs ? " NO INHERIT" : "";
    await withLock(table, async () => {
      await client.query(
        `ALTER TABLE ${table} DROP CONSTRAINT IF EXISTS ${PLACEMENT_GUARD},
           ADD CONSTRAINT ${PLACEMENT_GUARD} CHECK (${guard.condition})${inherits} NOT VALID`,
      );
    });
  }
  try {
    await withLock(table, async () => {
      await client.query(`ALTER TABLE ${table} VALIDATE CONSTRAINT ${PLACEMENT_GUARD}`);
    });
    return true;
  } catch (error) {
    if (sqlStateOf(error) === SQLSTATE.checkViolation) return false;
    throw error;
  }
}

/** Second run: finds none. */
export async function dropPlacement(
  client: SqlClient,
  guard: Pick<TableGuard, "schema" | "name">,
  withLock: WithLock,
): Promise<void> {
  const table = quoteQualified(guard.schema, guard.name);
  await withLock(table, async () => {
    await client.query(`ALTER TABLE ${table} DROP CONSTRAINT IF EXISTS ${PLACEMENT_GUARD}`);
  });
}
