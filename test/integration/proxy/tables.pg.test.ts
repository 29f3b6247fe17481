import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import pg from "pg";
import copyStreams from "pg-copy-streams";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { shardOfText } from "../../../src/topology/hash.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { startProxy, type TestProxy, testConfig } from "./support.js";

let server: PostgresServer;
/** Two data planes that know nothing of each other, as those of two nodes. */
let one: TestProxy;
let other: TestProxy;

const SHARDS = ["shard_0", "shard_1"] as const;

const config = () =>
  testConfig({
    databases: [{ name: "app", shards: SHARDS.map((database) => ({ server, database })) }],
    general: { defaultPoolSize: 4 },
    shardedTables: [
      { database: "app", name: null, schema: null, column: "customer_id", dataType: "bigint" },
    ],
  });

beforeAll(async () => {
  server = await startPostgres();
  for (const name of SHARDS) await server.createDatabase(name);
});

beforeEach(async () => {
  await onShards(
    `DROP SCHEMA IF EXISTS public CASCADE; CREATE SCHEMA public;
     CREATE TABLE ev (a text, customer_id bigint, b bigint)`,
  );
  one = await startProxy(config());
  other = await startProxy(config());
  return async () => {
    await one[Symbol.asyncDispose]();
    await other[Symbol.asyncDispose]();
  };
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

/** As psql does it, past every proxy. */
async function onShards(sql: string): Promise<void> {
  for (const name of SHARDS) await server.sql(name, sql);
}

/** Keys that are where they do not belong, and how many rows there are. */
async function misplaced(table = "ev"): Promise<{ rows: number; misplaced: string[] }> {
  let rows = 0;
  const wrong: string[] = [];
  for (const [shard, name] of SHARDS.entries())
    for (const { key } of await server.sql(name, `SELECT customer_id::text AS key FROM ${table}`)) {
      rows++;
      if (shardOfText(String(key), "bigint", SHARDS.length) !== shard) wrong.push(String(key));
    }
  return { rows, misplaced: wrong };
}

async function failure(promise: Promise<unknown>): Promise<pg.DatabaseError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof pg.DatabaseError) return error;
    throw error;
  }
  throw new Error("it did not fail");
}

/** Both planes have the tables in mind as they are now. */
async function learnt(sql: string): Promise<readonly [pg.Client, pg.Client]> {
  const clients = [await one.client("app"), await other.client("app")] as const;
  for (const client of clients) await client.query(sql);
  return clients;
}

