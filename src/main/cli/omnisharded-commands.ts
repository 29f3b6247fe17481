import { connectSql, type SqlClient, sqlStateOf } from "../../backend/sql-client.js";
import { type ConfigPaths, readConfig } from "../../config/read-config.js";
import { clusterOf } from "../../control/cluster-directory.js";
import { quoteQualified } from "../../core/identifier.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { Cluster } from "../../resharding/context.js";
import { guardRows } from "../../resharding/switch/row-guards.js";
import {
  compareOmnisharded,
  describeDifference,
  listOmnisharded,
} from "../../resharding/verify/omnisharded-shards.js";

/**
 * `sluice verify --omnisharded`: compares the tables that are the same on every shard.
 * @returns the exit code: 1 when some are not
 * @throws DatabaseUnknown, SchemaOwnerMissing, ServerUnreachable
 */
export async function verifyOmnisharded(paths: ConfigPaths, database: string): Promise<number> {
  const shards = { paths, database, lockTimeoutMs: VERIFY_LOCK_TIMEOUT_MS };
  return await withShards(shards, async (cluster, clients) => {
    const [first] = clients;
    const tables = first ? await listOmnisharded(first, cluster) : [];
    const differences = await compareOmnisharded(clients, tables);
    for (const difference of differences) print(describeDifference(difference));
    print(
      differences.length === 0
        ? `${tables.length} omnisharded tables are the same on ${clients.length} shards`
        : `${new Set(differences.map(nameOf)).size} of ${tables.length} omnisharded tables differ`,
    );
    return differences.length === 0 ? 0 : 1;
  });
}

/**
 * `sluice guard`: the triggers that tables with triggers need, see docs/omnisharded.md. Second run: what is missing.
 * @returns the exit code
 */
export async function guardDatabase(paths: ConfigPaths, database: string): Promise<number> {
  const shards = { paths, database, lockTimeoutMs: LOCK_TIMEOUT_MS };
  return await withShards(shards, async (cluster, clients) => {
    for (const [shard, client] of clients.entries()) {
      const tables = await listOmnisharded(client, cluster);
      const guarded = await guardRows(client, tables, untilLocked);
      const names = guarded.map(({ schema, name }) => `${schema}.${name}`).join(", ");
      print(`shard ${shard}: ${names === "" ? "nothing to guard" : names}`);
    }
    return 0;
  });
}

/** A transaction that writes the table may take so long; its writers wait behind us meanwhile. */
const VERIFY_LOCK_TIMEOUT_MS = 5_000;
const LOCK_TIMEOUT_MS = 500;
const LOCK_ATTEMPTS = 20;

/** Short and often, as everybody who comes after us in the lock queue waits with us. */
async function untilLocked(_table: string, act: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await act();
    } catch (error) {
      const isLocked = sqlStateOf(error) === SQLSTATE.lockNotAvailable;
      if (!isLocked || attempt === LOCK_ATTEMPTS) throw error;
    }
  }
}

interface ShardsOf {
  readonly paths: ConfigPaths;
  readonly database: string;
  readonly lockTimeoutMs: number;
}

async function withShards(
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

function nameOf({ schema, name }: { readonly schema: string; readonly name: string }): string {
  return quoteQualified(schema, name);
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
