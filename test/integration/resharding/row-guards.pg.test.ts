import { afterAll, beforeAll, expect, test } from "vitest";
import { connectSql, type SqlClient } from "../../../src/backend/sql-client.js";
import { guardRows } from "../../../src/resharding/switch/row-guards.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";

let server: PostgresServer;
let client: SqlClient;

beforeAll(async () => {
  server = await startPostgres();
  await server.createDatabase("guarded");
  client = await connectSql(server.address("guarded"), { applicationName: "test" });
  await server.sql(
    "guarded",
    `CREATE TABLE plain (id int PRIMARY KEY);
     CREATE TABLE parted (id int, at date) PARTITION BY RANGE (at);
     CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')`,
  );
});

afterAll(async () => {
  await client.end();
  await server[Symbol.asyncDispose]();
});

const named = (...names: string[]) => names.map((name) => ({ schema: "public", name }));

const guard = async () =>
  await guardRows(client, named("plain", "parted_1"), async (_table, act) => await act());

test("guards come where there are triggers, on the roots of partitions, and once", async () => {
  expect(await guard()).toEqual([]);
  expect(await server.sql("guarded", "SELECT FROM pg_trigger")).toEqual([]);
  await server.sql(
    "guarded",
    `CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
     CREATE TRIGGER touch BEFORE UPDATE ON plain FOR EACH ROW EXECUTE FUNCTION touch()`,
  );
  expect(await guard()).toEqual(named("parted", "plain"));
  expect(await guard()).toEqual([]);
  await server.sql("guarded", `ALTER TABLE plain DISABLE TRIGGER "~sluice_replay"`);
  expect(await guard()).toEqual(named("plain"));
  await server.sql(
    "guarded",
    "INSERT INTO parted VALUES (1, '2026-02-02'); UPDATE parted SET id = 2",
  );
});
