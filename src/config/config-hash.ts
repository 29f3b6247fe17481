import { createHash } from "node:crypto";
import { ownerCredentials } from "./credentials.js";
import type { Config } from "./model.js";

/**
 * Of what every node of a fleet must agree on: which servers a name means, how rows are routed, who we
 * are there, and how a switch behaves. Passwords are not in it: the hash is public, and a password could
 * be guessed out of it. The order of entries does not count.
 */
export function configHash(config: Config): string {
  const { general, sluice } = config;
  const agreed = {
    databases: config.databases
      .map((one) => {
        const user = ownerCredentials(config, one)?.user ?? null;
        return [one.name, one.shard, one.role, one.host, one.port, one.databaseName, user];
      })
      .map((one) => JSON.stringify(one))
      .sort(),
    shardedTables: config.shardedTables
      .map((one) => JSON.stringify([one.database, one.schema, one.name, one.column, one.dataType]))
      .sort(),
    omnishardedTables: Object.entries(config.omnishardedTables)
      .map(([name, tables]) => JSON.stringify([name, [...tables].sort()]))
      .sort(),
    rewrite: [config.rewrite.shardKey, config.rewrite.splitInserts],
    twoPhaseCommit: general.twoPhaseCommit,
    switch: [sluice.pauseCapMs, sluice.pauseBudgetMs, sluice.openTransactions, sluice.silentNode],
  };
  return createHash("sha256").update(JSON.stringify(agreed)).digest("hex");
}
