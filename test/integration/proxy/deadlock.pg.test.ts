import pg from "pg";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";
import { startProxy, type TestProxy, testConfig } from "./support.js";

/** Deadlocks over shards, and what else waits on several shards at once. */

let servers: readonly PostgresServer[];
let node: TestProxy;
let otherNode: TestProxy;

beforeAll(async () => {
  servers = await Promise.all(
    [0, 1].map(async () => await startPostgres({ settings: { deadlock_timeout: "300ms" } })),
  );
  for (const server of servers) {
    await server.createDatabase("shard");
    await server.sql(
      "shard",
      "CREATE TABLE tenant (tenant_id bigint PRIMARY KEY, n int DEFAULT 0)",
    );
  }
});

beforeEach(async () => {
  const config = testConfig({
    databases: [{ name: "app", shards: servers.map((server) => ({ server, database: "shard" })) }],
    shardedTables: [
      { database: "app", name: null, schema: null, column: "tenant_id", dataType: "bigint" },
    ],
  });
  for (const server of servers) await server.sql("shard", "TRUNCATE tenant");
  [node, otherNode] = await Promise.all([startProxy(config), startProxy(config)]);
  const client = await node.client("app");
  await client.query("INSERT INTO tenant VALUES (1), (2), (3), (4)");
  return async () => {
    await Promise.all([node[Symbol.asyncDispose](), otherNode[Symbol.asyncDispose]()]);
  };
});

afterAll(async () => {
  for (const server of servers) await server[Symbol.asyncDispose]();
});

/** Keys 1 and 2 are on shard 0, 3 and 4 on shard 1. */
const update = (key: number) => `UPDATE tenant SET n = n + 1 WHERE tenant_id = ${key}`;

async function begun(proxy: TestProxy, keys: readonly number[]): Promise<pg.Client> {
  const client = await proxy.client("app");
  await client.query("BEGIN");
  for (const key of keys) await client.query(update(key));
  return client;
}

async function outcome(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return "done";
  } catch (error) {
    return error instanceof pg.DatabaseError ? (error.code ?? "") : String(error);
  }
}

/** Each client asks for its key; who is refused rolls back, and the others go on. */
async function collide(
  asked: readonly (readonly [pg.Client, string])[],
): Promise<readonly string[]> {
  return await Promise.all(
    asked.map(async ([client, sql]) => {
      const came = await outcome(client.query(sql));
      await client.query(came === "done" ? "COMMIT" : "ROLLBACK");
      return came;
    }),
  );
}

test.each(["one node", "two nodes"])(
  "two transactions wait for each other: %s",
  async (where) => {
    const one = await begun(node, [1]);
    const other = await begun(where === "one node" ? node : otherNode, [3]);
    const came = await collide([
      [one, update(3)],
      [other, update(1)],
    ]);
    expect(came.toSorted()).toEqual(["40P01", "done"]);
    const { rows } = await one.query("SELECT n FROM tenant ORDER BY tenant_id");
    expect(rows.map(({ n }) => Number(n))).toEqual([1, 0, 1, 0]);
  },
  30_000,
);

test("the extended protocol, a scattered write, and a session that is on one shard only, in one circle", async () => {
  const one = await begun(node, [1]);
  const other = await begun(otherNode, [4]);
  const single = await begun(node, [3]);
  const came = await collide([
    // one waits for single on shard 1, which waits for other there, which waits for one on shard 0.
    [one, "UPDATE tenant SET n = n + 1 WHERE tenant_id IN (2, 3)"],
    [single, update(4)],
    [other, "UPDATE tenant SET n = n + 1 WHERE tenant_id = ANY(ARRAY[1])"],
  ]);
  expect(came.filter((each) => each === "40P01")).toHaveLength(1);
  expect(came.filter((each) => each === "done")).toHaveLength(2);
}, 30_000);

test("who waits long, and nobody for it, is left alone", async () => {
  const holder = await begun(node, [1, 3]);
  const waiter = await begun(otherNode, [4]);
  const waited = outcome(
    waiter.query({ text: "UPDATE tenant SET n = n + 1 WHERE tenant_id = $1", values: [1] }),
  );
  const looks =
    "SELECT count(*)::int AS n FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2";
  for (const server of servers)
    await until(async () => Number((await server.sql("shard", looks))[0]?.n) > 0, {
      timeoutMs: 10_000,
      what: "the transaction to be looked at",
    });
  await holder.query("COMMIT");
  expect(await waited).toBe("done");
  await waiter.query("COMMIT");
  for (const server of servers)
    await until(async () => Number((await server.sql("shard", looks))[0]?.n) === 0, {
      timeoutMs: 10_000,
      what: "its marks to be taken back",
    });
}, 30_000);

test("an error of one shard ends the others at once", async () => {
  const locker = new pg.Client({
    connectionString: `postgres://postgres@127.0.0.1:${servers[1]?.port}/shard`,
  });
  await locker.connect();
  try {
    await locker.query("BEGIN");
    await locker.query("LOCK TABLE tenant");
    const client = await node.client("app");
    const sql = "SELECT 1 / (tenant_id - 1) AS n FROM tenant";
    expect(await outcome(client.query(sql))).toBe("22012");
    await client.query("BEGIN");
    await client.query("SAVEPOINT s");
    expect(await outcome(client.query({ text: `${sql} WHERE n >= $1`, values: [0] }))).toBe(
      "22012",
    );
    await client.query("ROLLBACK TO s");
    await locker.query("ROLLBACK");
    await client.query(update(3));
    await client.query("COMMIT");
  } finally {
    await locker.end();
  }
}, 30_000);
