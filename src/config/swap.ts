import { schemaAdminOf, userCredentials } from "./credentials.js";
import type { Config, UserConfig } from "./model.js";

/**
 * Exchanges the clusters under two database names, as a committed switch does. What belongs to the
 * *cluster* moves: servers, the physical database, sharding rules, and what we prove to servers. What
 * belongs to the *name* stays: the client's password, pool size and mode. So every user logs in under the
 * same name with the same password as before, also one who exists under one name only; PgDog exchanges
 * the passwords (W-26). Twice is once not at all, in effect; see the test.
 */
export function swapDatabases(config: Config, a: string, b: string): Config {
  const swapped = (name: string) => (name === a ? b : name === b ? a : name);
  return {
    ...config,
    databases: config.databases.map((one) => ({ ...one, name: swapped(one.name) })),
    shardedTables: config.shardedTables.map((one) => ({
      ...one,
      database: swapped(one.database),
    })),
    omnishardedTables: Object.fromEntries(
      Object.entries(config.omnishardedTables).map(([name, tables]) => [swapped(name), tables]),
    ),
    users: swapUsers(config, a, b),
  };
}

function swapUsers(config: Config, a: string, b: string): readonly UserConfig[] {
  const partnerName = new Map([
    [a, b],
    [b, a],
  ]);
  const admins = [a, b].map((name) => schemaAdminOf(config, name));
  const users = config.users.map((user): UserConfig => {
    const other = partnerName.get(user.database);
    if (other === undefined) return user;
    const partner = config.users.find((one) => one.name === user.name && one.database === other);
    // Who exists under one name only has one pair of credentials, so it is tried on the other cluster.
    const own = userCredentials(partner ?? user);
    return {
      ...user,
      serverUser: own.user,
      serverPassword: own.password ?? "",
      schemaAdmin: partner !== undefined && admins.includes(partner),
    };
  });
  for (const admin of admins) {
    if (!admin) continue;
    const other = partnerName.get(admin.database);
    if (other === undefined) continue;
    if (config.users.some((user) => user.name === admin.name && user.database === other)) continue;
    users.push(adminThatMoved(admin, other));
  }
  return users;
}

/** The cluster takes its schema admin along. No password: it is for our own work, no client logs in with it. */
function adminThatMoved(admin: UserConfig, database: string): UserConfig {
  const own = userCredentials(admin);
  return {
    ...admin,
    database,
    password: null,
    serverUser: own.user,
    serverPassword: own.password ?? "",
    schemaAdmin: true,
  };
}
