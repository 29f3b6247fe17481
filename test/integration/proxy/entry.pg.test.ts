import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Log, LogFields } from "../../../src/observe/log.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { startProxy, type TestProxy, testConfig } from "./support.js";

let server: PostgresServer;

beforeAll(async () => {
  server = await startPostgres();
  for (const name of ["app", "wide_0", "wide_1"]) {
    await server.createDatabase(name);
    await server.sql(
      name,
      `CREATE TABLE tenant (tenant_id bigint PRIMARY KEY, name text);
       CREATE TABLE place (shard text); INSERT INTO place VALUES ('${name}');
       CREATE FUNCTION here() RETURNS text LANGUAGE sql VOLATILE AS 'SELECT shard FROM place'`,
    );
  }
  await server.sql("wide_0", "INSERT INTO tenant VALUES (1), (2)");
  await server.sql("wide_1", "INSERT INTO tenant VALUES (3), (4)");
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const config = (general: Parameters<typeof testConfig>[0]["general"] = {}) =>
  testConfig({
    databases: [
      { name: "app", shards: [{ server, database: "app" }] },
      {
        name: "wide",
        shards: [
          { server, database: "wide_0" },
          { server, database: "wide_1" },
        ],
      },
    ],
    users: [{ name: "postgres", password: "not to be logged" }],
    shardedTables: [
      { database: "wide", name: null, schema: null, column: "tenant_id", dataType: "bigint" },
    ],
    general: { defaultPoolSize: 2, ...general },
  });

async function code(promise: Promise<unknown>): Promise<string> {
  return await promise.then(
    () => "none",
    (error: { code?: string }) => error.code ?? "?",
  );
}

describe("who gets in", () => {
  test("trust opens databases, and not the admin database", async () => {
    await using proxy = await startProxy(config({ authType: "trust" }));
    await proxy.client("app");
    const admin = (password: string) => proxy.client("admin", { user: "admin", password });
    expect(await code(admin("wrong"))).toBe("28P01");
    await admin("secret");
  });

  test("failed logins are logged with address, user and database, and no password", async () => {
    const lines: LogFields[] = [];
    const log: Log = {
      child: () => log,
      debug: () => {},
      info: () => {},
      warn: (message, fields) => lines.push({ message, ...fields }),
      error: () => {},
    };
    await using proxy = await startProxy(config({ authType: "scram" }), log);
    for (const options of [
      { user: "postgres", password: "a wrong one" },
      { user: "nobody", password: "a wrong one" },
      { user: "postgres", password: "not to be logged", options: "-c work_mem=lots" },
    ])
      expect(await code(proxy.client("app", options))).toMatch(/28P01|22023/);
    const refused = lines.filter(({ message }) => message === "login refused");
    expect(refused.map(({ address, user, database }) => [address, user, database])).toEqual([
      [expect.stringContaining("127.0.0.1"), "postgres", "app"],
      [expect.stringContaining("127.0.0.1"), "nobody", "app"],
      [expect.stringContaining("127.0.0.1"), "postgres", "app"],
    ]);
    expect(JSON.stringify(lines)).not.toMatch(/wrong one|not to be/);
  });
});

test.each([
  "BEGIN",
  "begin; select 1",
  "select 1; start transaction",
  "/* */ begin /* */; select 1; commit",
])("statement mode refuses %s", async (sql) => {
  await using proxy = await startProxy(config({ poolerMode: "statement" }));
  for (const database of ["app", "wide"]) {
    const client = await proxy.client(database, { password: "not to be logged" });
    expect(await code(client.query(sql))).toBe("0A000");
    expect((await client.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
  }
});

describe("hints", () => {
  let proxy: TestProxy;
  let client: pg.Client;

  beforeEach(async () => {
    proxy = await startProxy(config());
    client = await proxy.client("wide");
    return async () => {
      await proxy[Symbol.asyncDispose]();
    };
  });

  const keys = async (sql: string, values?: readonly unknown[]) => {
    const { rows } = await client.query(sql, values ? [...values] : undefined);
    return (rows as { tenant_id: string }[]).map(({ tenant_id: id }) => Number(id)).sort();
  };

  test("comments name a shard, in both protocols, or are refused", async () => {
    for (const values of [undefined, []]) {
      expect(await keys("/* pgdog_shard: 1 */ SELECT * FROM tenant", values)).toEqual([3, 4]);
      expect(await keys("SELECT * FROM tenant /* pgdog_sharding_key: 1 */", values)).toEqual([
        1, 2,
      ]);
    }
    const { rows } = await client.query("/* pgdog_shard: 1 */ SELECT here()");
    expect(rows).toEqual([{ here: "wide_1" }]);
    for (const sql of [
      "/* pgdog_shard: 2 */ SELECT * FROM tenant",
      "/* pgdog_role: replica */ SELECT * FROM tenant",
      "/* pgdog_shard: 0 */ INSERT INTO tenant VALUES (3)",
      "/* pgdog_shard: 0 */ INSERT INTO tenant VALUES (5), (6), (7), (8)",
      "/* pgdog_shard: 1 */ DELETE FROM tenant WHERE tenant_id = 1",
    ])
      expect(await code(client.query(sql)), sql).toBe("58000");
  });

  test("settings do, also within a transaction, and go with it", async () => {
    await client.query("SET pgdog.shard TO 1");
    expect(await keys("SELECT * FROM tenant")).toEqual([3, 4]);
    await client.query("RESET pgdog.shard");
    expect(await keys("SELECT * FROM tenant")).toEqual([1, 2, 3, 4]);
    await client.query("BEGIN");
    await client.query("SET LOCAL pgdog.shard = 0");
    expect(await keys("SELECT * FROM tenant")).toEqual([1, 2]);
    await client.query("SAVEPOINT a");
    await client.query("SET LOCAL pgdog.sharding_key = '3'");
    expect(await keys("SELECT * FROM tenant")).toEqual([3, 4]);
    await client.query("ROLLBACK TO a");
    expect(await keys("SELECT * FROM tenant")).toEqual([1, 2]);
    await client.query("COMMIT");
    expect(await keys("SELECT * FROM tenant")).toEqual([1, 2, 3, 4]);
    const hinted = await proxy.client("wide", { options: "-c pgdog.shard=1" });
    expect((await hinted.query("SELECT here()")).rows).toEqual([{ here: "wide_1" }]);
    await client.query("SET pgdog.shard TO 7");
    expect(await code(client.query("SELECT * FROM tenant"))).toBe("58000");
    await client.query("RESET ALL");
    expect(await keys("SELECT * FROM tenant")).toEqual([1, 2, 3, 4]);
  });

  test("one shard is shard 0, and there is no other", async () => {
    const single = await proxy.client("app");
    for (const sql of ["/* pgdog_shard: 0 */ SELECT 1", "/* pgdog_sharding_key: 5 */ SELECT 1"])
      await single.query(sql);
    expect(await code(single.query("/* pgdog_shard: 1 */ SELECT 1"))).toBe("58000");
    await single.query("SET pgdog.shard = 1");
    expect(await code(single.query("SELECT 1"))).toBe("58000");
    await single.query("RESET pgdog.shard");
    await single.query("SELECT 1");
  });
});
