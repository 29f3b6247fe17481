import { afterAll, beforeAll, expect, test } from "vitest";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { startProxy, type TestProxy, testConfig } from "./support.js";

const SHARDS = ["shard_0", "shard_1"];
let server: PostgresServer;
let proxy: TestProxy;

beforeAll(async () => {
  server = await startPostgres();
  for (const name of SHARDS) await server.createDatabase(name);
  proxy = await startProxy(
    testConfig({
      databases: [{ name: "app", shards: SHARDS.map((database) => ({ server, database })) }],
      shardedTables: [
        { database: "app", name: null, schema: null, column: "tenant_id", dataType: "bigint" },
      ],
    }),
  );
});

afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

test("a sequence gives each of its numbers once, whoever asks", async () => {
  for (const name of SHARDS) await server.sql(name, "CREATE SEQUENCE bill");
  const clients = await Promise.all(Array.from({ length: 10 }, () => proxy.client("app")));
  const drawn = await Promise.all(
    clients.map(async (client) => await client.query("SELECT nextval('bill')::int AS n")),
  );
  const numbers = drawn.map(({ rows }) => rows[0]?.n as number);
  expect(numbers.sort((one, other) => one - other)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
});

test("unique keys without the sharding key are made, and the client is told", async () => {
  const client = await proxy.client("app");
  const said: string[] = [];
  client.on("notice", ({ message }) => said.push(message ?? ""));
  await client.query("CREATE TABLE made (id bigserial PRIMARY KEY, tenant_id bigint, slug text)");
  await client.query("CREATE UNIQUE INDEX ON made (slug)");
  await client.query("BEGIN");
  await client.query("ALTER TABLE made ADD CONSTRAINT one UNIQUE (slug)");
  await client.query("ALTER TABLE made ADD CONSTRAINT two UNIQUE (tenant_id, slug)");
  await client.query("COMMIT");
  await client.query("CREATE TABLE same (id int PRIMARY KEY, slug text UNIQUE)");
  const rest = 'does not have the sharding key "tenant_id": each shard sees to its own rows';
  expect(said).toEqual([
    `the primary key on "made" ${rest}`,
    `a unique index on "made" ${rest}`,
    `a unique constraint on "made" ${rest}`,
  ]);
  await client.query("SET client_min_messages = warning");
  await client.query("CREATE UNIQUE INDEX ON made (slug, id)");
  expect(said).toHaveLength(3);
});

test("a row that moves takes a column along that came past the proxy a moment ago", async () => {
  const client = await proxy.client("app");
  await client.query("CREATE TABLE moving (id int, tenant_id bigint)");
  await client.query("INSERT INTO moving VALUES (1, 1)");
  for (const name of SHARDS)
    await server.sql(
      name,
      "ALTER TABLE moving ADD COLUMN late text; UPDATE moving SET late = 'kept'",
    );
  await client.query("UPDATE moving SET tenant_id = 3 WHERE id = 1");
  const { rows } = await client.query("SELECT tenant_id::int, late FROM moving");
  expect(rows).toEqual([{ tenant_id: 3, late: "kept" }]);
});
