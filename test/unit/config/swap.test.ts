import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { configHash } from "../../../src/config/config-hash.js";
import {
  schemaAdminOf,
  serverCredentials,
  userCredentials,
} from "../../../src/config/credentials.js";
import type { Config, UserConfig } from "../../../src/config/model.js";
import { parseConfig } from "../../../src/config/read-config.js";
import { swapDatabases } from "../../../src/config/swap.js";
import { PGDOG, USERS } from "./sample.js";

const config = parseConfig({ pgdog: PGDOG, users: USERS });
const find = (from: Config, name: string, database: string): UserConfig => {
  const user = from.users.find((one) => one.name === name && one.database === database);
  if (!user) throw new Error(`no ${name}@${database}`);
  return user;
};

describe("a switch exchanges the clusters under two names", () => {
  const swapped = swapDatabases(config, "prod", "prod_sharded");

  it("moves servers and rules, and pins the physical database", () => {
    const servers = swapped.databases.map((one) => [one.name, one.databaseName, one.host]);
    expect(servers).toEqual([
      ["prod_sharded", "prod", "10.0.0.1"],
      ["prod", "shard_0", "10.0.0.2"],
      ["prod", "shard_1", "10.0.0.3"],
    ]);
    expect(swapped.shardedTables[0]?.database).toBe("prod");
    expect(swapped.omnishardedTables).toEqual({ prod: ["countries", "plans"] });
  });

  it("leaves every login as it was (W-26)", () => {
    for (const user of config.users) {
      const after = find(swapped, user.name, user.database);
      expect(after.password).toBe(user.password);
    }
  });

  it("moves what we prove to servers with the cluster", () => {
    expect(userCredentials(find(swapped, "app", "prod"))).toEqual({
      user: "app_s",
      password: "app-sharded-server",
    });
    expect(userCredentials(find(swapped, "app", "prod_sharded"))).toEqual({
      user: "app",
      password: "app-client",
    });
    // Known under one name only: the one pair of credentials that there is.
    expect(userCredentials(find(swapped, "reports", "prod")).user).toBe("reports");
  });

  it("takes each cluster's schema admin along, whom no client can be", () => {
    expect(schemaAdminOf(swapped, "prod")).toMatchObject({ name: "sharder", password: null });
    expect(schemaAdminOf(swapped, "prod_sharded")).toMatchObject({ name: "owner", password: null });
    expect(userCredentials(find(swapped, "owner", "prod_sharded"))).toEqual({
      user: "owner",
      password: "owner-client",
    });
    expect(find(swapped, "owner", "prod").schemaAdmin).toBe(false);
  });
});

/** What users and servers notice of a configuration. */
function effect(of: Config, logins: readonly UserConfig[]) {
  return {
    databases: of.databases,
    shardedTables: of.shardedTables,
    omnishardedTables: of.omnishardedTables,
    logins: logins.map((login) => {
      const user = find(of, login.name, login.database);
      return {
        password: user.password,
        pool: [user.poolSize, user.poolerMode],
        servers: of.databases
          .filter((one) => one.name === user.database)
          .map((one) => serverCredentials(one, user)),
      };
    }),
    admins: ["a", "b"].map((name) => {
      // A database without users has no admin; the one that a switch brings along does no harm.
      const admin = schemaAdminOf(of, name);
      const hasUsers = logins.some((login) => login.database === name);
      return admin === null || !hasUsers ? null : userCredentials(admin);
    }),
    strangers: of.users
      .filter((one) => !logins.some((l) => l.name === one.name && l.database === one.database))
      .map((one) => one.password),
  };
}

const name = fc.constantFrom("u", "v", "w");
const database = fc.constantFrom("a", "b", "c");
const secret = fc.option(fc.constantFrom("p", "q", "r"), { nil: null });
const users = fc.uniqueArray(
  fc.record({
    name,
    database,
    password: secret,
    serverUser: fc.option(name, { nil: null }),
    serverPassword: secret,
    poolSize: fc.option(fc.nat(9), { nil: null }),
    poolerMode: fc.constant(null),
    schemaAdmin: fc.boolean(),
  }),
  { selector: (user) => `${user.name}@${user.database}` },
);
const server = (of: string, shard: number) => ({
  name: of,
  host: `${of}${shard}`,
  port: 5432,
  shard,
  role: "primary" as const,
  databaseName: of,
  user: null,
  password: null,
  poolSize: null,
  poolerMode: null,
});

describe("properties", () => {
  const base = { ...config, databases: [server("a", 0), server("b", 0), server("b", 1)] };

  it("swapping twice has no effect", () => {
    fc.assert(
      fc.property(users, (generated) => {
        const before: Config = { ...base, users: generated };
        const once = swapDatabases(before, "a", "b");
        const twice = swapDatabases(once, "b", "a");
        const { strangers, ...rest } = effect(twice, generated);
        const { strangers: none, ...original } = effect(before, generated);
        expect(rest).toEqual(original);
        expect(none).toEqual([]);
        expect(strangers.every((password) => password === null)).toBe(true);
        // And four times is as good as twice: nothing grows.
        const fourTimes = swapDatabases(swapDatabases(twice, "a", "b"), "a", "b");
        expect(fourTimes).toEqual(twice);
      }),
    );
  });

  it("a switch leaves every login under its name, and other databases alone", () => {
    fc.assert(
      fc.property(users, (generated) => {
        const once = swapDatabases({ ...base, users: generated }, "a", "b");
        for (const user of generated) {
          const after = find(once, user.name, user.database);
          expect(after.password).toBe(user.password);
          if (user.database === "c") expect(after).toEqual(user);
        }
        for (const [from, to] of [
          ["a", "b"],
          ["b", "a"],
        ] as const) {
          const admin = schemaAdminOf({ ...base, users: generated }, from);
          const moved = schemaAdminOf(once, to);
          if (admin) expect(moved && userCredentials(moved)).toEqual(userCredentials(admin));
        }
      }),
    );
  });
});

describe("the hash that nodes compare", () => {
  it("does not know passwords, comments or order", () => {
    const other = parseConfig({
      pgdog: PGDOG.replace("# our proxies", ""),
      users: USERS.replaceAll("-client", "-other"),
    });
    expect(configHash(other)).toBe(configHash(config));
    const reversed = { ...config, databases: config.databases.toReversed() };
    expect(configHash(reversed)).toBe(configHash(config));
  });

  it("changes with a server, a rule, or a switch", () => {
    const hashes = [
      config,
      swapDatabases(config, "prod", "prod_sharded"),
      parseConfig({ pgdog: PGDOG.replace("10.0.0.3", "10.0.0.4"), users: USERS }),
      parseConfig({ pgdog: PGDOG.replace("tenant_id", "id"), users: USERS }),
    ].map(configHash);
    expect(new Set(hashes).size).toBe(4);
  });
});
