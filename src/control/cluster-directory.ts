import { ownerCredentials } from "../config/credentials.js";
import type { Config, DatabaseConfig } from "../config/model.js";
import { DatabaseUnknown, type ErrorFields, SluiceError } from "../core/errors.js";
import { SQLSTATE } from "../core/sqlstate.js";
import type { Cluster } from "../resharding/context.js";

/** Nobody is named who may do DDL, COPY and replication there. */
export class SchemaOwnerMissing extends SluiceError {
  readonly code = "SLUICE_SCHEMA_OWNER_MISSING";
  readonly sqlState = SQLSTATE.configFileError;
  readonly recovery = "operator";
  constructor(database: string, options: ErrorFields = {}) {
    super(`database "${database}" has no schema owner`, {
      hint: `In users.toml, give one [[users]] entry of "${database}" schema_admin = true.`,
      ...options,
    });
  }
}

/**
 * The clusters of a configuration, with the schema owner's credentials.
 * @throws DatabaseUnknown, SchemaOwnerMissing
 */
export function clusterOf(config: Config, name: string): Cluster {
  const primaries = config.databases
    .filter((one) => one.name === name && one.role !== "replica")
    .sort((a, b) => a.shard - b.shard);
  if (primaries.length === 0) throw new DatabaseUnknown(name);
  return {
    name,
    shards: primaries.map((one) => addressOf(config, one)),
    shardedTables: config.shardedTables.filter((table) => table.database === name),
    omnishardedTables: config.omnishardedTables[name] ?? [],
  };
}

function addressOf(config: Config, database: DatabaseConfig): Cluster["shards"][number] {
  const credentials = ownerCredentials(config, database);
  if (!credentials) throw new SchemaOwnerMissing(database.name);
  return {
    host: database.host,
    port: database.port,
    database: database.databaseName,
    ...credentials,
  };
}
