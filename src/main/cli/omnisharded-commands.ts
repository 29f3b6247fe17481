import type { ConfigPaths } from "../../config/read-config.js";
import { quoteQualified } from "../../core/identifier.js";
import {
  compareOmnisharded,
  describeDifference,
  listOmnisharded,
} from "../../resharding/verify/omnisharded-shards.js";
import { withShards } from "./shards.js";

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

/** A transaction that writes the table may take so long; its writers wait behind us meanwhile. */
const VERIFY_LOCK_TIMEOUT_MS = 5_000;
function nameOf({ schema, name }: { readonly schema: string; readonly name: string }): string {
  return quoteQualified(schema, name);
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
