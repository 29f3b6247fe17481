import type { FuncCall, Node, RangeVar, WithClause } from "libpg-query";
import { lastName, namesOf, walk } from "../sql/ast.js";
import { type Block, type ColumnUse, TableRef, type Together } from "./block.js";
import type { Catalog } from "./catalog.js";
import { type FunctionNature, natureOf } from "./functions.js";
import type { ValueReader } from "./key-value.js";
import { Refusal } from "./refusal.js";

const MOST_NAMES = 300;

/** Their values are numbers or names in the catalogs of one server. */
const OID_TYPE = /^(?:oid|reg[a-z]+)$/;
const CATALOG_FUNCTION =
  /^(?:pg_(?!sleep|advisory|try_advisory|backend_pid)|to_reg|format_type$|has_|row_security_active$|(?:obj|col|shobj)_description$|current_schemas?$)/;

type NestedWrite = (scope: Scope, query: Node, parent: Block) => void;

/** All that routing needs to know of one statement, gathered in one walk. */
export class Scope {
  readonly catalog: Catalog;
  /** Of the client's text; a view's block has its own. */
  readonly reader: ValueReader;
  readonly refs: TableRef[] = [];
  readonly calls: { readonly call: FuncCall; readonly nature: FunctionNature }[] = [];
  /**
   * Rows of subqueries that are tied to none of the statement's own: right only where they are all on the one
   * shard that answers.
   */
  readonly loose: { readonly rows: Together; readonly view: string | null }[] = [];
  /** CURRENT_TIMESTAMP and its like. */
  readsClock = false;
  /** CURRENT_USER and its like: a shard may be logged in to as somebody else, and has its own database. */
  readsUser = false;
  /** Catalogs, or numbers out of them: one shard's, always the same. */
  asksCatalog = false;
  locksRows = false;
  writesInWith = false;
  /** LIMIT, OFFSET or FETCH in a subquery: which rows is chance. */
  hasInnerLimit = false;
  #derivedCount = 0;
  #nameCount = 0;

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

  readerOf(block: Block): ValueReader {
    return block.reader ?? this.reader;
  }

  addTable(range: RangeVar, block: Block): TableRef {
    this.countName();
    const alias = range.alias?.aliasname ?? range.relname ?? "";
    const table = this.catalog.table(range);
    if (table === null) throw new Refusal("ambiguousTable", range.relname ?? "");
    const isAliased = range.alias !== undefined;
    const ref = new TableRef({ table, alias, isAliased, locators: this.catalog.locators(table) });
    if (ref.isSharded) block.located.push(ref);
    // What a view of all shards reads may be the catalogs.
    if (table.kind === "system" || table.facts?.view) this.asksCatalog = true;
    this.refs.push(ref);
    // A column alias list renames the key: then it is found by its own name no more.
    if ((range.alias?.colnames ?? []).length > 0 && ref.isSharded) {
      throw new Refusal("columnAliases", alias);
    }
    block.refs.push(ref);
    return ref;
  }

  /** Names in FROM and WITH are compared with each other, so that time grows with the square of their number. */
  countName(): void {
    this.#nameCount += 1;
    if (this.#nameCount > MOST_NAMES)
      throw new Refusal("tooComplex", `more than ${MOST_NAMES} names in FROM and WITH`);
  }

  /** Queries within queries are taken in place: a statement may not become endless by it. */
  countDerived(): void {
    this.#derivedCount += 1;
    if (this.#derivedCount > 300) throw new Refusal("unsupported", "a statement of so many views");
  }

  addWith(
    clause: WithClause | undefined,
    block: Block,
    addQuery: (query: Node, block: Block) => void,
  ): void {
    const isRecursive = clause?.recursive === true;
    // A recursive one sees itself and those behind it; a name seen too early is at worst a refusal.
    if (isRecursive) for (const cte of ctesOf(clause)) block.ctes.set(cte.name, null);
    for (const { name, query, columns } of ctesOf(clause)) {
      this.countName();
      const home = block.besides();
      // Taken in the place of every mention; without one, the server does not run it either.
      const isTaken = !isRecursive && "SelectStmt" in query;
      if (!isTaken) addQuery(query, home);
      block.ctes.set(name, isTaken ? { select: query.SelectStmt, home, columns } : null);
    }
  }

  /**
   * Notes functions and clock readings.
   * @param addSubLink takes a subquery: true, and its node is not looked into here
   */
  addExpression(root: unknown, addSubLink: (node: Node) => boolean): void {
    walk(root, (node) => {
      if (addSubLink(node)) return false;
      if ("FuncCall" in node) this.#addCall(node.FuncCall);
      if ("TypeCast" in node && OID_TYPE.test(lastName(node.TypeCast.typeName?.names)))
        this.asksCatalog = true;
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
    const name = lastName(call.funcname);
    if (
      isQualified ||
      CATALOG_FUNCTION.test(name) ||
      this.catalog.facts?.functions.get(name)?.isBuiltIn === false
    )
      this.asksCatalog = true;
    const nature = natureOf(name, isQualified, this.catalog.facts);
    this.calls.push({ call, nature });
  }

  /** The table's column that an expression is, through views and subqueries; null: no plain column. */
  column(node: Node | undefined, block: Block): ColumnUse | null {
    if (node === undefined || !("ColumnRef" in node)) return null;
    return block.column(namesOf(node.ColumnRef.fields));
  }

  /** The sharded table whose key a column is, or null. */
  keyOwner(node: Node | undefined, block: Block): TableRef | null {
    const use = this.column(node, block);
    return use?.ref.isKey(use.column) === true ? use.ref : null;
  }
}

interface NamedQuery {
  readonly name: string;
  readonly query: Node;
  readonly columns: readonly string[];
}

function ctesOf(clause: WithClause | undefined): readonly NamedQuery[] {
  return (clause?.ctes ?? []).flatMap((node) => {
    if (!("CommonTableExpr" in node)) return [];
    const { ctename, ctequery, aliascolnames } = node.CommonTableExpr;
    if (ctequery === undefined) return [];
    return [{ name: ctename ?? "", query: ctequery, columns: namesOf(aliascolnames) }];
  });
}
