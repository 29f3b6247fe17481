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
