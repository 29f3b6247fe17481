import { quoteIdentifier, quoteQualified } from "../../core/identifier.js";
import type { ShardedTableRule } from "../context.js";
import type { TableFacts } from "./catalog-facts.js";
import { type LooseUnique, looseUniques } from "./disjoint-values.js";
import {
  generatedColumns,
  type IdentityToSet,
  identityStatement,
  identityWords,
  planIdentity,
} from "./planned-identity.js";
import { identityColumns } from "./table-plan.js";
import {
  displayName,
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

/** What a table's keys must be, so that every change names its row and the row's shard. */
export const IDENTITY_CHECKS: readonly PreflightCheck[] = [
  {
    id: "replica-identity",
    fine: "every moving table has a replica identity",
    run: (world) => eachSourceTable(world, (table, _, shard) => checkIdentity(world, table, shard)),
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

type TableCheck = (table: MovingTable, scope: string, shard: ShardView) => readonly Finding[];

/** Each source shard's own facts, under the class that the destination's rules give the table. */
function eachSourceTable(world: World, look: TableCheck): readonly Finding[] {
  return shardsOf(world, "source").flatMap((shard) =>
    world.tables.flatMap(({ facts, tableClass }) => {
      const here = shard.tables.find(
        (table) => table.schema === facts.schema && table.name === facts.name,
      );
      if (!here) return [];
      return look({ facts: here, tableClass }, `${shard.scope} ${displayName(here)}`, shard);
    }),
  );
}

function checkIdentity(
  world: World,
  { facts, tableClass }: MovingTable,
  shard: ShardView,
): readonly Finding[] {
  const scope = `${shard.scope} ${displayName(facts)}`;
  const { set, facts: planned } = planIdentity(facts, tableClass);
  if (planned.replicaIdentity === "f" && hasUnpublishable(facts, shard))
    return [
      failure(
        scope,
        `whole rows would be the replica identity, and PostgreSQL 18 then refuses updates and deletes, as column ${generatedColumns(facts)[0]} is generated`,
        `ALTER TABLE ${quoteQualified(facts.schema, facts.name)} ADD PRIMARY KEY (...);`,
      ),
    ];
  const unlike = compareIdentity(world, { facts: planned, tableClass }, shard);
  if (set === null || unlike.length > 0) return [...unlike, ...slow(planned)];
  if (world.policy.replicaIdentity === "refuse")
    return [
      failure(
        scope,
        `${unusableWhy(facts)}, and [copy] replica_identity of sluice.toml is "refuse"`,
        identityStatement(facts, set),
      ),
    ];
  return [tellIdentity(facts, set, shard), ...slow(planned)];
}

/** From 18 on; our publication leaves generated columns out. */
function hasUnpublishable(facts: TableFacts, shard: ShardView): boolean {
  return shard.serverVersion >= 180_000 && generatedColumns(facts).length > 0;
}

function unusableWhy(facts: TableFacts): string {
  if (facts.replicaIdentity === "n") return "REPLICA IDENTITY is NOTHING";
  const generated = generatedColumns(facts).find((name) => identityColumns(facts).has(name));
  return generated === undefined
    ? "the table has no replica identity (no usable primary key)"
    : `the replica identity contains generated column ${generated}, which the stream does not carry`;
}

/** R58: other readers of the table's changes see the difference, so it is said what they will see. */
function tellIdentity(facts: TableFacts, set: IdentityToSet, shard: ShardView): Finding {
  const others = shard.otherPublications.filter(({ oid }) => oid === facts.oid);
  const names = [...new Set(others.map(({ publication }) => quoteIdentifier(publication)))];
  const carried = set.kind === "full" ? "its whole old row" : "its old key";
  const evidence = [
    `${unusableWhy(facts)}; Sluice will set ${identityWords(set)} before its publication names it, and put back what was there when the migration ends`,
    `every other reader of its changes then gets ${carried} with each update and delete`,
    ...(names.length > 0
      ? [`its updates and deletes, which publication ${names.join(", ")} makes fail now, then work`]
      : []),
  ].join("; ");
  const text =
    set.kind === "full"
      ? "get REPLICA IDENTITY FULL, until the migration ends: whole old rows in the WAL and for its other readers"
      : "get a unique index as replica identity, until the migration ends: other readers get its old values";
  return withGist(note(`${shard.scope} ${displayName(facts)}`, evidence), {
    text,
    item: set.kind === "full" ? shortName(facts) : `${shortName(facts)} USING INDEX ${set.index}`,
  });
}

/** The stream of each source shard must carry what the plan, made from the first one, says. */
function compareIdentity(
  world: World,
  { facts, tableClass }: MovingTable,
  shard: ShardView,
): readonly Finding[] {
  const first = world.tables.find((table) => sameTable(table.facts, facts));
  if (!first) return [];
  const wanted = planIdentity(first.facts, tableClass).facts;
  if (describeIdentity(facts) === describeIdentity(wanted)) return [];
  return [
    failure(
      `${shard.scope} ${displayName(facts)}`,
      `the replica identity is ${describeIdentity(facts)}, on source/0 it is ${describeIdentity(wanted)}`,
      "Give the table the same REPLICA IDENTITY on every source shard.",
    ),
  ];
}

const IDENTITY_WORDS = { d: "the primary key", i: "an index", f: "FULL", n: "NOTHING" } as const;

function describeIdentity(facts: TableFacts): string {
  const columns = facts.replicaIdentity === "f" ? [] : [...identityColumns(facts)].toSorted();
  const list = columns.length === 0 ? "" : ` (${columns.join(", ")})`;
  return `${IDENTITY_WORDS[facts.replicaIdentity]}${list}`;
}

function slow(facts: TableFacts): readonly Finding[] {
  const hasKey = facts.indexes.some((index) => index.isUnique && !index.isPartial);
  if (facts.replicaIdentity !== "f" || hasKey) return [];
  return [
    withGist(
      warning(
        displayName(facts),
        "no key exists: updates and deletes are applied row by row, and each searches the table",
        `ALTER TABLE ${quoteQualified(facts.schema, facts.name)} ADD PRIMARY KEY (...);`,
      ),
      {
        text: "no key: updates and deletes are applied row by row, and each searches the table (inserts do not)",
        item: shortName(facts),
      },
    ),
  ];
}

/** R9: the stream does not say which shard the old row is on; correct all the same, at a price. */
function checkIdentityShardingKey(
  { facts, tableClass }: MovingTable,
  scope: string,
): readonly Finding[] {
  if (tableClass.kind !== "sharded") return [];
  const planned = planIdentity(facts, tableClass).facts;
  const identity = identityColumns(planned);
  if (identity.size === 0 || identity.has(tableClass.column)) return [];
  if (!facts.columns.some((column) => column.name === tableClass.column)) return [];
  return [
    withGist(
      note(
        scope,
        `the replica identity (${[...identity].join(", ")}) does not contain the sharding key ${tableClass.column}: a delete is sent to every shard, and an update that moves a row is settled from the source`,
      ),
      {
        text: "no sharding key in the replica identity: a delete goes to every shard, an update that moves a row is settled from the source",
        item: shortName(facts),
      },
    ),
  ];
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
  return eachSourceTable(world, (table, scope) =>
    looseUniques(world, table).map((unique) => judgeUnique(world, { ...unique, table, scope })),
  );
}

const EACH_ITS_OWN =
  'each shard sees to its own, the proxy refuses nothing, and a value taken on two shards makes the way back "not ready", with both rows named by their keys';

function judgeUnique(
  { policy }: World,
  found: LooseUnique & { readonly table: MovingTable; readonly scope: string },
): Finding {
  const { scope, index, name, apartBy } = found;
  const { tableClass } = found.table;
  const column = tableClass.kind === "sharded" ? tableClass.column : "";
  const columns = index.columns.map((one) => one ?? "expression").join(", ");
  const what = `unique index ${index.name} (${columns}) does not contain the sharding key ${column}`;
  if (apartBy !== null)
    return withGist(
      note(scope, `${what}; its values are ${apartBy}, so no two shards take the same`),
      {
        text: "no sharding key, and kept apart all the same: from sequences, uuids, or of rows of one shard",
        item: name,
      },
    );
  const remedy = `To have it refused by PostgreSQL over all shards, add ${column} to the constraint.`;
  if (policy.uniqueWithoutShardingKey === "refuse")
    return failure(
      scope,
      `${what}: ${EACH_ITS_OWN}`,
      `${remedy} Or accept it: [copy] unique_without_sharding_key = "warn" in sluice.toml.`,
    );
  return withGist(warning(scope, `${what}: ${EACH_ITS_OWN}`, remedy), {
    text: `no sharding key: ${EACH_ITS_OWN}`,
    item: name,
  });
}
