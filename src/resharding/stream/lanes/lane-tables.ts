import type { SqlClient } from "../../../backend/sql-client.js";
import { quoteIdentifier } from "../../../core/identifier.js";
import type { AppliedTable } from "../../../replication/apply/applied-table.js";
import { readUniqueRules, type UniqueRule } from "../../../replication/apply/unique-rules.js";
import { StreamUnsupportedChange } from "../../../replication/stream-errors.js";
import { shardOfSql } from "../../../topology/hash-sql.js";
import { namesOldShard, type TablePlan } from "../../model/migration.js";
import type { ColumnShape } from "./change-router.js";

interface CatalogColumn {
  readonly name: string;
  readonly type_oid: number;
  readonly type_modifier: number;
  readonly type: string;
  readonly is_always_identity: boolean;
}

/** Columns of a table in the order of the plan. @throws StreamUnsupportedChange when one is missing */
async function readColumns(client: SqlClient, plan: TablePlan): Promise<readonly CatalogColumn[]> {
  const { rows } = await client.query<CatalogColumn>(
    `SELECT attname AS name, atttypid::bigint::text AS type_oid, atttypmod AS type_modifier,
            format_type(atttypid, atttypmod) AS type, attidentity = 'a' AS is_always_identity
     FROM pg_attribute
     WHERE attrelid = to_regclass(format('%I.%I', $1::text, $2::text)) AND attnum > 0 AND NOT attisdropped`,
    [plan.schema, plan.name],
  );
  const byName = new Map(rows.map((row) => [row.name, { ...row, type_oid: Number(row.type_oid) }]));
  return plan.columns.map((column) => {
    const found = byName.get(column.name);
    if (found) return found;
    throw new StreamUnsupportedChange(
      `table ${plan.schema}.${plan.name} has no column "${column.name}" (any more)`,
      { hint: "Undo the change, or abort the migration and start again." },
    );
  });
}

/**
 * What the stream must say of the table; it names types by numbers, which differ from server to server.
 * @throws StreamUnsupportedChange when a type is not the planned one
 */
export async function readShape(
  client: SqlClient,
  plan: TablePlan,
): Promise<readonly ColumnShape[]> {
  const columns = await readColumns(client, plan);
  for (const [index, column] of columns.entries()) {
    const planned = plan.columns[index]?.type;
    if (column.type === planned) continue;
    throw new StreamUnsupportedChange(
      `column "${column.name}" of ${plan.schema}.${plan.name} is ${column.type}, planned was ${planned ?? ""}`,
      { hint: "Undo the change, or abort the migration and start again." },
    );
  }
  return columns.map((column) => ({
    name: column.name,
    typeOid: column.type_oid,
    typeModifier: column.type_modifier,
  }));
}

/** Where a lane's changes come from. */
export interface LaneHome {
  readonly fromShard: number;
  readonly fromShardCount: number;
}

/**
 * The table as the lanes of one shard write it.
 * @throws StreamUnsupportedChange when it has no column that was planned, or nothing that names a row
 */
export async function readAppliedTable(
  client: SqlClient,
  plan: TablePlan,
  home: LaneHome,
): Promise<AppliedTable> {
  const columns = await readColumns(client, plan);
  const indexOf = (name: string) => plan.columns.findIndex((column) => column.name === name);
  const keyColumns = plan.keyColumns?.map(indexOf) ?? null;
  const isKeyOnly = !namesOldShard(plan);
  if (isKeyOnly && keyColumns === null)
    throw new StreamUnsupportedChange(
      `nothing names a row of ${plan.schema}.${plan.name}: its replica identity is no key and has no sharding key`,
      { hint: "Give it REPLICA IDENTITY FULL, then abort the migration and start again." },
    );
  return {
    schema: plan.schema,
    name: plan.name,
    columns: plan.columns,
    keyColumns,
    matchColumns:
      keyColumns === null ? identityColumns(plan) : withShardingColumn(plan, keyColumns),
    ownRows: isKeyOnly ? ownRows(plan, home) : null,
    isKeyOnly,
    isDeferrable: await hasDeferrable(client, plan),
    isFoldable: keyColumns !== null && !plan.otherUnique,
    alwaysIdentity: new Set(
      columns.flatMap((column, index) => (column.is_always_identity ? [index] : [])),
    ),
  };
}

/** What only several shards can break, and PostgreSQL does not check in a lane's session. */
export async function readUnchecked(
  client: SqlClient,
  plan: TablePlan,
  applied: AppliedTable,
): Promise<readonly UniqueRule[]> {
  if (!applied.isDeferrable) return [];
  return uncheckedOf(await readUniqueRules(client, applied), plan);
}

/** A rule with the sharding key is kept by the one shard that may have both rows. */
export function uncheckedOf(
  rules: readonly UniqueRule[],
  plan: Pick<TablePlan, "shardingColumn">,
): readonly UniqueRule[] {
  const { shardingColumn } = plan;
  if (shardingColumn === null) return [];
  return rules.filter((rule) => rule.isDeferrable && !rule.columns.includes(shardingColumn));
}

async function hasDeferrable(client: SqlClient, plan: TablePlan): Promise<boolean> {
  const { rows } = await client.query<{ has: boolean }>(
    `SELECT EXISTS (SELECT FROM pg_index WHERE NOT indimmediate
       AND indrelid = to_regclass(format('%I.%I', $1::text, $2::text))) AS has`,
    [plan.schema, plan.name],
  );
  return rows[0]?.has === true;
}

function identityColumns(plan: TablePlan): readonly number[] {
  return plan.columns.flatMap((column, index) => (column.inIdentity ? [index] : []));
}

/**
 * R33: with the sharding column in the WHERE a change touches a row only if it, as it stands, belongs to the
 * shard that the change comes from. An old row that does not have it says so by its home, see `ownRows`.
 */
function withShardingColumn(plan: TablePlan, key: readonly number[]): readonly number[] {
  if (!namesOldShard(plan)) return key;
  const column = plan.columns.findIndex((one) => one.name === plan.shardingColumn);
  return column < 0 || key.includes(column) ? key : [...key, column];
}

/** R9: the rows that are at home on the shard that the change comes from; where there is one shard, all. */
function ownRows(plan: TablePlan, { fromShard, fromShardCount }: LaneHome): string | null {
  if (fromShardCount === 1 || plan.shardingColumn === null || plan.shardingType === null)
    return null;
  const column = `t.${quoteIdentifier(plan.shardingColumn)}`;
  return `${shardOfSql(column, plan.shardingType, fromShardCount)} = ${fromShard}`;
}
