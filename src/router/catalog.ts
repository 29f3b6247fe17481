import type { RangeVar } from "libpg-query";
import { keyTrouble } from "../topology/key-column.js";
import { isListedOmnisharded, matchShardedTable, type TableName } from "../topology/match.js";
import type { Database, ShardedTable } from "../topology/topology.js";
import {
  keySpace,
  type LocatedTable,
  type Locator,
  type Locators,
  locatorsOf,
} from "./locators.js";
import { Refusal } from "./refusal.js";
import { type ColumnFacts, equalityOf, type SchemaFacts, type TableFacts } from "./schema-facts.js";

/** A table of a statement, as the shard map sees it. */
export interface RoutedTable {
  readonly schema: string | null;
  readonly name: string;
  readonly kind: "sharded" | "omnisharded" | "system";
  /** Of "sharded". */
  readonly rule: ShardedTable | null;
  readonly facts: TableFacts | null;
}

const SYSTEM_SCHEMAS = /^(pg_catalog|information_schema|pg_toast)$/;

/** Tables by their names in statements. */
export class Catalog {
  readonly database: Database;
  readonly facts: SchemaFacts | undefined;
  #locators: Locators | null = null;
  #foreign: ReadonlySet<TableFacts> | null = null;

  constructor(database: Database, facts: SchemaFacts | undefined) {
    this.database = database;
    this.facts = facts;
  }

  /** @returns null when several tables of this name are sharded differently: the name needs its schema */
  table(range: RangeVar): RoutedTable | null {
    const table = this.declared(range);
    if (table !== null) refuseUnfitKey(table);
    return table;
  }

  /** The same for its definition, which may put right what keeps statements from being routed. */
  declared(range: RangeVar): RoutedTable | null {
    const name = range.relname ?? "";
    const schema = range.schemaname ?? null;
    if (schema !== null && SYSTEM_SCHEMAS.test(schema)) return system(schema, name);
    const candidates = this.#alike(range);
    // Names that begin with pg_ are PostgreSQL's own, found before any other.
    if (candidates.length === 0 && schema === null && name.startsWith("pg_")) {
      return system(schema, name);
    }
    if (candidates.length === 0) return this.#routed({ schema, name }, null);
    const routed = candidates.map((facts) => this.#routed(facts, facts));
    const first = routed[0];
    if (first === undefined || routed.some((one) => one.rule !== first.rule)) return null;
    return routed.length === 1 ? first : { ...first, schema, facts: null };
  }

  /**
   * The view of this name, or null where it is a table's.
   * @throws Refusal where a view and something else have it, and they are not the same on every shard
   */
  view(range: RangeVar): TableFacts | null {
    const candidates = this.#alike(range);
    if (candidates.every((facts) => facts.view === null)) return null;
    const [only, other] = candidates;
    if (other === undefined) return only ?? null;
    if (!candidates.some((facts) => this.#isOfShards(facts))) return null;
    throw new Refusal("ambiguousTable", range.relname ?? "");
  }

  /** Of the one table or view of this name, in their order; null: there is none, or several. */
  columns(range: RangeVar): readonly ColumnFacts[] | null {
    const [only, other] = this.#candidates(range);
    return only === undefined || other !== undefined ? null : only.columns;
  }

  /** The table of this name; null for a view, whose columns have defaults and an order of their own. */
  plainTable(range: RangeVar): RoutedTable | null {
    return this.view(range) === null ? this.table(range) : null;
  }

  /** Columns that say on which shard a row of a sharded table is. */
  locators({ rule, facts }: RoutedTable): readonly Locator[] {
    if (rule === null) return [];
    if (facts === null) return [{ space: keySpace(rule), columns: [rule.column] }];
    this.#locators ??= locatorsOf(this.#shardedTables());
    return this.#locators(facts);
  }

  #shardedTables(): readonly LocatedTable[] {
    const all = [...(this.facts?.tables.values() ?? [])].flat();
    return all.flatMap((facts) => {
      const rule = facts.view === null ? this.#ruleOf(facts) : null;
      return rule === null ? [] : [{ facts, rule }];
    });
  }

  /** @throws Refusal where it is one thing on one shard, and another on another */
  #alike(range: RangeVar): readonly TableFacts[] {
    const candidates = this.#candidates(range);
    if (candidates.some((facts) => facts.isUnlike === true))
      throw new Refusal("unlikeShards", range.relname ?? "");
    return candidates;
  }

  #candidates({ relname, schemaname }: RangeVar): readonly TableFacts[] {
    return (this.facts?.tables.get(relname ?? "") ?? []).filter(
      (facts) => schemaname === undefined || facts.schema === schemaname,
    );
  }

