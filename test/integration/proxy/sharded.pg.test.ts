import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import pg from "pg";
import copyStreams from "pg-copy-streams";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";
import { startProxy, type TestProxy, testConfig } from "./support.js";

let server: PostgresServer;
let proxy: TestProxy;

const configWith = (twoPhaseCommit: boolean) =>
  testConfig({
    databases: [
      {
        name: "app",
        shards: [
          { server, database: "shard_0" },
          { server, database: "shard_1" },
        ],
      },
    ],
    general: { defaultPoolSize: 4, twoPhaseCommit },
    shardedTables: [
      { database: "app", name: null, schema: null, column: "tenant_id", dataType: "bigint" },
    ],
  });

beforeAll(async () => {
  server = await startPostgres();
  for (const name of ["shard_0", "shard_1"]) {
    await server.createDatabase(name);
    await server.sql(
      name,
      `CREATE TABLE tenant (tenant_id bigint PRIMARY KEY, name text NOT NULL CHECK (name <> 'bad'));
       CREATE TABLE plan (id int PRIMARY KEY, name text)`,
    );
  }
});

beforeEach(async () => {
  for (const name of ["shard_0", "shard_1"]) await server.sql(name, "TRUNCATE tenant, plan");
  proxy = await startProxy(configWith(false));
  return async () => {
    await proxy[Symbol.asyncDispose]();
  };
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

async function failure(promise: Promise<unknown>): Promise<pg.DatabaseError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof pg.DatabaseError) return error;
    throw error;
  }
  throw new Error("it did not fail");
}

/** Keys with their shards: 1 and 2 on 0, 3 and 4 on 1 (reference, section 2.2). */
async function onShards(): Promise<readonly (readonly number[])[]> {
  const sql = "SELECT tenant_id::int FROM tenant ORDER BY 1";
  const [zero, one] = await Promise.all([server.sql("shard_0", sql), server.sql("shard_1", sql)]);
  return [zero, one].map((rows) => rows.map((row) => Number(row.tenant_id)));
}

