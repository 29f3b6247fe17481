import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { ProtocolClient } from "./protocol-client.js";
import { SCRIPTS } from "./protocol-corpus.js";
import type { Script } from "./protocol-script.js";
import { startProxy, type TestProxy, testConfig } from "./support.js";

/** Every message sequence is answered as PostgreSQL answers it, message by message. */

let server: PostgresServer;
let proxy: TestProxy;

const DATABASES = ["plain", "single", "shard_0", "shard_1"];

beforeAll(async () => {
  server = await startPostgres();
  for (const name of DATABASES) {
    await server.createDatabase(name);
    await server.sql(
      name,
      `CREATE TABLE t (id bigint PRIMARY KEY, v text);
       CREATE TABLE lone (id bigint, k int, v text, PRIMARY KEY (id, k))`,
    );
  }
  const [, single, zero, one] = DATABASES.map((database) => ({ server, database }));
  if (!single || !zero || !one) throw new Error("no shards");
  proxy = await startProxy(
    testConfig({
      databases: [
        { name: "single", shards: [single] },
        { name: "double", shards: [zero, one] },
      ],
      shardedTables: [
        { database: "double", name: null, schema: null, column: "id", dataType: "bigint" },
      ],
    }),
  );
});

afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

async function run(port: number, database: string, { exchanges }: Script): Promise<string[]> {
  await using client = await ProtocolClient.connect(port, database);
  const seen: string[] = [];
  for (const { send, until } of exchanges) seen.push(...(await client.exchange(send, until)), "--");
  return seen;
}

/** 1 to 6, by the key on both shards of `double`, and all of it elsewhere. */
async function fill(): Promise<void> {
  const sql = `INSERT INTO t SELECT n, CASE WHEN n < 4 THEN 'low' ELSE 'high' END FROM generate_series(1, 6) n`;
  const lone = "INSERT INTO lone SELECT 1, k, 'v' || k FROM generate_series(1, 4) k";
  await Promise.all(
    DATABASES.map(async (name) => {
      await server.sql(name, "TRUNCATE t, lone");
      if (name.startsWith("shard")) return;
      await server.sql(name, `${sql}; ${lone}`);
    }),
  );
  const loader = await proxy.client("double");
  await loader.query(
    "INSERT INTO t VALUES (1, 'low'), (2, 'low'), (3, 'low'), (4, 'high'), (5, 'high'), (6, 'high')",
  );
  await loader.query(
    "INSERT INTO lone VALUES (1, 1, 'v1'), (1, 2, 'v2'), (1, 3, 'v3'), (1, 4, 'v4')",
  );
  await loader.end();
}

beforeEach(fill);

test("the corpus is as large as it says", () => {
  expect(SCRIPTS.length).toBeGreaterThanOrEqual(60);
  expect(new Set(SCRIPTS.map(({ name }) => name)).size).toBe(SCRIPTS.length);
});

test.each(SCRIPTS)("$name", async (script) => {
  const said = await run(server.port, "plain", script);
  expect(said.join("\n")).not.toContain("nothing more came");
  expect(await run(proxy.port, "single", script)).toEqual(said);
  expect(await run(proxy.port, "double", script)).toEqual(said);
});