describe("tables that change", () => {
  test("DDL through one plane, in a transaction: inserts without a list through the other", async () => {
    const [ddl, client] = await learnt("INSERT INTO ev VALUES ('a', 1, 2)");
    await ddl.query("BEGIN");
    await ddl.query("ALTER TABLE ev DROP COLUMN a");
    await ddl.query("COMMIT");
    for (let key = 100; key < 132; key++)
      await client.query(`INSERT INTO ev VALUES (${key}, ${key + 1000})`);
    expect(await misplaced()).toEqual({ rows: 34, misplaced: [] });
  });

  test("DDL past the proxies: 100 inserts through two nodes, none misplaced and none refused", async () => {
    const clients = await learnt("INSERT INTO ev VALUES ('a', 1, 2)");
    await onShards("ALTER TABLE ev DROP COLUMN a");
    for (let key = 100; key < 200; key++) {
      const client = clients[key % 2];
      if (key % 4 < 2) await client?.query(`INSERT INTO ev VALUES (${key}, ${key + 1000})`);
      else await client?.query("INSERT INTO ev VALUES ($1, $2)", [key, key + 1000]);
    }
    expect(await misplaced()).toEqual({ rows: 102, misplaced: [] });
  });

  test("a table made past the proxies, or through another plane, is there", async () => {
    const [ddl, client] = await learnt("SELECT count(*) FROM ev");
    await onShards("CREATE TABLE fresh (id bigint, customer_id bigint)");
    await client.query("INSERT INTO fresh VALUES (1, 5), (2, 6), (3, 7)");
    await ddl.query("CREATE TABLE later (id bigint, customer_id bigint)");
    await client.query("INSERT INTO later VALUES (1, 5), (2, 6), (3, 7)");
    await ddl.query("BEGIN");
    await ddl.query("CREATE TABLE last (id bigint, customer_id bigint)");
    await ddl.query("INSERT INTO last VALUES (1, 5)");
    await ddl.query("COMMIT");
    await client.query("INSERT INTO last VALUES (2, 6), (3, 7)");
    for (const table of ["fresh", "later", "last"])
      expect(await misplaced(table)).toEqual({ rows: 3, misplaced: [] });
  });

  test("planes of one node know of DDL before it is answered, also of a column made anew", async () => {
    one.onTablesChanged = async (database) => other.plane.tablesChanged(database);
    const [ddl, client] = await learnt("INSERT INTO ev VALUES ('1', 1, 2)");
    for (let key = 10; key < 20; key++) {
      await ddl.query("ALTER TABLE ev DROP COLUMN a, ADD COLUMN a text");
      // customer_id, b, a: by what was before it would be a, customer_id, b.
      await client.query(`INSERT INTO ev VALUES (${key}, 1, 2)`);
      await ddl.query("ALTER TABLE ev DROP COLUMN customer_id, ADD COLUMN customer_id bigint");
      await client.query(`INSERT INTO ev VALUES (1, '2', ${key})`);
      await ddl.query("TRUNCATE ev");
      await ddl.query("DROP TABLE ev; CREATE TABLE ev (a text, customer_id bigint, b bigint)");
      await client.query(`INSERT INTO ev VALUES ('1', ${key}, 2)`);
      expect(await misplaced()).toEqual({ rows: 1, misplaced: [] });
      const { rows } = await client.query("SELECT customer_id::int AS key FROM ev");
      expect(rows).toEqual([{ key }]);
    }
  });

  test("tables that are not the same on every shard: what all have is relied upon", async () => {
    await server.sql(
      "shard_1",
      "DROP TABLE ev; CREATE TABLE ev (b bigint, a text, customer_id bigint)",
    );
    const client = await one.client("app");
    await client.query("INSERT INTO ev VALUES ('a', 1, 10), ('b', 3, 20), ('c', 4, 30)");
    expect(await misplaced()).toEqual({ rows: 3, misplaced: [] });
    const { rows } = await client.query("SELECT a, b::int FROM ev ORDER BY b");
    expect(rows).toEqual([
      { a: "a", b: 10 },
      { a: "b", b: 20 },
      { a: "c", b: 30 },
    ]);
    expect((await failure(client.query("SELECT * FROM ev ORDER BY b"))).code).toBe("0A000");
  });

  test("definitions by other ways: several in a transaction, one that fails on a shard, an index beside", async () => {
    const [ddl, client] = await learnt("INSERT INTO ev VALUES ('a', 1, 2)");
    await server.sql("shard_1", "CREATE TABLE taken (id int)");
    expect((await failure(ddl.query("CREATE TABLE taken (customer_id bigint)"))).code).toBe(
      "42P07",
    );
    expect(await server.sql("shard_0", "SELECT to_regclass('taken') AS t")).toEqual([{ t: null }]);
    await ddl.query("CREATE INDEX CONCURRENTLY ev_b ON ev (b)");
    await ddl.query("BEGIN");
    await ddl.query("ALTER TABLE ev RENAME TO old_ev");
    await ddl.query("CREATE TABLE ev (customer_id bigint, b bigint, a text)");
    await ddl.query("ROLLBACK");
    await client.query("INSERT INTO ev VALUES ('a', 3, 2)");
    expect((await failure(ddl.query("DO $$ BEGIN EXECUTE 'DROP TABLE ev'; END $$"))).code).toBe(
      "0A000",
    );
    expect(await misplaced()).toEqual({ rows: 3, misplaced: [] });
  });

  test("in a transaction the error stands, and what comes after it is right", async () => {
    const [, client] = await learnt("INSERT INTO ev VALUES ('a', 1, 2)");
    await client.query("BEGIN");
    await client.query("INSERT INTO ev VALUES ('a', 3, 2)");
    await client.query("ROLLBACK");
    await onShards("ALTER TABLE ev DROP COLUMN a");
    await client.query("BEGIN");
    await client.query("SELECT count(*) FROM ev WHERE customer_id = 1");
    const error = await failure(client.query("INSERT INTO ev VALUES (10, 11)"));
    expect(error.code).toBe("42703");
    await client.query("ROLLBACK");
    await client.query("BEGIN");
    await client.query("INSERT INTO ev VALUES (10, 11)");
    await client.query("COMMIT");
    expect(await misplaced()).toEqual({ rows: 3, misplaced: [] });
  });

  test("COPY without a list takes the columns as they are now", async () => {
    const clients = await learnt("INSERT INTO ev VALUES ('a', 1, 2)");
    await onShards("ALTER TABLE ev DROP COLUMN a");
    for (const [at, client] of clients.entries()) {
      const lines = Array.from({ length: 50 }, (_, n) => `${at * 50 + n}\t${n}\n`);
      await pipeline(Readable.from(lines), client.query(copyStreams.from("COPY ev FROM STDIN")));
    }
    expect(await misplaced()).toEqual({ rows: 102, misplaced: [] });
  });

  test("rows over shards are merged by the columns that come, not by those that were", async () => {
    const clients = await learnt("INSERT INTO ev VALUES ('a', 1, 30), ('b', 3, 10), ('c', 4, 20)");
    for (const client of clients) await client.query("SELECT * FROM ev ORDER BY b");
    await onShards("ALTER TABLE ev DROP COLUMN a");
    for (const client of clients) {
      const { rows } = await client.query("SELECT * FROM ev ORDER BY b DESC");
      expect(rows.map(({ b }) => Number(b))).toEqual([30, 30, 20, 20, 10, 10]);
    }
  });
});