  #routed(
    table: { readonly schema: string | null; readonly name: string },
    facts: TableFacts | null,
  ): RoutedTable {
    const rule =
      facts === null ? matchShardedTable(this.database, table, null) : this.#ruleOf(facts);
    const { schema, name } = table;
    if (facts !== null && this.#unruled.has(facts)) throw new Refusal("foreignTable", name);
    if (rule === null && facts === null && this.#needsColumns(table)) {
      throw new Refusal("unknownTable", name);
    }
    if (rule === null && facts !== null && this.#isOfShards(facts)) {
      throw new Refusal("viewOverShards", name);
    }
    return { schema, name, kind: rule === null ? "omnisharded" : "sharded", rule, facts };
  }

  /** Tables that are the same on every shard, without views. */
  *omnishardedTables(): Iterable<TableFacts> {
    for (const named of this.facts?.tables.values() ?? [])
      for (const facts of named) if (facts.isTable && this.isOmnisharded(facts)) yield facts;
  }

  isOmnisharded(facts: TableFacts): boolean {
    return !this.#isOfShards(facts);
  }

  factsOf(schema: string, name: string): TableFacts | null {
    return this.facts?.tables.get(name)?.find((one) => one.schema === schema) ?? null;
  }

  /** A rule by column may match this table, whose columns nobody has told us. */
  #needsColumns(table: TableName): boolean {
    const hasColumnRule = this.database.shardedTables.some((rule) => rule.name === null);
    return hasColumnRule && !isListedOmnisharded(this.database, table);
  }

  /**
   * Foreign tables that no rule names, and what they are parts of: whether each shard has rows of its own there, or all
   * have the same, only the configuration can say.
   */
  get #unruled(): ReadonlySet<TableFacts> {
    if (this.#foreign !== null) return this.#foreign;
    const found = new Set<TableFacts>();
    const add = (facts: TableFacts) => {
      found.add(facts);
      for (const source of this.#sourcesOf(facts)) add(source);
    };
    for (const named of this.facts?.tables.values() ?? [])
      for (const facts of named) if (facts.isForeign === true && !this.#isNamed(facts)) add(facts);
    this.#foreign = found;
    return found;
  }

  #isNamed(facts: TableFacts): boolean {
    const rule = matchShardedTable(this.database, facts, null);
    return rule !== null || isListedOmnisharded(this.database, facts);
  }

  /** The rule of a table; a partition or child is sharded as its parent is, as it holds the parent's rows. */
  #ruleOf(facts: TableFacts): ShardedTable | null {
    const columns = facts.columns.map((column) => column.name);
    const rule = matchShardedTable(this.database, facts, columns);
    if (rule !== null || facts.view !== null) return rule;
    for (const source of this.#sourcesOf(facts)) {
      const inherited = this.#ruleOf(source);
      if (inherited !== null && columns.includes(inherited.column)) return inherited;
    }
    return null;
  }

  /** Has other rows on every shard. */
  #isOfShards(facts: TableFacts): boolean {
    if (facts.view === null && this.#ruleOf(facts) !== null) return true;
    return this.#sourcesOf(facts).some((source) => this.#isOfShards(source));
  }

  #sourcesOf(facts: TableFacts): readonly TableFacts[] {
    return facts.sources.flatMap(
      ([schema, name]) =>
        this.facts?.tables.get(name)?.filter((one) => one.schema === schema) ?? [],
    );
  }
}

/** @throws Refusal where values that are equal would have different shards */
function refuseUnfitKey({ rule, facts, name }: RoutedTable): void {
  const column = facts?.columns.find((one) => one.name === rule?.column);
  if (rule === null || column === undefined) return;
  const trouble = keyTrouble(rule, equalityOf(column));
  if (trouble !== null) throw new Refusal("unfitKey", `"${rule.column}" of "${name}" ${trouble}`);
}

function system(schema: string | null, name: string): RoutedTable {
  return { schema, name, kind: "system", rule: null, facts: null };
}
