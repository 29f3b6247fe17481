import { afterAll, beforeAll, expect, test } from "vitest";
import { KeyColumnUnfit, refuseUnfitKeys } from "../../../src/control/node/key-columns.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { startProxy, type TestProxy, testConfig } from "../proxy/support.js";

/** Values that PostgreSQL takes for equal are on one shard, or the key is refused by name. */

const SHARDS = ["keys_0", "keys_1"];
let server: PostgresServer;
let proxy: TestProxy;

const rule = (name: string, dataType: "bigint" | "varchar") =>
  ({ database: "app", name, schema: null, column: "k", dataType }) as const;

const configOf = (...rules: readonly ReturnType<typeof rule>[]) =>
  testConfig({
    databases: [{ name: "app", shards: SHARDS.map((database) => ({ server, database })) }],
    shardedTables: rules,
  });

beforeAll(async () => {
  server = await startPostgres();
  for (const name of SHARDS) {
    await server.createDatabase(name);
    await server.sql(
      name,
      `CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
       CREATE DOMAIN town AS text; CREATE DOMAIN small_town AS town;
       CREATE TABLE padded (k char(3)); CREATE TABLE cased (k text COLLATE loose);
       CREATE TABLE exact (k numeric); CREATE TABLE plain (k small_town, v int); CREATE TABLE counted (k int);`,
    );
  }
  proxy = await startProxy(
    configOf(
      rule("padded", "varchar"),
      rule("cased", "varchar"),
      rule("exact", "bigint"),
      rule("plain", "varchar"),
      rule("counted", "varchar"),
    ),
  );
});

afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

test.each([
  ["padded", "varchar", "k is character; the rule's data_type varchar does not fit it"],
  ["cased", "varchar", "k has a collation by which different texts are equal"],
  ["exact", "bigint", "k is numeric; the rule's data_type bigint does not fit it"],
  ["counted", "varchar", "k is integer; the rule's data_type varchar does not fit it"],
] as const)(
  "%s: a node does not start by it, and no statement is routed",
  async (table, type, says) => {
    const refused = refuseUnfitKeys(configOf(rule(table, type)));
    await expect(refused).rejects.toThrow(KeyColumnUnfit);
    await expect(refuseUnfitKeys(configOf(rule(table, type)))).rejects.toThrow(
      `public.${table}.${says}`,
    );
    const client = await proxy.client("app");
    for (const sql of [`INSERT INTO ${table} VALUES ('1')`, `SELECT * FROM ${table} WHERE k = '1'`])
      await expect(client.query(sql)).rejects.toMatchObject({ code: "0A000" });
  },
);

test("domains of fitting types are taken, and what is made fitting is routed at once", async () => {
  await refuseUnfitKeys(configOf(rule("plain", "varchar"), rule("counted", "bigint")));
  const client = await proxy.client("app");
  await client.query("INSERT INTO plain VALUES ('a', 1), ('b', 2), ('c', 3)");
  expect((await client.query("SELECT v FROM plain WHERE k = 'b'")).rows).toEqual([{ v: 2 }]);
  await client.query("ALTER TABLE padded ALTER k TYPE text");
  await client.query("INSERT INTO padded VALUES ('ab')");
  expect((await client.query("SELECT k FROM padded WHERE k = 'ab'")).rows).toEqual([{ k: "ab" }]);
});

test("a value is where the server finds it, whatever type it is declared or written as", async () => {
  const client = await proxy.client("app");
  await client.query("TRUNCATE plain");
  const keys = Array.from({ length: 20 }, (_, key) => String(key));
  for (const key of keys) await client.query(`INSERT INTO plain VALUES (00${key}, ${key})`);
  for (const key of keys) {
    const { rows } = await client.query("SELECT v FROM plain WHERE k = $1", [key]);
    expect(rows).toEqual([{ v: Number(key) }]);
    const cast = await client.query(`SELECT v FROM plain WHERE k = 00${key}::text`);
    expect(cast.rows).toEqual([{ v: Number(key) }]);
    // As character(n) it is compared without its blanks, so it is asked everywhere.
    const padded = await client.query(`SELECT v FROM plain WHERE k = '${key}  '::bpchar::text`);
    expect(padded.rows).toEqual([{ v: Number(key) }]);
  }
});