describe("several shards", () => {
  test("statements go where their key is, by literal and by parameter", async () => {
    const client = await proxy.client("app");
    await client.query("INSERT INTO tenant VALUES (1, 'one')");
    await client.query("INSERT INTO tenant VALUES ($1, $2)", [3, "three"]);
    await client.query({
      name: "put",
      text: "INSERT INTO tenant VALUES ($1, $2)",
      values: [2, "two"],
    });
    await client.query({
      name: "put",
      text: "INSERT INTO tenant VALUES ($1, $2)",
      values: [4, "four"],
    });
    expect(await onShards()).toEqual([
      [1, 2],
      [3, 4],
    ]);
    const all = await client.query("SELECT tenant_id, name FROM tenant ORDER BY tenant_id");
    expect(all.rows.map((row) => row.name)).toEqual(["one", "two", "three", "four"]);
    const prepared = await client.query(
      "SELECT count(*)::int AS n FROM tenant WHERE tenant_id > $1",
      [1],
    );
    expect(prepared.rows).toEqual([{ n: 3 }]);
    expect((await client.query("SELECT name FROM tenant WHERE tenant_id = $1", [3])).rows).toEqual([
      { name: "three" },
    ]);
  });

  test("a transaction joins shards as it needs them, and commits or rolls back on all", async () => {
    const client = await proxy.client("app");
    await client.query("BEGIN");
    await client.query("INSERT INTO tenant VALUES (1, 'one')");
    await client.query("INSERT INTO tenant VALUES ($1, 'three')", [3]);
    expect(await onShards()).toEqual([[], []]);
    await client.query("COMMIT");
    expect(await onShards()).toEqual([[1], [3]]);
    await client.query("BEGIN");
    await client.query("DELETE FROM tenant WHERE tenant_id = 1");
    expect((await failure(client.query("INSERT INTO tenant VALUES (4, 'bad')"))).code).toBe(
      "23514",
    );
    expect((await failure(client.query("SELECT 1"))).code).toBe("25P02");
    expect((await client.query("COMMIT")).command).toBe("ROLLBACK");
    expect(await onShards()).toEqual([[1], [3]]);
  });

  test("writes on several shards outside of a transaction are done on all or on none", async () => {
    const client = await proxy.client("app");
    await client.query("INSERT INTO tenant VALUES (1, 'a'), (2, 'b'), (3, 'c')");
    expect(await onShards()).toEqual([[1, 2], [3]]);
    expect((await client.query("UPDATE tenant SET name = 'same'")).rowCount).toBe(3);
    await failure(
      client.query("INSERT INTO tenant VALUES (5, 'x'), (4, 'bad'), (10, 'y'), (42, 'z')"),
    );
    expect(await onShards()).toEqual([[1, 2], [3]]);
    await client.query("INSERT INTO plan VALUES (1, 'free')");
    for (const name of ["shard_0", "shard_1"])
      expect(await server.sql(name, "SELECT name FROM plan")).toEqual([{ name: "free" }]);
    await client.query("UPDATE tenant SET tenant_id = 4 WHERE tenant_id = 2");
    expect(await onShards()).toEqual([[1], [3, 4]]);
  });

  test("an UPDATE that assigns the key finds its row wherever it is, and moves it", async () => {
    const client = await proxy.client("app");
    await client.query("INSERT INTO tenant VALUES (1, 'a'), (2, 'b'), (3, 'c')");
    const saved = "UPDATE tenant SET tenant_id = $1, name = $2 WHERE name = $3";
    expect((await client.query(saved, [3, "saved", "c"])).rowCount).toBe(1);
    expect((await client.query(saved, [3, "saved", "nobody"])).rowCount).toBe(0);
    expect((await failure(client.query(saved, [1, "moved", "saved"]))).code).toBe("23505");
    expect((await client.query(saved, [10, "moved", "saved"])).rowCount).toBe(1);
    expect(
      (await client.query("SELECT tenant_id::int, name FROM tenant ORDER BY tenant_id")).rows,
    ).toEqual([
      { tenant_id: 1, name: "a" },
      { tenant_id: 2, name: "b" },
      { tenant_id: 10, name: "moved" },
    ]);
  });

  test("two-phase commit leaves nothing prepared", async () => {
    proxy.topology(configWith(true));
    const client = await proxy.client("app");
    await client.query("BEGIN");
    await client.query("INSERT INTO tenant VALUES (1, 'a'), (3, 'c')");
    await client.query("COMMIT");
    expect(await onShards()).toEqual([[1], [3]]);
    expect(await server.sql("postgres", "SELECT gid FROM pg_prepared_xacts")).toEqual([]);
    await client.query("INSERT INTO tenant VALUES (2, 'one shard needs no two phases')");
    expect(proxy.clientRows()).toMatchObject([{ transactions: 2, transactions_2pc: 1 }]);
  });

  test("COPY in goes row by row to its shard", async () => {
    const client = await proxy.client("app");
    const rows = Array.from({ length: 1_000 }, (_, id) => `${id}\tname ${id}\n`);
    await pipeline(
      Readable.from(rows),
      client.query(copyStreams.from("COPY tenant (tenant_id, name) FROM STDIN")),
    );
    const [zero = [], one = []] = await onShards();
    expect(zero.length + one.length).toBe(1_000);
    expect([zero.includes(2), one.includes(3)]).toEqual([true, true]);
    const broken = pipeline(
      Readable.from(["x\ty\n"]),
      client.query(copyStreams.from("COPY tenant (tenant_id, name) FROM STDIN")),
    );
    await expect(broken).rejects.toThrow();
    expect((await client.query("SELECT count(*)::int AS n FROM tenant")).rows).toEqual([
      { n: 1_000 },
    ]);
  });

  test("settings reach every shard, savepoints those that join later", async () => {
    const client = await proxy.client("app");
    await client.query("SET app.who = 'me'");
    for (const key of [1, 3])
      expect(
        (
          await client.query(
            `SELECT current_setting('app.who') AS who FROM (SELECT count(*) FROM tenant WHERE tenant_id = ${key}) t`,
          )
        ).rows,
      ).toEqual([{ who: "me" }]);
    await client.query("BEGIN");
    await client.query("INSERT INTO tenant VALUES (1, 'one')");
    await client.query("SAVEPOINT s");
    await client.query("INSERT INTO tenant VALUES (3, 'three')");
    await client.query("ROLLBACK TO s");
    await client.query("COMMIT");
    expect(await onShards()).toEqual([[1], []]);
  });

  test("after an error a transaction over shards goes on from its savepoint", async () => {
    const client = await proxy.client("app");
    for (const failing of ["INSERT INTO tenant VALUES (4, 'bad')", "SELECT * FROM nobody"]) {
      await client.query("BEGIN");
      await client.query("INSERT INTO tenant VALUES (1, 'one')");
      await client.query("SAVEPOINT outer_one");
      await client.query("SAVEPOINT s");
      await client.query("INSERT INTO tenant VALUES (3, 'three')");
      await failure(client.query(failing));
      expect((await failure(client.query("SELECT 1"))).code).toBe("25P02");
      expect((await failure(client.query("SELECT $1::int", [1]))).code).toBe("25P02");
      await client.query("ROLLBACK TO SAVEPOINT s");
      await client.query("RELEASE SAVEPOINT s");
      await client.query("INSERT INTO tenant VALUES ($1, 'four')", [4]);
      await client.query("COMMIT");
      expect(await onShards()).toEqual([[1], [4]]);
      await client.query("DELETE FROM tenant");
    }
  });

  test("a bulk insert's rows come back in their order, with ids that ascend where it says so", async () => {
    const client = await proxy.client("app");
    await client.query("CREATE TABLE job (id bigserial PRIMARY KEY, tenant_id bigint, n int)");
    const tenants = [1, 3, 2, 4, 1, 5, 3];
    const given = tenants.map((_, index) => index);
    const arrays = await client.query(
      `INSERT INTO job (tenant_id, n) SELECT * FROM UNNEST(('{${tenants.join()}}'::int2[])::bigint[], '{${given.join()}}'::int[]) RETURNING n`,
    );
    expect(arrays.rows.map(({ n }) => n)).toEqual(given);
    const values = tenants.map((_, index) => `($${index + 1}::BIGINT, ${index}, ${index})`);
    const sorted = await client.query(
      `INSERT INTO job (tenant_id, n) SELECT p0::BIGINT, p1::INT FROM (VALUES ${values.join()}) AS imp_sen(p0, p1, sen_counter) ORDER BY sen_counter RETURNING id, n`,
      tenants,
    );
    expect(sorted.rows.map(({ n }) => n)).toEqual(given);
    const ids = sorted.rows.map(({ id }) => Number(id));
    expect(ids).toEqual(ids.toSorted((one, other) => one - other));
    const all = await client.query("SELECT tenant_id::int, count(*)::int AS c FROM job GROUP BY 1");
    expect(all.rows).toHaveLength(new Set(tenants).size);
    await client.query("DROP TABLE job");
  });

  test("cursors show the rows of all shards, and those of one shard are its own", async () => {
    const client = await proxy.client("app");
    await client.query(
      "INSERT INTO tenant VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e')",
    );
    const ids = async (sql: string) =>
      (await client.query(sql)).rows.map(({ tenant_id }) => Number(tenant_id));
    await client.query(
      'DECLARE "Held" NO SCROLL CURSOR WITH HOLD FOR SELECT tenant_id FROM tenant ORDER BY name DESC',
    );
    await client.query("DELETE FROM tenant WHERE tenant_id = 1");
    expect(await ids('FETCH FORWARD 2 FROM "Held"')).toEqual([5, 4]);
    expect((await client.query('MOVE NEXT FROM "Held"')).command).toBe("MOVE");
    expect(await ids('FETCH ALL "Held"')).toEqual([2, 1]);
    expect(await ids('FETCH "Held"')).toEqual([]);
    expect((await failure(client.query('FETCH PRIOR "Held"'))).code).toBe("55000");
    await client.query('CLOSE "Held"');
    expect((await failure(client.query('FETCH "Held"'))).code).toBe("34000");
    expect((await failure(client.query("DECLARE c CURSOR FOR SELECT 1"))).code).toBe("25P01");

    await client.query("BEGIN");
    await client.query("UPDATE tenant SET name = 'x' WHERE tenant_id = 2");
    for (const [name, key] of [
      ["one", 5],
      ["two", 2],
    ] as const)
      await client.query({
        text: `DECLARE ${name} CURSOR FOR SELECT tenant_id FROM tenant WHERE tenant_id = $1`,
        values: [key],
      });
    await client.query("DECLARE every CURSOR FOR SELECT tenant_id FROM tenant ORDER BY 1");
    expect(await ids("FETCH 1 FROM one")).toEqual([5]);
    expect(await ids("FETCH 1 FROM two")).toEqual([2]);
    expect(await ids("FETCH 3 FROM every")).toEqual([2, 3, 4]);
    expect((await failure(client.query("DECLARE every CURSOR FOR SELECT 1"))).code).toBe("42P03");
    await client.query("ROLLBACK");
    await client.query("BEGIN");
    await client.query("DECLARE kept CURSOR WITH HOLD FOR SELECT tenant_id FROM tenant ORDER BY 1");
    await client.query("DECLARE lost CURSOR FOR SELECT tenant_id FROM tenant ORDER BY 1");
    await client.query("COMMIT");
    expect((await client.query("FETCH 1 FROM kept")).rows).toHaveLength(1);
    expect((await failure(client.query("FETCH 1 FROM lost"))).code).toBe("34000");
    await client.query("CLOSE ALL");
    expect((await failure(client.query("FETCH 1 FROM kept"))).code).toBe("34000");
  });

  test("what is made later has ids that no two shards give", async () => {
    const client = await proxy.client("app");
    await client.query("CREATE SEQUENCE blocks INCREMENT BY 50 START WITH 100");
    await client.query("CREATE TABLE late (id serial PRIMARY KEY, tenant_id bigint)");
    await client.query("CREATE TABLE IF NOT EXISTS late (id serial PRIMARY KEY, tenant_id bigint)");
    await client.query("BEGIN");
    await client.query("ALTER TABLE late ADD COLUMN n bigint GENERATED ALWAYS AS IDENTITY");
    await client.query("ALTER TABLE late ADD COLUMN m int DEFAULT 1");
    await client.query("COMMIT");
    for (const tenant of [1, 3, 1, 3, 3, 3])
      await client.query("INSERT INTO late (tenant_id) VALUES ($1)", [tenant]);
    const { rows } = await client.query("SELECT id, n FROM late");
    expect(new Set(rows.map(({ id }) => id)).size).toBe(6);
    expect(new Set(rows.map(({ n }) => n)).size).toBe(6);
    const blocks: number[] = [];
    for (const name of ["shard_0", "shard_1"])
      for (let draw = 0; draw < 2; draw++)
        blocks.push(Number((await server.sql(name, "SELECT nextval('blocks') AS v"))[0]?.v));
    expect(blocks).toEqual([100, 200, 150, 250]);
    await client.query("DROP TABLE late");
    await client.query("DROP SEQUENCE blocks");
  });

  test("a table with rows does not become sharded, nor the same everywhere", async () => {
    const client = await proxy.client("app");
    await client.query("CREATE TABLE kind (id int, other_id bigint, tenant_id bigint)");
    await client.query("ALTER TABLE kind DROP COLUMN tenant_id");
    await client.query("INSERT INTO kind VALUES (1, 1), (2, 2)");
    for (const sql of [
      "ALTER TABLE kind ADD COLUMN tenant_id bigint",
      "ALTER TABLE kind RENAME COLUMN other_id TO tenant_id",
      "ALTER TABLE tenant DROP COLUMN tenant_id",
    ]) {
      if (sql.includes("tenant DROP")) await client.query("INSERT INTO tenant VALUES (3, 'c')");
      const error = await failure(client.query(sql));
      expect([sql, error.code, Boolean(error.hint)]).toEqual([sql, "0A000", true]);
    }
    await client.query("DELETE FROM kind");
    await client.query("ALTER TABLE kind ADD COLUMN tenant_id bigint");
    await client.query("INSERT INTO kind (id, tenant_id) VALUES (1, 3)");
    expect(await server.sql("shard_0", "SELECT * FROM kind")).toEqual([]);
    await client.query("DROP TABLE kind");
  });

  test("a transaction knows the tables that it makes", async () => {
    const client = await proxy.client("app");
    const other = await proxy.client("app");
    await client.query("BEGIN");
    await client.query("CREATE TABLE fresh (id int)");
    await client.query("ALTER TABLE fresh ADD COLUMN tenant_id bigint NOT NULL");
    await client.query("INSERT INTO fresh VALUES (1, 1), (3, 3)");
    await client.query("INSERT INTO fresh VALUES ($1, $2)", [5, 1]);
    expect((await failure(other.query("INSERT INTO fresh VALUES (9, 9)"))).code).toBe("42P01");
    await client.query("SAVEPOINT s");
    await client.query("ALTER TABLE fresh RENAME COLUMN id TO number");
    await client.query("SELECT number FROM fresh ORDER BY number");
    await failure(client.query("SELECT nothing"));
    await client.query("ROLLBACK TO s");
    expect((await client.query("SELECT id FROM fresh ORDER BY id")).rows).toHaveLength(3);
    await client.query("COMMIT");
    expect((await other.query("SELECT id FROM fresh WHERE tenant_id = 1")).rows).toHaveLength(2);
    for (const [name, rows] of [
      ["shard_0", 2],
      ["shard_1", 1],
    ] as const)
      expect(await server.sql(name, "SELECT id FROM fresh")).toHaveLength(rows);
    await client.query("CREATE TABLE another (tenant_id bigint); INSERT INTO another VALUES (3)");
    expect(await server.sql("shard_1", "SELECT * FROM another")).toHaveLength(1);
    await client.query("BEGIN");
    await client.query("DROP TABLE fresh, another");
    expect((await failure(client.query("SELECT * FROM fresh"))).code).toBe("42P01");
    await client.query("ROLLBACK");
    expect((await client.query("SELECT * FROM fresh")).rows).toHaveLength(3);
    await client.query("DROP TABLE fresh, another");
  });

  test("without a way back a failed transaction keeps no server, and its end is a rollback", async () => {
    const client = await proxy.client("app");
    await client.query("BEGIN");
    await client.query("SAVEPOINT s");
    await client.query("INSERT INTO tenant VALUES (1, 'one')");
    await failure(client.query("INSERT INTO tenant VALUES (4, 'bad')"));
    expect((await client.query("COMMIT")).command).toBe("ROLLBACK");
    await client.query("BEGIN");
    await client.query("SAVEPOINT s");
    await client.query("RELEASE SAVEPOINT s");
    await client.query("INSERT INTO tenant VALUES (1, 'one')");
    await failure(client.query("INSERT INTO tenant VALUES (4, 'bad')"));
    const busy = "SELECT pid FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
    await until(async () => (await server.sql("postgres", busy)).length === 0, {
      timeoutMs: 5_000,
      what: "the servers to be given back",
    });
    expect((await failure(client.query("ROLLBACK TO s"))).code).toBe("25P02");
    await client.query("ROLLBACK");
    expect(await onShards()).toEqual([[], []]);
  });

  test("what cannot be routed is refused with a state and a hint", async () => {
    const client = await proxy.client("app");
    for (const sql of [
      "LISTEN x",
      "CREATE TEMP TABLE t (id int)",
      "SELECT pg_advisory_lock(1)",
      "PREPARE p AS SELECT 1",
    ]) {
      const error = await failure(client.query(sql));
      expect([sql, error.code, Boolean(error.hint)]).toEqual([sql, "0A000", true]);
    }
    expect((await client.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
  });

  test("a transaction sees the tables that it has made, and does not wait for its own locks", async () => {
    const client = await proxy.client("app");
    await client.query("BEGIN");
    await client.query("SET LOCAL search_path = public");
    await client.query("ALTER TABLE tenant ADD COLUMN at int");
    await client.query("INSERT INTO tenant VALUES (3, 'c', 1)");
    await client.query("SAVEPOINT s");
    await client.query("CREATE TABLE fresh (x int, tenant_id bigint)");
    await client.query("INSERT INTO fresh VALUES (1, 4), (2, 1)");
    expect((await client.query("SELECT count(*)::int AS n FROM fresh")).rows).toEqual([{ n: 2 }]);
    await failure(client.query("INSERT INTO fresh VALUES ('x', 1)"));
    await client.query("ROLLBACK TO s");
    expect((await failure(client.query("SELECT x FROM fresh"))).code).toBe("42P01");
    await client.query("ROLLBACK TO s");
    const { rows } = await client.query(
      "SELECT current_setting('search_path') AS path, at FROM tenant WHERE tenant_id = 3",
    );
    expect(rows).toEqual([{ path: "public", at: 1 }]);
    await client.query("COMMIT");
    const other = await proxy.client("app");
    await other.query("INSERT INTO tenant VALUES (1, 'a', 2)");
    expect(await onShards()).toEqual([[1], [3]]);
    await client.query(
      "CREATE TABLE made (tenant_id bigint); INSERT INTO made VALUES (1), (3); DROP TABLE made",
    );
    await client.query("ALTER TABLE tenant DROP COLUMN at");
    await other.query("INSERT INTO tenant VALUES (2, 'b')");
  });

  test("what came past the proxy is known, without a word", async () => {
    const both = async (sql: string) => {
      for (const name of ["shard_0", "shard_1"]) await server.sql(name, sql);
    };
    const client = await proxy.client("app");
    await client.query("CREATE TYPE grade AS ENUM ('low', 'high')");
    await client.query("CREATE TABLE graded (tenant_id bigint, grade grade)");
    await client.query("SELECT count(*) FROM graded");
    await both("ALTER TYPE grade ADD VALUE 'fair' BEFORE 'high'");
    await client.query("INSERT INTO graded VALUES (1, 'high'), (3, 'fair'), (4, 'low')");
    const sql = "SELECT grade, count(*)::int AS n FROM graded GROUP BY grade ORDER BY grade";
    const grades = (await client.query(sql)).rows.map(({ grade }) => grade);
    expect(grades).toEqual(["low", "fair", "high"]);
    await both("CREATE TABLE past (id int PRIMARY KEY)");
    await client.query("SELECT FROM past");
    await client.query("DROP TABLE graded, past");
    await client.query("DROP TYPE grade");
  });

  test("several statements in one text", async () => {
    const client = await proxy.client("app");
    const several = (await client.query(
      "INSERT INTO tenant VALUES (1,'a'); INSERT INTO tenant VALUES (3,'b'); SELECT count(*)::int AS n FROM tenant",
    )) as unknown as pg.QueryResult[];
    expect(several.map((result) => result.rowCount)).toEqual([1, 1, 1]);
    expect(several[2]?.rows).toEqual([{ n: 2 }]);
  });

  test("the gate's refusal is tried again after a switch to one shard", async () => {
    await server.createDatabase("whole");
    await server.sql("whole", "CREATE TABLE tenant (tenant_id bigint PRIMARY KEY, name text)");
    for (const name of ["shard_0", "shard_1"])
      await server.sql(
        name,
        `CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'gate closed' USING ERRCODE = 'SL001'; END $$;
        CREATE TRIGGER gate BEFORE INSERT ON tenant EXECUTE FUNCTION refuse()`,
      );
    proxy.onMessage = (each) => {
      if (each.kind !== "stale") return;
      proxy.topology(
        testConfig({
          databases: [{ name: "app", shards: [{ server, database: "whole" }] }],
          general: { defaultPoolSize: 4 },
        }),
        { app: 1 },
      );
      proxy.tell({ kind: "refreshed", database: "app" });
    };
    const clients = await Promise.all([1, 2, 3, 4].map(() => proxy.client("app")));
    const [simple, extended, scattered, begun] = clients;
    await begun?.query("BEGIN");
    await Promise.all([
      simple?.query("INSERT INTO tenant VALUES (1, 'a')"),
      extended?.query("INSERT INTO tenant VALUES ($1, 'a')", [3]),
      scattered?.query("INSERT INTO tenant VALUES ($1, 'a'), ($2, 'a')", [4, 5]),
      begun?.query("INSERT INTO tenant VALUES (10, 'x'), (11, 'x'), (42, 'x')"),
    ]);
    await begun?.query("COMMIT");
    expect(await server.sql("whole", "SELECT count(*)::int AS n FROM tenant")).toEqual([{ n: 7 }]);
    for (const name of ["shard_0", "shard_1"])
      await server.sql(name, "DROP TRIGGER gate ON tenant");
  });

  test("a pipeline over two shards is one transaction", async () => {
    const client = await proxy.client("app");
    const { connection } = client as unknown as {
      connection: {
        parse(query: object): void;
        bind(config: object): void;
        execute(config: object): void;
        sync(): void;
        on(event: string, listener: () => void): void;
      };
    };
    const ready = new Promise<void>((resolve) => connection.on("readyForQuery", resolve));
    for (const [key, name] of [
      [1, "good"],
      [3, "bad"],
    ]) {
      connection.parse({ text: `INSERT INTO tenant VALUES (${key}, '${name}')` });
      connection.bind({});
      connection.execute({});
    }
    connection.sync();
    await ready;
    await until(async () => (await onShards()).flat().length === 0, {
      timeoutMs: 1_000,
      what: "rollback",
    });
  });
});
