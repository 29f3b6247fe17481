import type { SelectStmt } from "libpg-query";
import type { RoutedTable } from "./catalog.js";
import type { KeyTerm, ValueReader } from "./key-value.js";
import { keySpace, type Locator } from "./locators.js";

export interface TableConstraint {
  readonly terms: readonly KeyTerm[];
  /** Values of new rows: NULL is refused, where in a condition it means no row. */
  readonly isInserted: boolean;
}

/** A column of a table as a statement mentions it. */
export interface ColumnUse {
  readonly ref: TableRef;
  readonly column: string;
  /** The query in whose FROM it was found: conditions elsewhere say nothing of that query's rows. */
  readonly at: Block;
}

/** These two columns are equal, and not NULL, in rows that meet the condition. */
export type ColumnEquality = readonly [ColumnUse, ColumnUse];

/** A column of a view or subquery. */
export interface DerivedColumn {
  readonly name: string;
  /** Sorts by its bytes, if it is text. */
  readonly isBytewise: boolean;
  /** The table's column that it shows; null: an expression, or one of rows that we cannot tell. */
  readonly origin: Omit<ColumnUse, "at"> | null;
}

/**
 * Mentions of sharded tables whose rows are on one shard together, in every row of the query that all of
 * them are part of. (A row that an outer join has left out is nowhere, and fits everywhere.)
 */
export class Together {
  readonly members: TableRef[] = [];
  /** Rows of queries around this one that these are on one shard with. */
  readonly anchors: { readonly ref: TableRef; readonly at: Block }[] = [];

  /** Both are on one shard in all rows that are left. */
  absorb(other: Together): void {
    if (other === this) return;
    this.anchors.push(...other.anchors);
    this.#take(other);
  }

  /** These are on the shard of ours, or missing: what is known of them says nothing of ours. */
  attach(other: Together): void {
    if (other === this) return;
    for (const member of other.members) member.constraints.length = 0;
    this.#take(other);
  }

  #take(other: Together): void {
    for (const member of other.members) {
      member.together = this;
      this.members.push(member);
    }
  }
}

interface TableRefOptions {
  /** null: a subquery, a CTE, a view or a function. */
  readonly table: RoutedTable | null;
  readonly alias: string;
  readonly isAliased: boolean;
  readonly locators?: readonly Locator[];
  /** Of a subquery, CTE or view; null: not known. */
  readonly columns?: readonly DerivedColumn[] | null;
  /** The sharded tables below that its rows are made of, as far as they are rows of one shard each. */
  readonly located?: readonly TableRef[];
  /** Of a view that shows one table's rows. */
  readonly base?: TableRef | null;
}

/** One name in FROM: a table, with what is known of its key, or something that is made of tables. */
export class TableRef {
  readonly table: RoutedTable | null;
  readonly alias: string;
  readonly isAliased: boolean;
  readonly columns: readonly DerivedColumn[] | null;
  /** What it is made of that has a shard: itself, for a sharded table. */
  readonly located: readonly TableRef[];
  /** The table whose rows a write to this changes; null: PostgreSQL could not tell either. */
  readonly base: TableRef | null;
  locators: readonly Locator[];
  /** An outer join may put NULLs in the place of its rows. */
  isNullable = false;
  /** Values that a row's key must be among. */
  readonly constraints: TableConstraint[] = [];
  together = new Together();
  #names: ReadonlySet<string> | null = null;

  constructor({ table, alias, isAliased, ...more }: TableRefOptions) {
    this.table = table;
    this.alias = alias;
    this.isAliased = isAliased;
    this.columns = more.columns ?? null;
    this.locators = more.locators ?? [];
    this.base = table === null ? (more.base ?? null) : this;
    this.located = this.isSharded ? [this] : (more.located ?? []);
    this.together.members.push(this);
  }

  get isSharded(): boolean {
    return this.table?.kind === "sharded";
  }

  isKey(column: string): boolean {
    return this.isSharded && this.table?.rule?.column === column;
  }

  /** Names, here, of the base table's sharding key; several only where a view shows it twice. */
  get keyNames(): readonly string[] {
    const { base } = this;
    const key = base?.table?.rule?.column;
    if (base === this || !base) return key === undefined ? [] : [key];
    const isKey = ({ origin }: DerivedColumn) => origin?.ref === base && base.isKey(origin.column);
    return (this.columns ?? []).filter(isKey).map(({ name }) => name);
  }

