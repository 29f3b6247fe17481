import { quoteIdentifier, quoteQualified } from "../../core/identifier.js";
import type { ShardedTableRule } from "../context.js";
import type { TableFacts } from "./catalog-facts.js";
import { identityColumns, isConstraining } from "./table-plan.js";
import {
  displayName,
  type Finding,
  failure,
  type MovingTable,
  type PreflightCheck,
  shardsOf,
  type World,
  warning,
} from "./world.js";

/** What a table's keys must be, so that every change names its row and the row's shard. */
export const IDENTITY_CHECKS: readonly PreflightCheck[] = [
  {
    id: "replica-identity",
    fine: "every moving table has a replica identity",
    run: (world) => eachSourceTable(world, checkIdentity),
  },
  {
    id: "identity-has-sharding-key",
    fine: "every replica identity contains the sharding key",
    run: (world) => eachSourceTable(world, checkIdentityShardingKey),
  },
  {
    id: "sharding-key",
    fine: "every sharded table has its sharding key, NOT NULL and of the rule's type",
    run: (world) => eachSourceTable(world, checkShardingKey),
  },
  {
    id: "sharding-rules",
    fine: "every sharding rule matches a table",
    run: checkRules,
  },
  {
    id: "unique-without-sharding-key",
    fine: "every unique constraint of a sharded table contains the sharding key",
    run: checkUnique,
  },
];

type TableCheck = (table: MovingTable, scope: string) => readonly Finding[];

/** Each source shard's own facts, under the class that the destination's rules give the table. */
function eachSourceTable(world: World, look: TableCheck): readonly Finding[] {
  return shardsOf(world, "source").flatMap((shard) =>
    world.tables.flatMap(({ facts, tableClass }) => {
      const here = shard.tables.find(
        (table) => table.schema === facts.schema && table.name === facts.name,
      );
      return here ? look({ facts: here, tableClass }, `${shard.scope} ${displayName(here)}`) : [];
    }),
  );
}

function checkIdentity({ facts, tableClass }: MovingTable, scope: string): readonly Finding[] {
  const remedy = identityRemedy(facts, tableClass.kind === "sharded" ? tableClass.column : null);
  if (facts.replicaIdentity === "n")
    return [failure(scope, "REPLICA IDENTITY is NOTHING: updates and deletes name no row", remedy)];
  if (identityColumns(facts).size === 0)
    return [failure(scope, "the table has no replica identity (no usable primary key)", remedy)];
  const generated = facts.columns.filter(
    (column) => column.isGenerated && identityColumns(facts).has(column.name),
  );
  if (generated.length > 0)
    return [
      failure(
        scope,
        `the replica identity contains generated column ${generated[0]?.name}, which the stream does not carry`,
        `ALTER TABLE ${quoteQualified(facts.schema, facts.name)} REPLICA IDENTITY FULL;`,
      ),
    ];
  const hasKey = facts.indexes.some((index) => index.isUnique && !index.isPartial);
  if (facts.replicaIdentity === "f" && !hasKey)
    return [
      warning(
        scope,
        "REPLICA IDENTITY is FULL and no key exists: changes are applied row by row, and each searches the table",
        `ALTER TABLE ${quoteQualified(facts.schema, facts.name)} ADD PRIMARY KEY (...);`,
      ),
    ];
  return [];
}

/** R9: else an update or delete never names the shard that the old row is on. */
function checkIdentityShardingKey(
  { facts, tableClass }: MovingTable,
  scope: string,
): readonly Finding[] {
  if (tableClass.kind !== "sharded") return [];
  const identity = identityColumns(facts);
  if (identity.size === 0 || identity.has(tableClass.column)) return [];
  if (!facts.columns.some((column) => column.name === tableClass.column)) return [];
  return [
    failure(
      scope,
      `the replica identity (${[...identity].join(", ")}) does not contain the sharding key ${tableClass.column}`,
      identityRemedy(facts, tableClass.column),
    ),
  ];
}

