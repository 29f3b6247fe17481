import { POOLER_MODES } from "./general-keys.js";
import type { DatabaseConfig, ShardedTableConfig } from "./model.js";
import { MAX_INTEGER, readSections, type TableReader } from "./table-reader.js";
import type { TomlFile } from "./toml-file.js";

const SIZE = { min: 0, max: MAX_INTEGER };

/** Of [[databases]] and [[users]]: accepted, without effect so far. */
export const UNUSED_POOL_KEYS = [
  "pool_size_primary",
  "pool_size_replica",
  "min_pool_size",
  "min_pool_size_primary",
  "min_pool_size_replica",
  "statement_timeout",
  "lock_timeout",
  "idle_timeout",
  "idle_timeout_primary",
  "idle_timeout_replica",
  "server_lifetime",
  "server_lifetime_jitter",
  "read_only",
];
const UNUSED_DATABASE_KEYS = [...UNUSED_POOL_KEYS, "lb_weight", "resharding_only"];

/** @throws ConfigInvalid also for duplicate shards and for numbers that are left out */
export function readDatabases(file: TomlFile, warnings: string[]): readonly DatabaseConfig[] {
  const entries = readSections(file, "databases").map((table) => ({
    table,
    database: readDatabase(table, warnings),
  }));
  const databases = entries.map((entry) => entry.database);
  const primaries = new Set<string>();
  for (const { table, database } of entries) {
    if (database.role === "replica") continue;
    const place = `${database.name}/${database.shard}`;
    if (primaries.has(place))
      throw table.wrong(
        "shard",
        `database "${database.name}" has a second primary for shard ${database.shard}`,
      );
    primaries.add(place);
  }
  for (const { table, database } of entries) {
    const missing = missingShard(databases, database);
    if (missing === null) continue;
    throw table.wrong(
      "shard",
      `database "${database.name}" has a shard ${database.shard} and no shard ${missing}: shards are numbered from 0 without gaps`,
    );
  }
  for (const { name, shard } of databases) {
    const warning = `[[databases]] "${name}": shard ${shard} has no primary`;
    if (!primaries.has(`${name}/${shard}`) && !warnings.includes(warning)) warnings.push(warning);
  }
  return databases;
}

function missingShard(databases: readonly DatabaseConfig[], one: DatabaseConfig): number | null {
  const shards = new Set(databases.filter((it) => it.name === one.name).map((it) => it.shard));
  for (let shard = 0; shard < one.shard; shard++) if (!shards.has(shard)) return shard;
  return null;
}

function readDatabase(table: TableReader, warnings: string[]): DatabaseConfig {
  const name = table.required("name");
  const database: DatabaseConfig = {
    name,
    host: table.required("host"),
    port: table.integer("port", { min: 1, max: 65_535 }) ?? 5432,
    shard: table.integer("shard", { min: 0, max: 65_535 }) ?? 0,
    role: table.oneOf("role", ["primary", "replica", "auto"]) ?? "primary",
    databaseName: table.string("database_name") ?? name,
    user: table.string("user"),
    password: table.string("password"),
    poolSize: table.integer("pool_size", SIZE),
    poolerMode: table.oneOf("pooler_mode", POOLER_MODES),
  };
  for (const key of table.accept(UNUSED_DATABASE_KEYS))
    warnings.push(`[[databases]] "${name}": ${key} is accepted and has no effect yet`);
  table.finish();
  return database;
}

const UNSUPPORTED_SHARDING = [
  "mapping",
  "centroids",
  "centroids_path",
  "centroid_probes",
  "lookup_query",
  "lookup_result",
];

/**
 * @param known names of [[databases]]
 * @throws ConfigInvalid also for rules that we do not have: another function would send rows elsewhere
 */
export function readShardedTables(
  file: TomlFile,
  known: ReadonlySet<string>,
): readonly ShardedTableConfig[] {
  return readSections(file, "sharded_tables").map((table) => {
    const rule: ShardedTableConfig = {
      database: knownDatabase(table, known),
      name: table.string("name"),
      schema: table.string("schema"),
      column: table.required("column"),
      dataType: table.oneOf("data_type", ["bigint", "uuid", "varchar"]) ?? "bigint",
    };
    table.oneOf("hasher", ["postgres"]);
    for (const key of table.accept(UNSUPPORTED_SHARDING))
      throw table.wrong(key, "is not supported yet: Sluice shards by PostgreSQL's hash only");
    table.accept(["primary"]);
    table.finish();
    return rule;
  });
}

/** Tables by database. @throws ConfigInvalid */
export function readOmnishardedTables(
  file: TomlFile,
  known: ReadonlySet<string>,
): Readonly<Record<string, readonly string[]>> {
  const tables: Record<string, readonly string[]> = {};
  for (const table of readSections(file, "omnisharded_tables")) {
    const database = knownDatabase(table, known);
    tables[database] = [...(tables[database] ?? []), ...(table.strings("tables") ?? [])];
    table.accept(["sticky"]);
    table.finish();
  }
  return tables;
}

/**
 * Without a rule every table would count as one that has the same rows on every shard.
 * @param ruled names of databases with [[sharded_tables]] or [[omnisharded_tables]]
 * @throws ConfigInvalid for a database with several shards and no rule of any kind
 */
export function refuseWithoutRules(file: TomlFile, ruled: ReadonlySet<string>): void {
  for (const table of readSections(file, "databases")) {
    const { name, shard } = readDatabase(table, []);
    if (shard === 0 || ruled.has(name)) continue;
    throw table.wrong(
      "shard",
      `database "${name}" has several shards and no rule for its tables: add [[sharded_tables]] with database = "${name}" and the column to shard by, or [[omnisharded_tables]] if each table has the same rows on every shard`,
    );
  }
}

function knownDatabase(table: TableReader, known: ReadonlySet<string>): string {
  const database = table.required("database");
  if (!known.has(database))
    throw table.wrong("database", `no [[databases]] entry has the name "${database}"`);
  return database;
}