  /** Of equal keys of one type: other hashes would differ for equal values. */
  join(other: TableRef): void {
    const [own, theirs] = [this.table?.rule, other.table?.rule];
    if (own && theirs && keySpace(own) === keySpace(theirs)) this.together.absorb(other.together);
  }

  hasColumn(column: string): boolean {
    if (this.table !== null && this.table.facts === null) return this.table.rule?.column === column;
    this.#names ??= new Set(this.columnNames);
    return this.#names.has(column);
  }

  /** As far as they are known, see `hasUnknownColumns`. */
  get columnNames(): readonly string[] {
    const columns = this.table === null ? this.columns : this.table.facts?.columns;
    return (columns ?? []).map(({ name }) => name);
  }

  get hasUnknownColumns(): boolean {
    if (this.table === null) return this.columns === null;
    return this.table.facts === null && this.table.kind !== "system";
  }

  /** The table's column behind one of its own. */
  originOf(column: string): Omit<ColumnUse, "at"> | null {
    if (this.table === null) {
      const named = (this.columns ?? []).filter((one) => one.name === column);
      return named.length === 1 ? (named[0]?.origin ?? null) : null;
    }
    return this.hasColumn(column) ? { ref: this, column } : null;
  }
}

/** No row that is there has NULL in it. */
export function isNeverNull({ ref, column }: Omit<ColumnUse, "at">): boolean {
  if (ref.isNullable) return false;
  if (ref.isKey(column)) return true;
  const facts = ref.table?.facts?.columns.find((one) => one.name === column);
  return facts?.isNotNull === true;
}

/** A query of WITH that is taken in the place of its mentions. */
export interface Cte {
  readonly select: SelectStmt;
  /** Where it stands. */
  readonly home: Block;
  readonly columns: readonly string[];
}

/** One SELECT, UPDATE, DELETE or INSERT with its own FROM. */
export class Block {
  readonly parent: Block | null;
  /** Names in FROM. */
  readonly refs: TableRef[] = [];
  /** Sharded tables that its rows are made of, those within views and plain subqueries too. */
  readonly located: TableRef[] = [];
  /** null: a name of WITH whose query we do not look into. */
  readonly ctes: Map<string, Cte | null>;
  /** Columns of JOIN ... USING: of several tables, yet not ambiguous. */
  readonly merged = new Set<string>();
  /** Columns that are equal in each of its rows. */
  readonly equalities: ColumnEquality[] = [];
  /** A table that is no part of a shard's rows keeps rows where a sharded one has no match. */
  preservesOutside = false;
  /** What it reads is in an order that nothing of its own asks for. */
  hasInnerOrder = false;
  /** Reads the constants of its text; null: the client's. */
  readonly reader: ValueReader | null;

  constructor(parent: Block | null, reader: ValueReader | null = null) {
    this.parent = parent;
    this.ctes = new Map(parent?.ctes);
    this.reader = reader ?? parent?.reader ?? null;
  }

  /** A place beside its FROM: sees the queries around and the CTEs, and not its tables. */
  besides(): Block {
    const place = new Block(this.parent, this.reader);
    for (const [name, cte] of this.ctes) place.ctes.set(name, cte);
    return place;
  }

  /** @param names of a column, with or without its table and schema */
  column(names: readonly string[]): ColumnUse | null {
    const column = names.at(-1) ?? "";
    const found = names.length === 1 ? named(column, this) : qualified(names, this);
    const origin = found?.ref.originOf(column);
    return found && origin ? { ...origin, at: found.at } : null;
  }
}

interface Found {
  readonly ref: TableRef;
  readonly at: Block;
}

function named(column: string, block: Block): Found | null {
  const owners = block.refs.filter((ref) => ref.hasColumn(column));
  const [first] = owners;
  if (first !== undefined && (owners.length === 1 || block.merged.has(column))) {
    return { ref: first, at: block };
  }
  // Ambiguous, or perhaps a column of something whose columns we do not know.
  if (owners.length > 1 || block.refs.some((ref) => ref.hasUnknownColumns)) return null;
  return block.parent === null ? null : named(column, block.parent);
}

function qualified(names: readonly string[], block: Block): Found | null {
  const [schema, name] = names.length > 2 ? [names.at(-3), names.at(-2)] : [null, names.at(-2)];
  const ref = block.refs.find(
    (one) =>
      one.alias === name && (schema === null || (!one.isAliased && one.table?.schema === schema)),
  );
  if (ref !== undefined) return { ref, at: block };
  return block.parent === null ? null : qualified(names, block.parent);
}
