import { join } from "node:path";
import { connectSql } from "../../src/backend/sql-client.js";
import type { Log } from "../../src/observe/log.js";
import type { Cluster, EngineContext, EnginePolicy } from "../../src/resharding/context.js";
import { ensureControlSchema } from "../../src/resharding/control/control-schema.js";
import type {
  MigrationRef,
  MigrationSpec,
  TablePlan,
} from "../../src/resharding/model/migration.js";
import type { PostgresServer } from "./postgres.js";

export const silentLog: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLog,
};

export interface CopyFixture {
  readonly ref: MigrationRef;
  readonly spec: MigrationSpec;
  readonly sources: readonly string[];
  readonly destinations: readonly string[];
  context(overrides?: Partial<EngineContext>, policy?: Partial<EnginePolicy>): EngineContext;
}

export interface FixtureTable {
  readonly name: string;
  /** Sharding column; default "id", null: omnisharded. */
  readonly shardBy?: string | null;
  readonly shardingType?: "bigint" | "uuid" | "varchar";
  /** null: one range. Default: the first key column where its type is int or uuid. */
  readonly rangeColumn?: string | null;
  readonly keyless?: boolean;
}

export interface FixtureOptions {
  readonly name: string;
  readonly sources?: number;
  readonly destinations?: number;
  /** Run on every database of both sides. */
  readonly schema: string;
  readonly tables: readonly FixtureTable[];
  /** Where the engine finds the source instead. */
  readonly sourceServer?: PostgresServer;
}

let migrations = 0;

/** Databases, control schema and migration rows of a migration whose copy can begin. */
export async function copyFixture(
  server: PostgresServer,
  options: FixtureOptions,
): Promise<CopyFixture> {
  migrations += 1;
  const id = migrations.toString(16).padStart(12, "0");
  const databases = (side: string, count: number) =>
    Array.from({ length: count }, (_, shard) => `${options.name}_${side}${shard}`);
  const sources = databases("src", options.sources ?? 1);
  const destinations = databases("dst", options.destinations ?? 2);
  for (const database of [...sources, ...destinations]) {
    await server.createDatabase(database);
    await server.sql(database, options.schema);
  }
  const ref: MigrationRef = { id, source: "prod", destination: "prod_sharded", publication: "all" };
  const [first = ""] = sources;
  const tables: TablePlan[] = [];
  for (const table of options.tables) tables.push(await planOf(server, first, table));
  const spec: MigrationSpec = {
    version: 1,
    source: { shardCount: sources.length },
    destination: { shardCount: destinations.length },
    tables,
  };
  for (const [side, names] of [
    ["source", sources],
    ["destination", destinations],
  ] as const) {
    for (const [shard, database] of names.entries()) {
      await using client = await connectSql(server.address(database), { applicationName: "test" });
      await ensureControlSchema(client);
      await client.query(
        `INSERT INTO sluice.migration (id, source, destination, publication, side, shard, spec)
         VALUES ($1, $2, $3, $4, $5, $6, $7)`,
        [id, ref.source, ref.destination, ref.publication, side, shard, JSON.stringify(spec)],
      );
    }
  }
  const cluster = (name: string): Cluster => ({
    name,
    shards:
      name === ref.source
        ? sources.map((database) => (options.sourceServer ?? server).address(database))
        : destinations.map((database) => server.address(database)),
    shardedTables: [],
    omnishardedTables: [],
  });
  return {
    ref,
    spec,
    sources,
    destinations,
    context: (overrides = {}, policy = {}) => ({
      cluster,
      policy: { ...POLICY, pgDumpPath: join(server.binDir, "pg_dump"), ...policy },
      log: silentLog,
      signal: new AbortController().signal,
      heartbeat: () => {},
      announce: async () => {},
      incarnation: "test",
      ...overrides,
    }),
  };
}

const POLICY: EnginePolicy = {
  copyFormat: "binary",
  copyRangeRows: 1000,
  pauseBudgetMs: 1000,
  trafficStopThresholdBytes: 1_000_000,
  openTransactions: "wait",
  verifyMaxAgeMs: 60_000,
  replicaIdentity: "auto",
  uniqueWithoutShardingKey: "warn",
  leftBehind: [],
  placementGuard: true,
  pgDumpPath: "pg_dump",
};

interface ColumnRow {
  readonly name: string;
  readonly type: string;
  readonly not_null: boolean;
  readonly in_key: boolean;
  readonly user_defined: boolean;
  readonly generated: boolean;
}

/** What preflight would make of the table; good enough for tables of tests. */
async function planOf(
  server: PostgresServer,
  database: string,
  table: FixtureTable,
): Promise<TablePlan> {
  const all = (await server.sql(
    database,
    `SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
            a.attnotnull AS not_null, t.typtype <> 'b' AS user_defined,
            COALESCE(a.attnum = ANY (i.indkey), false) AS in_key, a.attgenerated <> '' AS generated
       FROM pg_attribute a
       JOIN pg_type t ON t.oid = a.atttypid
       LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
      WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped
      ORDER BY a.attnum`,
    [`public.${table.name}`],
  )) as unknown as ColumnRow[];
  const columns = all.filter((column) => !column.generated);
  const planned = (column: ColumnRow) => ({
    name: column.name,
    type: column.type,
    notNull: column.not_null,
    binarySafe: !column.user_defined,
    hashAsText: column.user_defined || /^(json$|xml|bit|money|point)/.test(column.type),
    inIdentity: !column.generated && (column.in_key || table.keyless === true),
  });
  const key = table.keyless ? null : columns.filter((column) => column.in_key);
  const first = key?.[0];
  const rangeType =
    first && /^(smallint|integer|bigint)$/.test(first.type)
      ? "int"
      : first?.type === "uuid"
        ? "uuid"
        : null;
  const rangeColumn =
    table.rangeColumn === undefined ? (rangeType && first ? first.name : null) : table.rangeColumn;
  const shardBy = table.shardBy === undefined ? "id" : table.shardBy;
  return {
    schema: "public",
    name: table.name,
    kind: shardBy === null ? "omnisharded" : "sharded",
    shardingColumn: shardBy,
    shardingType: shardBy === null ? null : (table.shardingType ?? "bigint"),
    columns: columns.map(planned),
    generated: all.filter((column) => column.generated).map(planned),
    identity: table.keyless ? "full" : "default",
    keyColumns: key ? key.map((column) => column.name) : null,
    rangeColumn,
    rangeType: rangeColumn === null ? null : rangeType,
    otherUnique: false,
    partitionRoot: null,
  };
}