/** Statements to type, before the migration starts. */
function identityRemedy(facts: TableFacts, shardingColumn: string | null): string {
  const table = quoteQualified(facts.schema, facts.name);
  const notNull = (name: string) =>
    facts.columns.some((column) => column.name === name && column.notNull && !column.isGenerated);
  const fits = facts.indexes.find(
    (index) =>
      index.isUnique &&
      index.isImmediate &&
      index.isValid &&
      !index.isPartial &&
      (shardingColumn === null || index.columns.includes(shardingColumn)) &&
      index.columns.every((name) => name !== null && notNull(name)),
  );
  if (fits?.isPrimary) return `ALTER TABLE ${table} REPLICA IDENTITY DEFAULT;`;
  if (fits) return useIndex(table, fits.name);
  const key = facts.indexes
    .find((index) => index.isPrimary && index.isImmediate)
    ?.columns.filter((name) => name !== null);
  if (!key || shardingColumn === null) return `ALTER TABLE ${table} REPLICA IDENTITY FULL;`;
  const columns = [...key, shardingColumn].map(quoteIdentifier).join(", ");
  const index = `${facts.name.slice(0, 40)}_sluice_identity`;
  return [
    ...(notNull(shardingColumn)
      ? []
      : [`ALTER TABLE ${table} ALTER COLUMN ${quoteIdentifier(shardingColumn)} SET NOT NULL;`]),
    `CREATE UNIQUE INDEX CONCURRENTLY ${quoteIdentifier(index)} ON ${table} (${columns});`,
    useIndex(table, index),
  ].join(" ");
}

function useIndex(table: string, index: string): string {
  return `ALTER TABLE ${table} REPLICA IDENTITY USING INDEX ${quoteIdentifier(index)};`;
}

const FITTING_TYPES: Readonly<Record<ShardedTableRule["dataType"], RegExp>> = {
  bigint: /^(smallint|integer|bigint)$/,
  uuid: /^uuid$/,
  // Not character(n): its padding is hashed by a server and not by a client's literal.
  varchar: /^(text|character varying(\(\d+\))?)$/,
};

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
  if (!FITTING_TYPES[tableClass.type].test(column.type))
    findings.push(
      failure(
        scope,
        `sharding key ${column.name} is ${column.type}; the rule's data_type ${tableClass.type} does not fit it`,
        "Correct data_type of the rule in pgdog.toml.",
      ),
    );
  if (column.isGenerated)
    findings.push(
      failure(
        scope,
        `sharding key ${column.name} is a generated column, which the stream does not carry`,
        `ALTER TABLE ${table} ALTER COLUMN ${quoteIdentifier(column.name)} DROP EXPRESSION;`,
      ),
    );
  if (!column.notNull)
    findings.push(
      failure(
        scope,
        `sharding key ${column.name} may be NULL, and NULL has no shard`,
        `ALTER TABLE ${table} ALTER COLUMN ${quoteIdentifier(column.name)} SET NOT NULL;`,
      ),
    );
  return findings;
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

/** R33: the old side may refuse on the way back what two shards could both accept. */
function checkUnique(world: World): readonly Finding[] {
  const isAccepted = world.policy.acceptUniqueWithoutShardingKey;
  return eachSourceTable(world, ({ facts, tableClass }, scope) => {
    if (tableClass.kind !== "sharded") return [];
    return facts.indexes
      .filter((index) => isConstraining(index) && !index.columns.includes(tableClass.column))
      .map((index) =>
        (isAccepted ? warning : failure)(
          scope,
          `unique index ${index.name} does not contain the sharding key ${tableClass.column}: two shards may each accept a value, so rollback is not guaranteed`,
          isAccepted
            ? ""
            : `Add ${tableClass.column} to the constraint, or accept it: [copy] accept_unique_without_sharding_key = true in sluice.toml.`,
        ),
      );
  });
}
