import { quoteIdentifier, quoteQualified } from "../../core/identifier.js";
import type { TableFacts } from "./catalog-facts.js";
import {
  generatedColumns,
  type IdentityToSet,
  identityStatement,
  identityWords,
  planIdentity,
} from "./planned-identity.js";
import { SHARDING_KEY_CHECKS } from "./sharding-key-checks.js";
import { eachSourceTable } from "./source-tables.js";
import { identityColumns } from "./table-plan.js";
import { UNIQUE_CHECKS } from "./unique-checks.js";
import {
  displayName,
  type Finding,
  failure,
  type MovingTable,
  note,
  type PreflightCheck,
  type ShardView,
  sameTable,
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
  ...SHARDING_KEY_CHECKS,
  ...UNIQUE_CHECKS,
];

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
      ? "REPLICA IDENTITY FULL: whole old rows in the WAL, and for other readers of its changes"
      : "REPLICA IDENTITY USING a unique INDEX: other readers of its changes get its old values";
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
