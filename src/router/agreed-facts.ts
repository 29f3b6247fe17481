import type { ColumnFacts, FunctionFacts, SchemaFactsLists, TableFacts } from "./schema-facts.js";

/** What holds on every shard. */
export interface AgreedFacts {
  readonly lists: SchemaFactsLists;
  /** Tables, with their schemas, that are not the same on all of them. */
  readonly unlike: readonly string[];
}

/**
 * The facts of several shards as those of one. Where they differ, only what all of them say is kept: a foreign key that
 * one shard lacks puts no rows together, a default that is another there is drawn on the first shard. The first one's
 * order of columns stands, as statements name them.
 * @param shards at least one, the first shard first
 */
export function agreedFacts(shards: readonly SchemaFactsLists[]): AgreedFacts {
  const [first, ...others] = shards;
  if (first === undefined) throw new Error("no shard has said what its tables are");
  const unlike = new Set<string>();
  const lists = others.reduce((known, other) => agree(known, other, unlike), first);
  return { lists, unlike: [...unlike].sort() };
}

function agree(
  one: SchemaFactsLists,
  other: SchemaFactsLists,
  unlike: Set<string>,
): SchemaFactsLists {
  const theirs = new Map(other.tables.map((table) => [nameOf(table), table]));
  const tables = one.tables.map((table) => {
    const found = theirs.get(nameOf(table));
    theirs.delete(nameOf(table));
    if (found !== undefined && isSame(table, found)) return table;
    unlike.add(nameOf(table));
    return found === undefined ? table : agreedTable(table, found);
  });
  for (const name of theirs.keys()) unlike.add(name);
  return {
    tables: [...tables, ...theirs.values()],
    functions: agreedFunctions(one.functions, other.functions),
    enums: Object.fromEntries(
      Object.entries(one.enums).filter(([name, labels]) => isSame(labels, other.enums[name])),
    ),
    isBytewise: one.isBytewise && other.isBytewise,
    hasLooseCollations: one.hasLooseCollations || other.hasLooseCollations,
    hasGuardFunctions: one.hasGuardFunctions && other.hasGuardFunctions,
  };
}

function agreedTable(one: TableFacts, other: TableFacts): TableFacts {
  const common = <T>(list: readonly T[], others: readonly T[]) =>
    list.filter((item) => others.some((another) => isSame(item, another)));
  const union = <T>(list: readonly T[], others: readonly T[]) => [
    ...list,
    ...others.filter((item) => !list.some((another) => isSame(item, another))),
  ];
  const isOtherKind = one.isTable !== other.isTable || !isSame(one.view, other.view);
  return {
    ...one,
    isUnlike: isOtherKind || one.isUnlike === true || other.isUnlike === true,
    keyColumns: isSame(one.keyColumns, other.keyColumns) ? one.keyColumns : [],
    triggers: union(one.triggers, other.triggers),
    isGuarded: one.isGuarded && other.isGuarded,
    actsOn: union(one.actsOn, other.actsOn),
    columns: agreedColumns(one.columns, other.columns),
    referringKeys: union(one.referringKeys, other.referringKeys),
    hasUpdateTriggers: one.hasUpdateTriggers || other.hasUpdateTriggers,
    sources: union(one.sources, other.sources),
    uniqueKeys: common(one.uniqueKeys, other.uniqueKeys),
    foreignKeys: common(one.foreignKeys, other.foreignKeys),
  };
}

/** One that a shard lacks is kept: PostgreSQL refuses there who names it. */
function agreedColumns(
  columns: readonly ColumnFacts[],
  others: readonly ColumnFacts[],
): readonly ColumnFacts[] {
  return columns.map((column) => {
    const other = others.find(({ name }) => name === column.name);
    if (other === undefined) return { ...column, isNotNull: false, hasOtherDefault: true };
    return {
      ...column,
      isNotNull: column.isNotNull && other.isNotNull,
      isBytewise: column.isBytewise && other.isBytewise,
      isDeterministic: column.isDeterministic && other.isDeterministic,
      hasOtherDefault:
        column.defaultSql !== other.defaultSql || column.isIdentity !== other.isIdentity,
    };
  });
}

const VOLATILITY = ["immutable", "stable", "volatile"] as const;

/** The most that any of them may do. */
function agreedFunctions(
  functions: readonly FunctionFacts[],
  others: readonly FunctionFacts[],
): readonly FunctionFacts[] {
  const theirs = new Map(others.map((one) => [one.name, one]));
  return functions.flatMap((one) => {
    const other = theirs.get(one.name);
    if (other === undefined) return [];
    const most = Math.max(VOLATILITY.indexOf(one.volatility), VOLATILITY.indexOf(other.volatility));
    return {
      name: one.name,
      volatility: VOLATILITY[most] ?? "volatile",
      isAggregate: one.isAggregate || other.isAggregate,
      isBuiltIn: one.isBuiltIn && other.isBuiltIn,
    };
  });
}

function nameOf({ schema, name }: TableFacts): string {
  return `${schema}.${name}`;
}

function isSame(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
