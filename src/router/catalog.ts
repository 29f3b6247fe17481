import type { RangeVar } from "libpg-query";
import { isListedOmnisharded, matchShardedTable, type TableName } from "../topology/match.js";
import type { Database, ShardedTable } from "../topology/topology.js";
import { Refusal } from "./refusal.js";
import type { SchemaFacts, TableFacts } from "./schema-facts.js";

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

  constructor(database: Database, facts: SchemaFacts | undefined) {
    this.database = database;
    this.facts = facts;
  }

  /** @returns null when several tables of this name are sharded differently: the name needs its schema */
  table(range: RangeVar): RoutedTable | null {
    const name = range.relname ?? "";
    const schema = range.schemaname ?? null;
    if (schema !== null && SYSTEM_SCHEMAS.test(schema)) return system(schema, name);
    const candidates = (this.facts?.tables.get(name) ?? []).filter(
      (facts) => schema === null || facts.schema === schema,
    );
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

  #routed(
    table: { readonly schema: string | null; readonly name: string },
    facts: TableFacts | null,
  ): RoutedTable {
    const columns = facts?.columns.map((column) => column.name) ?? null;
    const rule = matchShardedTable(this.database, table, columns);
    const { schema, name } = table;
    if (rule === null && columns === null && this.#needsColumns(table)) {
      throw new Refusal("unknownTable", name);
    }
    if (rule === null && facts !== null && this.#readsSharded(facts)) {
      throw new Refusal("keylessView", name);
    }
    return { schema, name, kind: rule === null ? "omnisharded" : "sharded", rule, facts };
  }

  /** Tables that are the same on every shard, without views. */
  *omnishardedTables(): Iterable<TableFacts> {
    for (const named of this.facts?.tables.values() ?? [])
      for (const facts of named) if (facts.isTable && this.isOmnisharded(facts)) yield facts;
  }

  isOmnisharded(facts: TableFacts): boolean {
    const columns = facts.columns.map((column) => column.name);
    if (matchShardedTable(this.database, facts, columns) !== null) return false;
    return !this.#readsSharded(facts);
  }

  factsOf(schema: string, name: string): TableFacts | null {
    return this.facts?.tables.get(name)?.find((one) => one.schema === schema) ?? null;
  }

  /** A rule by column may match this table, whose columns nobody has told us. */
  #needsColumns(table: TableName): boolean {
    const hasColumnRule = this.database.shardedTables.some((rule) => rule.name === null);
    return hasColumnRule && !isListedOmnisharded(this.database, table);
  }

  /** Views and partitions take part in the sharding of what they are made of. */
  #readsSharded(facts: TableFacts): boolean {
    return facts.sources.some(([schema, name]) => {
      const source = this.facts?.tables.get(name)?.find((one) => one.schema === schema);
      const columns = source?.columns.map((column) => column.name) ?? null;
      if (matchShardedTable(this.database, { schema, name }, columns) !== null) return true;
      return source !== undefined && this.#readsSharded(source);
    });
  }
}

function system(schema: string | null, name: string): RoutedTable {
  return { schema, name, kind: "system", rule: null, facts: null };
}
