import type {
  CommonTableExpr,
  FuncCall,
  Node,
  RangeVar,
  SelectStmt,
  WithClause,
} from "libpg-query";
import { lastName, namesOf, walk } from "../sql/ast.js";
import type { Catalog, RoutedTable } from "./catalog.js";
import { type FunctionNature, natureOf } from "./functions.js";
import type { KeyTerm, ValueReader } from "./key-value.js";
import { Refusal } from "./refusal.js";

export interface TableConstraint {
  readonly terms: readonly KeyTerm[];
  /** Only for this table's own rows, not for those it is joined with (ON of an outer join). */
  readonly isWeak: boolean;
  /** Values of new rows: NULL is refused, where in a condition it means no row. */
  readonly isInserted: boolean;
}

/** One mention of a table, with what is known of its key. */
export class TableRef {
  /** null: a subquery, a CTE or a function. */
  readonly table: RoutedTable | null;
  readonly alias: string;
  readonly isAliased: boolean;
  readonly block: Block;
  /** An outer join may put NULLs in the place of its rows. */
  isNullable = false;
  /** Values that a row's key must be among. */
  readonly constraints: TableConstraint[] = [];
  #joined: TableRef = this;

  constructor(table: RoutedTable | null, alias: string, isAliased: boolean, block: Block) {
    this.table = table;
    this.alias = alias;
    this.isAliased = isAliased;
    this.block = block;
  }

  get isSharded(): boolean {
    return this.table?.kind === "sharded";
  }

  /** The tables whose keys equal this one's share one representative. */
  get component(): TableRef {
    return this.#joined === this ? this : this.#joined.component;
  }

  /** Of equal keys of one type: other hashes would differ for equal values. */
  join(other: TableRef): void {
    if (this.table?.rule?.dataType !== other.table?.rule?.dataType) return;
    const own = this.component;
    if (own !== other.component) own.#joined = other.component;
  }

  hasColumn(column: string): boolean {
    if (this.table === null) return false;
    if (this.table.facts === null) return this.table.rule?.column === column;
    return this.table.facts.columns.some((one) => one.name === column);
  }

  get hasUnknownColumns(): boolean {
    return this.table === null || (this.table.facts === null && this.table.kind !== "system");
  }
}

/** One SELECT, UPDATE, DELETE or INSERT with its own FROM. */
export class Block {
  readonly parent: Block | null;
  readonly depth: number;
  readonly refs: TableRef[] = [];
  readonly ctes: Set<string>;
  /** Columns of JOIN ... USING: of several tables, yet not ambiguous. */
  readonly merged = new Set<string>();
  /** A table that is no part of a shard's rows keeps rows where a sharded one has no match. */
  preservesOutside = false;

  constructor(parent: Block | null) {
    this.parent = parent;
    this.depth = parent === null ? 0 : parent.depth + 1;
    this.ctes = new Set(parent?.ctes);
  }
}

type NestedWrite = (scope: Scope, query: Node, parent: Block) => void;

/** All that routing needs to know of one statement, gathered in one walk. */
export class Scope {
  readonly catalog: Catalog;
  readonly reader: ValueReader;
  readonly refs: TableRef[] = [];
  readonly calls: { readonly call: FuncCall; readonly nature: FunctionNature }[] = [];
  /** CURRENT_TIMESTAMP and its like. */
  readsClock = false;
  /** CURRENT_USER and its like: a shard may be logged in to as somebody else, and has its own database. */
  readsUser = false;
  locksRows = false;
  writesInWith = false;
  /** LIMIT, OFFSET or FETCH in a subquery: which rows is chance. */
  hasInnerLimit = false;

  /** Notes a write within WITH. */
  readonly addNestedWrite: NestedWrite;

  constructor(catalog: Catalog, reader: ValueReader, addNestedWrite: NestedWrite) {
    this.catalog = catalog;
    this.reader = reader;
    this.addNestedWrite = addNestedWrite;
  }

  get sharded(): readonly TableRef[] {
    return this.refs.filter((ref) => ref.isSharded);
  }

