import type { ServerAddress } from "../../backend/address.js";
import { connectSql, type SqlClient, sqlStateOf } from "../../backend/sql-client.js";
import { type ErrorFields, SluiceError } from "../../core/errors.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { Cluster, EngineContext } from "../context.js";
import type { MigrationRef, MigrationSpec, Side } from "../model/migration.js";

/** Both clusters of a migration by side, whatever names the configuration gives them now. */
export interface Sides {
  readonly spec: MigrationSpec;
  readonly state: "active" | "aborted" | "finalized";
  readonly source: Cluster;
  readonly destination: Cluster;
}

/** No shard that answers knows the migration. */
export class MigrationUnknown extends SluiceError {
  readonly code = "SLUICE_MIGRATION_UNKNOWN";
  readonly sqlState = SQLSTATE.undefinedObject;
  readonly recovery = "operator";
  constructor(ref: MigrationRef, options: ErrorFields = {}) {
    super(`migration ${ref.id} (${ref.source} -> ${ref.destination}) is on no shard of either`, {
      hint: "Was it aborted, or do the names in pgdog.toml lead to other servers now?",
      ...options,
    });
  }
}

/**
 * Finds the sides by what the servers say of themselves (`sluice.migration.side`): a cutover exchanges the
 * configured names, at a time that differs from process to process, so a name never tells the side.
 * @throws MigrationUnknown, ServerUnreachable (when neither cluster's shard 0 answers), DatabaseUnknown
 */
export async function openSides(context: EngineContext, ref: MigrationRef): Promise<Sides> {
  const clusters = [context.cluster(ref.source), context.cluster(ref.destination)] as const;
  const answers = await Promise.allSettled(
    clusters.map((cluster) => askSide(context, cluster, ref)),
  );
  for (const [index, answer] of answers.entries()) {
    if (answer.status !== "fulfilled" || answer.value === null) continue;
    const here = index === 0 ? clusters[0] : clusters[1];
    const there = index === 0 ? clusters[1] : clusters[0];
    const { spec, state, side } = answer.value;
    return side === "source"
      ? { spec, state, source: here, destination: there }
      : { spec, state, source: there, destination: here };
  }
  const failed = answers.find((answer) => answer.status === "rejected");
  if (failed) throw failed.reason;
  throw new MigrationUnknown(ref);
}

interface SideAnswer {
  readonly spec: MigrationSpec;
  readonly state: Sides["state"];
  readonly side: Side;
}

async function askSide(
  context: EngineContext,
  cluster: Cluster,
  ref: MigrationRef,
): Promise<SideAnswer | null> {
  const shard0 = shardAddress(cluster, 0);
  await using client = await connectEngine(context, shard0, "sides");
  try {
    const result = await client.query<SideAnswer>(
      "SELECT side, spec, state FROM sluice.migration WHERE id = $1",
      [ref.id],
    );
    return result.rows[0] ?? null;
  } catch (error) {
    if (isMissingControlSchema(error)) return null;
    throw error;
  }
}

/** undefined_table or invalid_schema_name: this server has never seen a migration. */
export function isMissingControlSchema(error: unknown): boolean {
  const state = sqlStateOf(error);
  return state === SQLSTATE.undefinedTable || state === SQLSTATE.invalidSchemaName;
}

/** @throws RangeError when the cluster has no such shard */
export function shardAddress(cluster: Cluster, shard: number): ServerAddress {
  const address = cluster.shards[shard];
  if (!address) throw new RangeError(`database "${cluster.name}" has no shard ${shard}`);
  return address;
}

/**
 * Sessions of the engine are told from applications' by this prefix: the end of a switch ends every other
 * session on the old side.
 */
export const ENGINE_APPLICATION_PREFIX = "sluice ";

/** A session of the engine; `what` appears in pg_stat_activity. */
export async function connectEngine(
  context: Pick<EngineContext, "signal">,
  address: ServerAddress,
  what: string,
  options: { readonly lockTimeoutMs?: number; readonly statementTimeoutMs?: number } = {},
): Promise<SqlClient> {
  return await connectSql(address, {
    applicationName: `${ENGINE_APPLICATION_PREFIX}${what}`,
    signal: context.signal,
    ...options,
  });
}
