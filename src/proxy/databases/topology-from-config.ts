import { serverCredentials } from "../../config/credentials.js";
import type { Config, DatabaseConfig, UserConfig } from "../../config/model.js";
import {
  type Database,
  type DatabaseUser,
  shardId,
  type Topology,
} from "../../topology/topology.js";

/** What the data plane serves, from the effective configuration. */
export function topologyFromConfig(
  config: Config,
  generation: number,
  epochs: Readonly<Record<string, number>>,
): Topology {
  const names = [...new Set(config.databases.map((database) => database.name))];
  const databases = names.map(
    (name) => [name, databaseOf(config, name, epochs[name] ?? 0)] as const,
  );
  return { generation, databases: new Map(databases) };
}

function databaseOf(config: Config, name: string, epoch: number): Database {
  const entries = config.databases.filter((database) => database.name === name);
  const users = config.users.filter((user) => user.database === name);
  return {
    name,
    epoch,
    shardCount: 1 + Math.max(0, ...entries.map((entry) => entry.shard)),
    servers: entries.map((entry) => ({
      shard: shardId(entry.shard),
      host: entry.host,
      port: entry.port,
      database: entry.databaseName,
      role: entry.role === "replica" ? "replica" : "primary",
    })),
    shardedTables: config.shardedTables.filter((table) => table.database === name),
    omnishardedTables: config.omnishardedTables[name] ?? [],
    users: new Map(users.map((user) => [user.name, userOf(config, entries, user)])),
    shardKeyUpdates: config.rewrite.shardKey,
    splitInserts: config.rewrite.splitInserts,
    placementGuard: config.sluice.placementGuard,
    twoPhaseCommit: config.general.twoPhaseCommit,
  };
}

function userOf(
  config: Config,
  entries: readonly DatabaseConfig[],
  user: UserConfig,
): DatabaseUser {
  const [entry] = entries;
  return {
    name: user.name,
    password: user.password,
    logins: new Map(
      entries
        .filter((one) => one.role !== "replica")
        .map((one) => [shardId(one.shard), serverCredentials(one, user)]),
    ),
    poolSize: user.poolSize ?? entry?.poolSize ?? config.general.defaultPoolSize,
    poolerMode: user.poolerMode ?? entry?.poolerMode ?? config.general.poolerMode,
    schemaAdmin: user.schemaAdmin,
  };
}
