import { afterAll, beforeAll, expect, test } from "vitest";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { startProxy, type TestProxy, testConfig } from "./support.js";

/** R53: sharded tables that are made through the proxy refuse rows of other shards. */

const SHARDS = ["placed_0", "placed_1", "placed_2"];
let server: PostgresServer;
let proxy: TestProxy;

const rule = (name: string | null, column: string) =>
  ({ database: "app", name, schema: null, column, dataType: "bigint" }) as const;

beforeAll(async () => {
  server = await startPostgres();
  for (const name of SHARDS) await server.createDatabase(name);
  proxy = await startProxy(
    testConfig({
      databases: [{ name: "app", shards: SHARDS.map((database) => ({ server, database })) }],
      shardedTables: [rule("log", "k"), rule(null, "tenant_id")],
    }),
  );
});

afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const guarded = async () =>
  await Promise.all(
    SHARDS.map(async (database) => {
      const rows = await server.sql(
        database,
        `SELECT conrelid::regclass::text AS name FROM pg_constraint WHERE conname = 'sluice_placement' ORDER BY 1`,
      );
      return rows.map(({ name }) => name).join(" ");
    }),
  );

const everywhere = (tables: string) => SHARDS.map(() => tables);

test("CREATE TABLE of a sharded table makes one, in a transaction or not, and once; others get none", async () => {
  const client = await proxy.client("app");
  const said: string[] = [];
  client.on("notice", ({ message }) => said.push(message ?? ""));
  await client.query("CREATE TABLE a (id bigserial PRIMARY KEY, tenant_id bigint)");
  expect(said.join()).toContain('does not have the sharding key "tenant_id"');
  await client.query("CREATE TABLE IF NOT EXISTS a (id bigserial PRIMARY KEY, tenant_id bigint)");
  await client.query("BEGIN");
  await client.query("CREATE TABLE b (LIKE a)");
  await client.query({ name: "prepared", text: "CREATE TABLE c (tenant_id int, n int)" });
  await client.query("CREATE TABLE gone (tenant_id int)");
  await client.query("DROP TABLE gone");
  await client.query("COMMIT");
  await client.query("CREATE TABLE plan (id int)");
  await client.query("CREATE TEMP TABLE mine (tenant_id int)").catch(() => {});
  expect(await guarded()).toEqual(everywhere("a b c"));
  for (let key = 0; key < 30; key++) await client.query("INSERT INTO c VALUES ($1, $1)", [key]);
  expect((await client.query("SELECT count(*)::int AS n FROM c")).rows).toEqual([{ n: 30 }]);
  await client.query("DROP TABLE a, b");
});

test("partitions inherit it, attached ones have it first, detached ones keep it", async () => {
  const client = await proxy.client("app");
  await client.query("DROP TABLE IF EXISTS c");
  await client.query("CREATE TABLE log (k bigint, at date) PARTITION BY RANGE (at)");
  await client.query(
    "CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
  );
  await client.query("CREATE TABLE log_2 (k bigint, at date)");
  await client.query(
    "ALTER TABLE log ATTACH PARTITION log_2 FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
  );
  expect(await guarded()).toEqual(everywhere("log log_1 log_2"));
  for (let key = 0; key < 30; key++)
    await client.query(`INSERT INTO log VALUES (${key}, '202${6 + (key % 2)}-05-05')`);
  await client.query("ALTER TABLE log DETACH PARTITION log_2");
  expect(await guarded()).toEqual(everywhere("log log_1 log_2"));
  await client.query("ALTER TABLE log ALTER k TYPE int");
  await client.query("ALTER TABLE log RENAME at TO day");
  expect(await guarded()).toEqual(everywhere("log log_1 log_2"));
  // Like a sharded table, and none itself.
  await client.query("CREATE TABLE copy_of_log (LIKE log INCLUDING ALL)");
  expect(await guarded()).toEqual(everywhere("log log_1 log_2"));
  await client.query("DROP TABLE log, log_2, copy_of_log");
  expect(await guarded()).toEqual(everywhere(""));
});

test("what a guard refuses, says why: one shard or many, simple or extended", async () => {
  const client = await proxy.client("app");
  await client.query("CREATE TABLE moved (tenant_id bigint, n int)");
  const moves = `CREATE FUNCTION moves() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN NEW.tenant_id := NEW.tenant_id + NEW.n; RETURN NEW; END';
    CREATE TRIGGER moves BEFORE INSERT ON moved FOR EACH ROW EXECUTE FUNCTION moves()`;
  for (const database of SHARDS) await server.sql(database, moves);
  const refusals: unknown[] = [];
  for (let n = 0; n < 8; n++)
    await client
      .query("INSERT INTO moved VALUES ($1, $2)", [5, n])
      .catch((error) => refusals.push(error));
  await client
    .query(
      "INSERT INTO moved SELECT tenant_id, g FROM moved, generate_series(1, 9) g WHERE tenant_id = 5",
    )
    .catch((error) => refusals.push(error));
  await client
    .query(
      `INSERT INTO moved VALUES ${Array.from({ length: 20 }, (_, key) => `(${key}, 1)`).join(", ")}`,
    )
    .catch((error) => refusals.push(error));
  expect(refusals.length).toBeGreaterThan(3);
  for (const refusal of refusals)
    expect(refusal).toMatchObject({
      code: "23514",
      constraint: "sluice_placement",
      hint: expect.stringContaining("belongs to another shard"),
    });
});
