import { keyTrouble } from "../topology/key-column.js";
import type { ShardedTable } from "../topology/topology.js";
import {
  type ColumnFacts,
  equalityOf,
  type ForeignKeyFacts,
  type TableFacts,
} from "./schema-facts.js";

const KEY_TYPES = ["bigint", "uuid", "varchar"] as const;

/**
 * Columns whose values say where a row is: rows of two tables that are equal in locators of one space are on
 * the same shard. These are
 * - the sharding key;
 * - a unique key whose values come from a sequence or are uuids, as those of different shards never meet, and
 *   any unique key that a foreign key of a sharded table references;
 * - the columns of a foreign key, as every shard sees to it that the row which they name is its own.
 */
export interface Locator {
  readonly space: string;
  readonly columns: readonly string[];
}

export interface LocatedTable {
  readonly facts: TableFacts;
  readonly rule: ShardedTable;
}

/** Of a table by its schema and name. */
export type Locators = (table: TableFacts) => readonly Locator[];

/** @param tables all sharded ones, without views */
export function locatorsOf(tables: readonly LocatedTable[]): Locators {
  const referenced = new Set(
    tables.flatMap(({ facts }) =>
      facts.foreignKeys.map((key) => spaceOf(key.schema, key.table, key.referenced)),
    ),
  );
  const found = new Map(tables.map((table) => [idOf(table.facts), ownLocators(table, referenced)]));
  // A key may lead to a row that is itself named by a key: as long as that tells something new.
  for (let hasChanged = true; hasChanged; ) {
    hasChanged = false;
    for (const { facts } of tables) {
      const own = found.get(idOf(facts)) ?? [];
      for (const key of facts.foreignKeys) {
        const others = found.get(`${key.schema}.${key.table}`) ?? [];
        for (const locator of others.flatMap((one) => led(one, key, facts))) {
          if (own.some((one) => isSame(one, locator))) continue;
          own.push(locator);
          hasChanged = true;
        }
      }
    }
  }
  return (facts) => found.get(idOf(facts)) ?? [];
}

/** Space of sharding keys of one type: other types have other hashes. */
export function keySpace(rule: Pick<ShardedTable, "dataType">): string {
  return `key ${rule.dataType}`;
}

function ownLocators({ facts, rule }: LocatedTable, referenced: ReadonlySet<string>): Locator[] {
  const locators: Locator[] = [{ space: keySpace(rule), columns: [rule.column] }];
  for (const columns of facts.uniqueKeys) {
    const space = spaceOf(facts.schema, facts.name, columns);
    const [only, other] = columns;
    const column = other === undefined ? facts.columns.find((one) => one.name === only) : undefined;
    const isDrawn = column !== undefined && isDrawnId(column);
    if (isDrawn || referenced.has(space)) locators.push({ space, columns: [...columns].sort() });
  }
  return locators;
}

const DRAWN = /\bnextval\(|\b(gen_random_uuid|uuid_generate_\w+|uuidv[47])\(/;

function isDrawnId({ isIdentity, defaultSql, type }: ColumnFacts): boolean {
  return isIdentity || type === "uuid" || (defaultSql !== null && DRAWN.test(defaultSql));
}

/** A locator of the referenced table, as the referencing columns have it. */
function led(locator: Locator, key: ForeignKeyFacts, facts: TableFacts): readonly Locator[] {
  const places = locator.columns.map((column) => key.referenced.indexOf(column));
  if (places.some((place) => place < 0)) return [];
  // A NULL in any of its columns, and the key holds for nothing.
  const others = key.columns.filter((_, place) => !places.includes(place));
  const isNeverNull = (name: string) =>
    facts.columns.some((column) => column.name === name && column.isNotNull);
  if (!key.isFull && !others.every(isNeverNull)) return [];
  if (!isHashedAlike(locator.space, key.columns[places[0] ?? -1], facts)) return [];
  return [{ space: locator.space, columns: places.map((place) => key.columns[place] ?? "") }];
}

/** A value of a referencing column is hashed where the space is a key's; character(n) has blanks that count for nothing. */
function isHashedAlike(space: string, name: string | undefined, facts: TableFacts): boolean {
  const dataType = KEY_TYPES.find((one) => space === keySpace({ dataType: one }));
  if (dataType === undefined) return true;
  const column = facts.columns.find((one) => one.name === name);
  return column !== undefined && keyTrouble({ dataType }, equalityOf(column)) === null;
}

function isSame(one: Locator, other: Locator): boolean {
  return one.space === other.space && one.columns.join("\0") === other.columns.join("\0");
}

function idOf({ schema, name }: TableFacts): string {
  return `${schema}.${name}`;
}

function spaceOf(schema: string, table: string, columns: readonly string[]): string {
  return JSON.stringify([schema, table, [...columns].sort()]);
}
