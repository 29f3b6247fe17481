import type { ColumnPlan, RangeKeyType, TablePlan } from "../model/migration.js";
import type { ColumnFacts, IndexFacts, TableFacts, TypeFacts } from "./catalog-facts.js";
import type { TableClass } from "./table-class.js";

export interface TablePlanInput {
  readonly facts: TableFacts;
  readonly tableClass: TableClass;
  readonly types: ReadonlyMap<number, TypeFacts>;
  /** `format_type` names without an extended hash function. */
  readonly unhashable: ReadonlySet<string>;
  /** Columns whose type on some destination shard is another. */
  readonly differingColumns: ReadonlySet<string>;
}

/** How one table is copied, applied and verified. Pure. */
export function planTable(input: TablePlanInput): TablePlan {
  const { facts, tableClass } = input;
  const identity = identityColumns(facts);
  const key = chooseKey(facts);
  const first = key ? findColumn(facts, key.columns[0]) : undefined;
  const rangeType = first ? rangeTypeOf(first) : null;
  return {
    schema: facts.schema,
    name: facts.name,
    kind: tableClass.kind,
    shardingColumn: tableClass.kind === "sharded" ? tableClass.column : null,
    shardingType: tableClass.kind === "sharded" ? tableClass.type : null,
    columns: sentColumns(facts).map((column) => planColumn(input, column, identity)),
    generated: facts.columns
      .filter((column) => column.isGenerated)
      .map((column) => planColumn(input, column, identity)),
    identity: identityKind(facts),
    keyColumns: key?.columns ?? null,
    rangeColumn: rangeType && first ? first.name : null,
    rangeType,
    otherUnique: facts.indexes.some((index) => isConstraining(index) && index.name !== key?.index),
    partitionRoot: facts.rootName,
  };
}

function planColumn(
  { types, unhashable, differingColumns }: TablePlanInput,
  column: ColumnFacts,
  identity: ReadonlySet<string>,
): ColumnPlan {
  const differs = differingColumns.has(column.name);
  return {
    name: column.name,
    type: column.type,
    notNull: column.notNull,
    binarySafe: !differs && isBinarySafe(types, column.typeOid),
    hashAsText: differs || unhashable.has(column.type),
    inIdentity: identity.has(column.name),
  };
}

/** Generated columns are computed again on the other side. */
export function sentColumns(facts: TableFacts): readonly ColumnFacts[] {
  return facts.columns.filter((column) => !column.isGenerated);
}

function findColumn(facts: TableFacts, name: string | null | undefined): ColumnFacts | undefined {
  return facts.columns.find((column) => column.name === name);
}

function identityKind(facts: TableFacts): TablePlan["identity"] {
  if (facts.replicaIdentity === "f") return "full";
  return facts.replicaIdentity === "i" ? "index" : "default";
}

/** The index whose columns the stream carries for the old row; undefined under FULL, NOTHING, or without one. */
function identityIndex(facts: TableFacts): IndexFacts | undefined {
  if (facts.replicaIdentity === "i") return facts.indexes.find((index) => index.isReplicaIdentity);
  // A deferrable primary key is no identity: its uniqueness does not hold between two statements.
  if (facts.replicaIdentity === "d")
    return facts.indexes.find((index) => index.isPrimary && index.isImmediate);
  return undefined;
}

/** Columns of the old row that the stream carries; empty: none, updates and deletes are refused or anonymous. */
export function identityColumns(facts: TableFacts): ReadonlySet<string> {
  if (facts.replicaIdentity === "f") return new Set(sentColumns(facts).map(({ name }) => name));
  const columns = identityIndex(facts)?.columns ?? [];
  return new Set(columns.filter((name) => name !== null));
}

interface Key {
  readonly index: string;
  readonly columns: readonly string[];
}

/**
 * R5: unique, NOT NULL, not deferrable, on plain columns that the stream carries. Under FULL the primary key
 * is preferred, then the key with the fewest columns; otherwise only the identity itself will do.
 */
function chooseKey(facts: TableFacts): Key | null {
  const identity = identityIndex(facts);
  if (facts.replicaIdentity !== "f") return identity ? asKey(facts, identity) : null;
  const keys = facts.indexes
    .toSorted((one, other) => rank(one) - rank(other))
    .map((index) => asKey(facts, index));
  return keys.find((key) => key !== null) ?? null;
}

function rank(index: IndexFacts): number {
  return index.isPrimary ? 0 : index.columns.length;
}

function asKey(facts: TableFacts, index: IndexFacts): Key | null {
  if (!index.isUnique || !index.isImmediate || !index.isValid || index.isPartial) return null;
  const columns = index.columns.map((name) => findColumn(facts, name));
  if (!columns.every((column) => column?.notNull === true && !column.isGenerated)) return null;
  return { index: index.name, columns: index.columns.filter((name) => name !== null) };
}

/** Keeps some rows out of the table: unique indexes, partial ones too, and exclusion constraints. */
export function isConstraining(index: IndexFacts): boolean {
  return index.isUnique || index.isExclusion;
}

/** Only types whose order our code repeats byte for byte (R5). */
function rangeTypeOf(column: ColumnFacts): RangeKeyType | null {
  switch (column.type) {
    case "smallint":
    case "integer":
    case "bigint":
      return "int";
    case "uuid":
      return "uuid";
    default:
      return null;
  }
}

/**
 * Whether the binary form means the same on another server. Arrays and composites carry OIDs, which
 * differ there for user-defined types; enums travel as labels and domains as their base type.
 */
function isBinarySafe(types: ReadonlyMap<number, TypeFacts>, oid: number): boolean {
  const type = types.get(oid);
  if (!type?.hasBinary || type.isOidAlias) return false;
  if (type.kind === "d") return isBinarySafe(types, type.baseOid);
  if (type.elementOid !== 0) {
    const element = types.get(type.elementOid);
    return element?.isBuiltIn === true && isBinarySafe(types, type.elementOid);
  }
  if (type.kind === "e") return true;
  return type.isBuiltIn && (type.kind === "b" || type.kind === "r" || type.kind === "m");
}
