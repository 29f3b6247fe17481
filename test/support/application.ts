import type { Query } from "./load/final-tables.js";
import type { PostgresServer } from "./postgres.js";

/** A table as both sides are compared by. */
export interface ComparedTable {
  readonly table: string;
  /** What shards are told apart by; null: the same rows on every shard. */
  readonly shardingKey: string | null;
}

/** What a stack is made for: a schema with rows, and how it is to be sharded. */
export interface Application {
  readonly publication: string;
  readonly tables: readonly ComparedTable[];
  /** `[[sharded_tables]]` of pgdog.toml, without the database. */
  readonly shardedTables: readonly ShardedTable[];
  /** A row of a tenant that the load leaves alone, to see when a side has everything. */
  readonly sentinel: {
    readonly insert: (tenant: number, id: string) => string;
    /** The rows of that id. */
    readonly from: (id: string) => string;
  };
  /** Makes the schema and fills it, for a role `app` that reads and writes it. @returns rows by table */
  seed(server: PostgresServer, database: string): Promise<Readonly<Record<string, number>>>;
}

interface ShardedTable {
  /** Absent: every table that has the column. */
  readonly name?: string;
  readonly column: string;
}

/** A count of each table's rows. */
export async function countRows(
  query: Query,
  tables: readonly ComparedTable[],
): Promise<Readonly<Record<string, number>>> {
  const counts = tables.map(({ table }) => `(SELECT count(*)::int FROM ${table}) AS ${table}`);
  const [row] = await query(`SELECT ${counts.join(", ")}`);
  return Object.fromEntries(tables.map(({ table }) => [table, Number(row?.[table])]));
}
