import { afterAll, beforeAll, expect, test } from "vitest";
import { connectSql, type SqlClient } from "../../../src/backend/sql-client.js";
import {
  compareOmnisharded,
  listOmnisharded,
} from "../../../src/resharding/verify/omnisharded-shards.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";

let server: PostgresServer;
const clients: SqlClient[] = [];
const SHARDS = ["one", "two", "three"];

beforeAll(async () => {
  server = await startPostgres();
  for (const name of SHARDS) {
    await server.createDatabase(name);
    await server.sql(
      name,
      `CREATE TABLE plan (a int, b int, note text, PRIMARY KEY (a, b));
       CREATE TABLE event (what text);
       CREATE TABLE orders (tenant_id bigint);
       INSERT INTO plan SELECT g, g, 'n' FROM generate_series(1, 50) g;
       INSERT INTO event VALUES ('x'), ('x')`,
    );
    clients.push(await connectSql(server.address(name), { applicationName: "test" }));
  }
});

afterAll(async () => {
  for (const client of clients) await client.end();
  await server[Symbol.asyncDispose]();
});

async function differences() {
  const [first] = clients;
  if (!first) throw new Error("no shard");
  const rule = { name: null, schema: null, column: "tenant_id", dataType: "bigint" } as const;
  const cluster = { name: "app", shards: [], shardedTables: [rule], omnishardedTables: [] };
  return await compareOmnisharded(clients, await listOmnisharded(first, cluster));
}

test("says table, shard, counts and the key's columns of what differs", async () => {
  expect(await differences()).toEqual([]);
  await server.sql("one", "INSERT INTO orders VALUES (1)");
  await server.sql("two", "DELETE FROM plan WHERE a = 7; UPDATE plan SET note = 'm' WHERE a = 8");
  await server.sql("three", "INSERT INTO event VALUES ('x'); INSERT INTO plan VALUES (70, 1, '')");
  const plan = { schema: "public", name: "plan", keyColumns: ["a", "b"] };
  expect(await differences()).toEqual([
    {
      schema: "public",
      name: "event",
      keyColumns: [],
      shard: 2,
      firstRowCount: 2,
      rowCount: 3,
      keyCount: 1,
    },
    { ...plan, shard: 1, firstRowCount: 50, rowCount: 49, keyCount: 2 },
    { ...plan, shard: 2, firstRowCount: 50, rowCount: 51, keyCount: 1 },
  ]);
  await server.sql("three", "DROP TABLE event; DELETE FROM plan WHERE a = 70");
  expect(await differences()).toMatchObject([
    { name: "event", shard: 2, rowCount: null, keyCount: 1 },
    { name: "plan", shard: 1 },
  ]);
  await server.sql(
    "three",
    "CREATE TABLE event AS SELECT 'x'::text AS what FROM generate_series(1, 2)",
  );
  await server.sql(
    "two",
    "INSERT INTO plan VALUES (7, 7, 'n'); UPDATE plan SET note = 'n' WHERE a = 8",
  );
  expect(await differences()).toEqual([]);
});

test("a write that is on its way is no difference", async () => {
  const writers = await Promise.all(
    SHARDS.map(
      async (name) => await connectSql(server.address(name), { applicationName: "writer" }),
    ),
  );
  const all = async (sql: string) => {
    for (const writer of [...writers].reverse()) await writer.query(sql);
  };
  await all("BEGIN");
  await all("INSERT INTO public.plan VALUES (500, 1, 'late')");
  await writers[2]?.query("COMMIT");
  const compared = differences();
  const waiting =
    "SELECT FROM pg_locks WHERE mode = 'ShareLock' AND locktype = 'relation' AND NOT granted";
  await until(async () => (await server.sql("one", waiting)).length === 1, {
    timeoutMs: 10_000,
    what: "the comparison to wait for the writer",
  });
  await writers[1]?.query("COMMIT");
  await writers[0]?.query("COMMIT");
  expect(await compared).toEqual([]);
  for (const writer of writers) await writer.end();
});
