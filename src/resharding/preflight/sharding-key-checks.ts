import { sqlStateOf } from "../../backend/sql-client.js";
import { quoteIdentifier, quoteQualified } from "../../core/identifier.js";
import { PLACEMENT_GUARD } from "../../core/placement-guard.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import { KEY_COLUMNS_SQL, keyTrouble, type TableColumn } from "../../topology/key-column.js";
import type { TableFacts } from "./catalog-facts.js";
import { eachSourceTable } from "./source-tables.js";
import {
  displayName,
  eachShard,
  type Finding,
  failure,
  type MovingTable,
  note,
  type PreflightCheck,
  type ShardView,
  sameTable,
  shardsOf,
  shortName,
  type World,
  warning,
  withGist,
} from "./world.js";

/** Every row of a sharded table must say its shard. */
export const SHARDING_KEY_CHECKS: readonly PreflightCheck[] = [
  {
    id: "sharding-key",
    fine: "every sharded table has its sharding key, NOT NULL and of the rule's type",
    run: async (world) => [
      ...eachSourceTable(world, checkShardingKey),
      ...(await checkKeyTypes(world)),
      ...(await checkNullKeys(world)),
    ],
  },
  {
    id: "sharding-rules",
    fine: "every sharding rule matches a table",
    run: checkRules,
  },
  {
    id: "placement-guard",
    fine: "sharded tables get no guard, as there is one shard or `placement_guard` is off",
    run: noteGuards,
  },
];

/** What the tables have afterwards that they did not have before. */
function noteGuards({ destination, policy, tables }: World): readonly Finding[] {
  if (!policy.placementGuard || destination.shards.length === 1) return [];
  const text = `gets a CHECK, ${PLACEMENT_GUARD}, on every shard: PostgreSQL refuses a row that belongs to another`;
  return tables
    .filter(({ tableClass }) => tableClass.kind === "sharded")
    .map(({ facts }) => withGist(note(displayName(facts), text), { text, item: shortName(facts) }));
}

function checkShardingKey({ facts, tableClass }: MovingTable, scope: string): readonly Finding[] {
  if (tableClass.kind !== "sharded") return [];
  const table = quoteQualified(facts.schema, facts.name);
  const column = facts.columns.find(({ name }) => name === tableClass.column);
  if (!column)
    return [
      failure(
        scope,
        `a rule in [[sharded_tables]] names column ${tableClass.column}, which the table does not have`,
        `Correct the rule in pgdog.toml, or: ALTER TABLE ${table} ADD COLUMN ${quoteIdentifier(tableClass.column)} ...;`,
      ),
    ];
  const findings: Finding[] = [];
  if (column.isGenerated)
    findings.push(
      failure(
        scope,
        `sharding key ${column.name} is a generated column, which the stream does not carry`,
        `ALTER TABLE ${table} ALTER COLUMN ${quoteIdentifier(column.name)} DROP EXPRESSION;`,
      ),
    );
  return findings;
}

/** On both sides: the destination's columns are those that are routed by afterwards, and may be others. */
async function checkKeyTypes(world: World): Promise<readonly Finding[]> {
  const keys = world.tables.flatMap(({ tableClass }) =>
    tableClass.kind === "sharded" ? [tableClass.column] : [],
  );
  return await eachShard(world.shards, async ({ client, scope, side, shard }) => {
    if (side === "source" && shard !== 0) return [];
    const { rows } = await client.query<TableColumn>(KEY_COLUMNS_SQL, [[...new Set(keys)]]);
    return rows.flatMap((row) => {
      const table = { schema: row.schema, name: row.table };
      const moving = world.tables.find(({ facts }) => sameTable(facts, table))?.tableClass;
      if (moving?.kind !== "sharded" || moving.column !== row.column) return [];
      const trouble = keyTrouble({ dataType: moving.type }, row);
      if (trouble === null) return [];
      return [
        failure(
          `${scope} ${displayName(table)}`,
          `sharding key ${row.column} ${trouble}`,
          "Correct data_type of the rule in pgdog.toml, or the column's type or collation.",
        ),
      ];
    });
  });
}

/** A key that may be NULL, as pgbench's, is no matter as long as no row has it: NULL has no shard. */
async function checkNullKeys(world: World): Promise<readonly Finding[]> {
  return await eachShard(shardsOf(world, "source"), async (shard) => {
    const findings: Finding[] = [];
    for (const { facts, tableClass } of world.tables) {
      if (tableClass.kind !== "sharded") continue;
      const here = shard.tables.find((table) => sameTable(table, facts));
      const column = here?.columns.find(({ name }) => name === tableClass.column);
      if (here && column && !column.notNull)
        findings.push(await judgeNullKey(shard, here, column.name));
    }
    return findings;
  });
}

async function judgeNullKey(
  { client, scope }: ShardView,
  facts: TableFacts,
  column: string,
): Promise<Finding> {
  const table = quoteQualified(facts.schema, facts.name);
  const key = quoteIdentifier(column);
  const where = `${scope} ${displayName(facts)}`;
  const remedy = `ALTER TABLE ${table} ALTER COLUMN ${key} SET NOT NULL;`;
  const item = shortName(facts);
  try {
    const rows = await client.query(`SELECT FROM ONLY ${table} WHERE ${key} IS NULL LIMIT 1`);
    if (rows.rowCount !== 0)
      return failure(
        where,
        `rows have NULL as sharding key ${column}, and NULL has no shard`,
        remedy,
      );
  } catch (error) {
    if (sqlStateOf(error) !== SQLSTATE.queryCanceled) throw error;
    const evidence = `sharding key ${column} may be NULL, which has no shard; the table is too large to see in time whether a row has it: one would stop the copy`;
    return withGist(warning(where, evidence, remedy), {
      text: "the sharding key may be NULL, and it was not seen in time that no row has it: one would stop the copy",
      item,
    });
  }
  const evidence = `sharding key ${column} may be NULL, which has no shard; no row has it, and one that comes stops the migration, or is refused after the switch`;
  return withGist(warning(where, evidence, remedy), {
    text: "the sharding key may be NULL; no row has it, and one that comes stops the migration, or is refused after it",
    item,
  });
}

/** A misspelt rule would make its table omnisharded without a word. */
function checkRules({ destination, tables }: World): readonly Finding[] {
  return destination.shardedTables
    .filter((rule) => rule.name !== null)
    .filter(
      (rule) =>
        !tables.some(
          ({ facts }) =>
            [facts.name, facts.rootName].includes(rule.name) &&
            (rule.schema === null || [facts.schema, facts.rootSchema].includes(rule.schema)),
        ),
    )
    .map((rule) =>
      warning(
        `database ${destination.name}`,
        `the rule for table ${rule.name} in [[sharded_tables]] matches no moving table`,
        "Correct the rule's name or schema in pgdog.toml, or add the table to the publication.",
      ),
    );
}
