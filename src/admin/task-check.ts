import { describeAddress, type ServerAddress } from "../backend/address.js";
import { connectSql } from "../backend/sql-client.js";
import { serverCredentials } from "../config/credentials.js";
import type { Config, DatabaseConfig, UserConfig } from "../config/model.js";
import { DatabaseUnknown, type ErrorFields, SluiceError } from "../core/errors.js";
import { SQLSTATE } from "../core/sqlstate.js";
import type { MigrationArguments } from "./command.js";

/** A database that no `[[users]]` entry administers: nobody to run DDL, COPY and replication as. */
export class SchemaOwnerMissing extends SluiceError {
  readonly code = "SLUICE_CONFIG_INVALID";
  readonly sqlState = SQLSTATE.undefinedObject;
  readonly recovery = "operator";
  constructor(database: string) {
    super(`database "${database}" has no schema owner`, {
      hint: `Set schema_admin = true for one of its [[users]] in users.toml, then RELOAD.`,
    });
  }
}

/** A publication that the source does not have. */
export class PublicationUnknown extends SluiceError {
  readonly code = "SLUICE_PUBLICATION_UNKNOWN";
  readonly sqlState = SQLSTATE.undefinedObject;
  readonly recovery = "operator";
  constructor(publication: string, servers: readonly string[]) {
    super(`publication "${publication}" does not exist on ${servers.join(", ")}`, {
      hint: `On every source shard: CREATE PUBLICATION "${publication}" FOR TABLE ...`,
    });
  }
}

/** Source and destination are one database. */
export class SameDatabase extends SluiceError {
  readonly code = "SLUICE_PREFLIGHT_FAILED";
  readonly sqlState = SQLSTATE.invalidParameterValue;
  readonly recovery = "never";
  constructor(database: string, fields: ErrorFields = {}) {
    super(`source and destination are the same database "${database}"`, fields);
  }
}

const CHECK_TIMEOUT_MS = 3_000;

/**
 * What can be said before a task exists, so that a slip of the pen is answered at the prompt: both databases
 * are configured and have a schema owner, and the source has the publication. Changes nothing. The whole
 * preflight runs in the task.
 * @throws DatabaseUnknown | SchemaOwnerMissing | SameDatabase | PublicationUnknown | ServerUnreachable
 */
export async function checkTask(config: Config, args: MigrationArguments): Promise<void> {
  if (args.source === args.destination) throw new SameDatabase(args.source);
  const source = primariesOf(config, args.source);
  primariesOf(config, args.destination);
  const has = await Promise.all(source.map((server) => hasPublication(server, args.publication)));
  const missing = source.filter((_, shard) => has[shard] === false);
  if (missing.length > 0)
    throw new PublicationUnknown(args.publication, missing.map(describeAddress));
}

async function hasPublication(server: ServerAddress, publication: string): Promise<boolean> {
  await using client = await connectSql(server, {
    applicationName: "sluice task check",
    connectTimeoutMs: CHECK_TIMEOUT_MS,
    statementTimeoutMs: CHECK_TIMEOUT_MS,
  });
  const { rowCount } = await client.query("SELECT 1 FROM pg_publication WHERE pubname = $1", [
    publication,
  ]);
  return rowCount === 1;
}

/**
 * Primaries of a database in the order of its shards, with its schema owner's credentials.
 * @throws DatabaseUnknown | SchemaOwnerMissing
 */
export function primariesOf(config: Config, name: string): readonly ServerAddress[] {
  const entries = config.databases.filter((entry) => entry.name === name);
  if (entries.length === 0)
    throw new DatabaseUnknown(name, {
      hint: `Configured: ${[...new Set(config.databases.map((entry) => entry.name))].join(", ")}.`,
    });
  const owner = config.users.find((user) => user.database === name && user.schemaAdmin);
  if (owner === undefined) throw new SchemaOwnerMissing(name);
  return entries
    .filter((entry) => entry.role !== "replica")
    .sort((a, b) => a.shard - b.shard)
    .map((entry) => addressOf(entry, owner));
}

/** Primaries of every database that has a schema owner: where status is read from. */
export function allPrimaries(config: Config): readonly ServerAddress[] {
  const names = [...new Set(config.databases.map((entry) => entry.name))];
  return names.flatMap((name) =>
    config.users.some((user) => user.database === name && user.schemaAdmin)
      ? primariesOf(config, name)
      : [],
  );
}

function addressOf(entry: DatabaseConfig, owner: UserConfig): ServerAddress {
  return {
    host: entry.host,
    port: entry.port,
    database: entry.databaseName,
    ...serverCredentials(entry, owner),
  };
}
