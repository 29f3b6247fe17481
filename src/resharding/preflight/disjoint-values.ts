import type { ColumnFacts, ForeignKeyFacts, IndexFacts, TableFacts } from "./catalog-facts.js";
import { isConstraining } from "./table-plan.js";
import { type MovingTable, sameTable, shortName, type World } from "./world.js";

/** A unique index of a sharded table that does not hold the sharding key: after the switch a shard sees to its own. */
export interface LooseUnique {
  readonly index: IndexFacts;
  /** "table.index (columns)", of schema public and of partitions as `shortName` has it. */
  readonly name: string;
  /** Why no value is ever on two shards, in words; null: nothing keeps the values apart. */
  readonly apartBy: string | null;
}

/**
 * R33: what two shards could each accept and the old side would refuse on the way back. Values that are drawn from
 * our disjoint sequences (R35) or are random uuids, and values that must exist on the same shard in a row that is
 * only there, cannot meet. Pure.
 */
export function looseUniques(world: World, table: MovingTable): readonly LooseUnique[] {
  const { facts, tableClass } = table;
  if (tableClass.kind !== "sharded" || world.destination.shards.length < 2) return [];
  return facts.indexes
    .filter((index) => isConstraining(index) && !index.columns.includes(tableClass.column))
    .map((index) => ({
      index,
      name: `${shortName(facts)}.${index.name} (${index.columns.map((name) => name ?? "expression").join(", ")})`,
      apartBy: index.isExclusion ? null : keepApart(world, facts, index),
    }));
}

/** The names of those that the way back depends on. */
export function rollbackDependsOn(world: World, table: MovingTable): readonly string[] {
  return looseUniques(world, table)
    .filter(({ apartBy }) => apartBy === null)
    .map(({ name }) => name);
}

function keepApart(world: World, facts: TableFacts, index: IndexFacts): string | null {
  const names = index.columns.filter((name) => name !== null);
  // Two NULLs are different values but to NULLS NOT DISTINCT.
  const counted = index.isNullsNotDistinct
    ? names.filter((name) => facts.columns.some((one) => one.name === name && one.notNull))
    : names;
  return apartBy(world, facts, { columns: counted, seen: [] });
}

interface Question {
  readonly columns: readonly string[];
  /** Tables on the way here: foreign keys may go in circles. */
  readonly seen: readonly string[];
}

/** One column, or one foreign key, that is kept apart keeps every combination with it apart. */
function apartBy(world: World, facts: TableFacts, { columns, seen }: Question): string | null {
  const declared = rootOf(world, facts).columns;
  for (const name of columns) {
    const how = drawnFrom(declared.find((column) => column.name === name));
    if (how !== null) return how;
  }
  const id = `${facts.schema}.${facts.name}`;
  if (seen.includes(id)) return null;
  for (const key of foreignKeysOf(world, facts)) {
    if (!key.columns.every((name) => columns.includes(name))) continue;
    const target = findTable(world, key);
    if (target?.tableClass.kind !== "sharded") continue;
    const isByKey = key.referencedColumns.includes(target.tableClass.column);
    const next = { columns: key.referencedColumns, seen: [...seen, id] };
    if (isByKey || apartBy(world, target.facts, next) !== null)
      return `rows of ${shortName(target.facts)} that are on one shard only`;
  }
  return null;
}

/** As they are, and not what is made of them; perhaps as another type. */
const SEQUENCE = /^\(?nextval\('(?:[^']|'')+'::regclass\)\)?(?:::[\w ]+)?$/;
const RANDOM_UUID =
  /^\(?(?:[\w"]+\.)?(?:gen_random_uuid|uuidv4|uuidv7|uuid_generate_v4|uuid_generate_v1mc)\(\)\)?(?:::[\w ]+)?$/;

function drawnFrom(column: ColumnFacts | undefined): string | null {
  if (!column) return null;
  if (column.isIdentity || SEQUENCE.test(column.defaultSql ?? "")) return "a sequence";
  if (RANDOM_UUID.test(column.defaultSql ?? "")) return "random uuids";
  // Drawn by clients, as frameworks do: made to be unique in the world.
  return column.type === "uuid" && column.defaultSql === null ? "uuids" : null;
}

/** Before 17 a partition's columns do not say that its root draws them. */
function rootOf(world: World, facts: TableFacts): TableFacts {
  if (facts.rootName === null || facts.rootSchema === null) return facts;
  const name = { schema: facts.rootSchema, name: facts.rootName };
  const shard = world.shards.find((view) => view.side === "source");
  return shard?.tables.find((table) => sameTable(table, name)) ?? facts;
}

function foreignKeysOf(world: World, facts: TableFacts): readonly ForeignKeyFacts[] {
  return world.foreignKeys.filter(
    (key) =>
      (key.schema === facts.schema && key.table === facts.name) ||
      (key.schema === facts.rootSchema && key.table === facts.rootName),
  );
}

function findTable(world: World, key: ForeignKeyFacts): MovingTable | undefined {
  return world.tables.find(
    ({ facts }) =>
      sameTable(facts, { schema: key.referencedSchema, name: key.referencedTable }) ||
      (facts.rootSchema === key.referencedSchema && facts.rootName === key.referencedTable),
  );
}
