import { connectSql, type SqlClient } from "../../backend/sql-client.js";
import { type ConfigPaths, readConfig } from "../../config/read-config.js";
import { clusterOf } from "../../control/cluster-directory.js";
import type { Cluster } from "../../resharding/context.js";

interface ShardsOf {
  readonly paths: ConfigPaths;
  readonly database: string;
  readonly lockTimeoutMs: number;
}

/**
 * A session on every shard, as the schema owner, while `use` runs.
 * @throws DatabaseUnknown, SchemaOwnerMissing, ServerUnreachable
 */
export async function withShards(
  { paths, database, lockTimeoutMs }: ShardsOf,
  use: (cluster: Cluster, clients: readonly SqlClient[]) => Promise<number>,
): Promise<number> {
  const cluster = clusterOf(readConfig(paths), database);
  const clients: SqlClient[] = [];
  try {
    for (const address of cluster.shards) {
      const options = { applicationName: "sluice cli", lockTimeoutMs };
      clients.push(await connectSql(address, options));
    }
    return await use(cluster, clients);
  } finally {
    for (const client of clients) await client.end();
  }
}
