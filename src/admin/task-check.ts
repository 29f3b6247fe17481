import { describeAddress, type ServerAddress } from "../backend/address.js";
import { connectSql } from "../backend/sql-client.js";
import type { Config } from "../config/model.js";
import { clusterOf, SchemaOwnerMissing } from "../control/cluster-directory.js";
import { DatabaseUnknown, type ErrorFields, SluiceError } from "../core/errors.js";
import { SQLSTATE } from "../core/sqlstate.js";
import type { MigrationArguments } from "./command.js";

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
 * Primaries of a database in the order of its shards, with its schema owner's credentials. The owner must be
 * named: a task that makes tables as whoever comes first in users.toml would be a surprise.
 * @throws DatabaseUnknown | SchemaOwnerMissing
 */
function primariesOf(config: Config, name: string): readonly ServerAddress[] {
  const names = databaseNames(config);
  if (!names.includes(name))
    throw new DatabaseUnknown(name, { hint: `Configured: ${names.join(", ")}.` });
  const hasOwner = config.users.some((user) => user.database === name && user.schemaAdmin);
  if (!hasOwner) throw new SchemaOwnerMissing(name);
  return clusterOf(config, name).shards;
}

/** Primaries of every database that somebody may log in to: where status is read from. */
export function allPrimaries(config: Config): readonly ServerAddress[] {
  return databaseNames(config).flatMap((name) => {
    try {
      return clusterOf(config, name).shards;
    } catch (error) {
      // Nobody is named who could ask there; nothing of a migration can be there either.
      if (error instanceof SluiceError) return [];
      throw error;
    }
  });
}

function databaseNames(config: Config): readonly string[] {
  return [...new Set(config.databases.map((entry) => entry.name))];
}
