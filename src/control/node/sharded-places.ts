import type { ServerAddress } from "../../backend/address.js";
import { serverCredentials } from "../../config/credentials.js";
import type { Config } from "../../config/model.js";

export interface ShardPlace {
  readonly shard: number;
  /** The schema admin's first. */
  readonly logins: readonly ServerAddress[];
}

/** Only who has prepared it may end it, or a superuser. */
export function loginOf({ logins }: ShardPlace, owner: string): ServerAddress | undefined {
  return logins.find(({ user }) => user === owner) ?? logins[0];
}

/** Primaries of databases with several shards, with all that we may log in as. */
export function shardedDatabases(config: Config): ReadonlyMap<string, readonly ShardPlace[]> {
  const primaries = config.databases.filter(({ role }) => role !== "replica");
  const sharded = [...grouped(primaries, ({ name }) => name)].filter(([, all]) => all.length > 1);
  return new Map(
    sharded.map(([name, all]) => {
      const users = config.users
        .filter(({ database }) => database === name)
        .sort((one, other) => Number(other.schemaAdmin) - Number(one.schemaAdmin));
      const places = all.map((entry) => ({
        shard: entry.shard,
        logins: users.map((user) => ({
          host: entry.host,
          port: entry.port,
          database: entry.databaseName,
          ...serverCredentials(entry, user),
        })),
      }));
      return [name, places];
    }),
  );
}

export function grouped<K, V>(
  values: readonly V[],
  keyOf: (value: V) => K,
): ReadonlyMap<K, readonly V[]> {
  const groups = new Map<K, V[]>();
  for (const value of values) {
    const key = keyOf(value);
    const group = groups.get(key);
    if (group) group.push(value);
    else groups.set(key, [value]);
  }
  return groups;
}