  addTable(range: RangeVar, block: Block): TableRef {
    const alias = range.alias?.aliasname ?? range.relname ?? "";
    const isCte = range.schemaname === undefined && block.ctes.has(range.relname ?? "");
    const table = isCte ? null : this.catalog.table(range);
    if (table === null && !isCte) {
      throw new Refusal("ambiguousTable", range.relname ?? "");
    }
    const ref = new TableRef(table, alias, range.alias !== undefined, block);
    // A column alias list renames the key: then it is found by its own name no more.
    if ((range.alias?.colnames ?? []).length > 0 && ref.isSharded) {
      throw new Refusal("columnAliases", alias);
    }
    return this.#add(ref);
  }

  /** The table that an INSERT writes to: its columns are no names in the query that feeds it. */
  addInsertTarget(range: RangeVar, block: Block): TableRef {
    const table = this.catalog.table(range);
    if (table === null) throw new Refusal("ambiguousTable", range.relname ?? "");
    const ref = new TableRef(table, range.alias?.aliasname ?? range.relname ?? "", false, block);
    this.refs.push(ref);
    return ref;
  }

  #add(ref: TableRef): TableRef {
    ref.block.refs.push(ref);
    this.refs.push(ref);
    return ref;
  }

  addDerived(alias: string, block: Block): void {
    this.#add(new TableRef(null, alias, true, block));
  }

  addWith(
    clause: WithClause | undefined,
    block: Block,
    addQuery: (query: Node, block: Block) => void,
  ): void {
    const expressions = (clause?.ctes ?? [])
      .map((node) => ("CommonTableExpr" in node ? node.CommonTableExpr : null))
      .filter((cte): cte is CommonTableExpr => cte !== null);
    // A recursive one sees itself; a name seen too early is at worst a refusal.
    for (const cte of expressions) block.ctes.add(cte.ctename ?? "");
    for (const cte of expressions) if (cte.ctequery !== undefined) addQuery(cte.ctequery, block);
  }

  /** Notes functions and clock readings, and hands every subquery in the expression to `addSelect`. */
  addExpression(
    root: unknown,
    block: Block,
    addSelect: (select: SelectStmt, parent: Block) => void,
  ): void {
    walk(root, (node, tag) => {
      if (tag === "SelectStmt" && "SelectStmt" in node) {
        addSelect(node.SelectStmt, block);
        return false;
      }
      if ("FuncCall" in node) this.#addCall(node.FuncCall);
      if ("SQLValueFunction" in node) {
        const isOfSession = /ROLE|USER|CATALOG|SCHEMA/.test(node.SQLValueFunction.op ?? "");
        if (isOfSession) this.readsUser = true;
        else this.readsClock = true;
      }
      return true;
    });
  }

  #addCall(call: FuncCall): void {
    const names = namesOf(call.funcname);
    const isQualified = names.length > 1 && names[0] !== "pg_catalog";
    const nature = natureOf(lastName(call.funcname), isQualified, this.catalog.facts);
    this.calls.push({ call, nature });
  }

  /** The sharded table whose key a column is, or null. */
  keyOwner(node: Node | undefined, block: Block): TableRef | null {
    if (node === undefined || !("ColumnRef" in node)) return null;
    const names = namesOf(node.ColumnRef.fields);
    const column = names.at(-1) ?? "";
    const owner = names.length === 1 ? ownerOf(column, block) : qualifiedOwner(names, block);
    return owner?.isSharded === true && owner.table?.rule?.column === column ? owner : null;
  }
}

function ownerOf(column: string, block: Block): TableRef | null {
  const owners = block.refs.filter((ref) => ref.hasColumn(column));
  const first = owners[0];
  if (owners.length === 1 || (owners.length > 1 && block.merged.has(column))) return first ?? null;
  // Ambiguous, or perhaps a column of something whose columns we do not know.
  if (owners.length > 1 || block.refs.some((ref) => ref.hasUnknownColumns)) return null;
  return block.parent === null ? null : ownerOf(column, block.parent);
}

function qualifiedOwner(names: readonly string[], block: Block): TableRef | null {
  const [schema, name] = names.length > 2 ? [names.at(-3), names.at(-2)] : [null, names.at(-2)];
  const found = block.refs.find(
    (ref) =>
      ref.alias === name && (schema === null || (!ref.isAliased && ref.table?.schema === schema)),
  );
  if (found !== undefined) return found;
  return block.parent === null ? null : qualifiedOwner(names, block.parent);
}
