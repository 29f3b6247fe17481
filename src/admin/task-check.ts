import { describeAddress, type ServerAddress } from "../backend/address.js";
import { connectSql, type SqlClient, sqlStateOf } from "../backend/sql-client.js";
import type { Config } from "../config/model.js";
import { clusterOf, SchemaOwnerMissing } from "../control/cluster-directory.js";
import { DatabaseUnknown, type ErrorFields, NotReady, SluiceError } from "../core/errors.js";
import { SQLSTATE, type SqlState } from "../core/sqlstate.js";
import { tell } from "../core/tell.js";
import { isMissingControlSchema } from "../resharding/control/control-schema.js";
import { migrationOfSlot } from "../resharding/model/migration.js";
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
  readonly code = "SLUICE_SAME_DATABASE";
  readonly sqlState = SQLSTATE.invalidParameterValue;
  readonly recovery = "never";
  constructor(database: string, fields: ErrorFields = {}) {
    super(`source and destination are the same database "${database}"`, fields);
  }
}

/** The schema owner's login, as the server answered it. */
class SchemaOwnerRefused extends SluiceError {
  readonly code = "SLUICE_SCHEMA_OWNER_REFUSED";
  readonly sqlState: SqlState;
  readonly recovery = "operator";
  constructor(server: ServerAddress, { cause, sqlState }: { cause: unknown; sqlState: SqlState }) {
    const reason = tell(cause);
    super(`server ${describeAddress(server)} refuses the schema owner: ${reason}`, {
      cause,
      hint: "Correct server_user and server_password (or name and password) of the schema_admin in users.toml, then RELOAD.",
    });
    this.sqlState = sqlState;
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
  await using client = await connectCheck(server);
  const { rowCount } = await client.query("SELECT 1 FROM pg_publication WHERE pubname = $1", [
    publication,
  ]);
  return rowCount === 1;
}

async function connectCheck(server: ServerAddress): Promise<SqlClient> {
  try {
    return await connectSql(server, {
      applicationName: "sluice task check",
      connectTimeoutMs: CHECK_TIMEOUT_MS,
      statementTimeoutMs: CHECK_TIMEOUT_MS,
    });
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    const state = sqlStateOf(cause);
    // Class 28: the server is there and says no.
    if (state?.startsWith("28")) throw new SchemaOwnerRefused(server, { cause, sqlState: state });
    throw error;
  }
}

/**
 * REPLICATE brings only changes, so the rows must be there: it goes on with a migration whose task has ended
 * after its copy without being undone, and which has not switched. To a database without those rows it would
 * bring updates of nothing.
 * @throws NotReady | DatabaseUnknown | SchemaOwnerMissing | ServerUnreachable
 */
export async function checkReplicate(config: Config, args: MigrationArguments): Promise<void> {
  const id = args.slot === null ? null : migrationOfSlot(args.slot);
  const destination = primariesOf(config, args.destination);
  const isCopied = await Promise.all(
    destination.map(async (server) => id !== null && (await hasCopy(server, { ...args, id }))),
  );
  if (isCopied.every(Boolean)) return;
  throw new NotReady(
    `nothing of "${args.source}" is copied to "${args.destination}" that REPLICATE could go on with`,
    {
      hint: "COPY_DATA and RESHARD copy, then replicate by themselves. After a task of theirs was terminated: REPLICATE <source> <destination> <publication> <replication_slot of COPY_DATA>.",
    },
  );
}

async function hasCopy(
  server: ServerAddress,
  { id, source, destination }: Pick<MigrationArguments, "source" | "destination"> & { id: string },
): Promise<boolean> {
  await using client = await connectCheck(server);
  try {
    const { rowCount } = await client.query(COPIED, [id, source, destination]);
    return rowCount === 1;
  } catch (error) {
    if (isMissingControlSchema(error)) return false;
    throw error;
  }
}

/** Every table of the plan has ranges, all of them are copied, and no switch was made. */
const COPIED = `
  SELECT FROM sluice.migration m
   WHERE m.id = $1 AND m.source = $2 AND m.destination = $3
     AND m.side = 'destination' AND m.state = 'active'
     AND NOT EXISTS (SELECT FROM sluice.copy_chunk c WHERE c.migration = m.id AND c.copied_at IS NULL)
     AND (SELECT count(DISTINCT (c.schema_name, c.table_name)) FROM sluice.copy_chunk c
           WHERE c.migration = m.id) = jsonb_array_length(m.spec -> 'tables')
     AND NOT EXISTS (SELECT FROM sluice.decision d WHERE d.migration = m.id AND d.state = 'committed')`;

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
