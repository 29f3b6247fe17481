import pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { startProxy, type TestProxy, testConfig } from "./support.js";

let server: PostgresServer;
/** It cannot prepare. */
let plain: PostgresServer;
let proxy: TestProxy;
let shards: readonly { readonly server: PostgresServer; readonly database: string }[];

const configWith = (twoPhaseCommit: boolean | "auto") =>
  testConfig({
    databases: [
      { name: "app", shards: shards.slice(0, 2) },
      { name: "mixed", shards: [shards[0], shards[2]].flatMap((one) => one ?? []) },
    ],
    general: { defaultPoolSize: 4, twoPhaseCommit },
    shardedTables: ["app", "mixed"].map((database) => ({
      ...{ database, name: null, schema: null, column: "tenant_id", dataType: "bigint" as const },
    })),
  });

beforeAll(async () => {
  server = await startPostgres();
  plain = await startPostgres({ settings: { max_prepared_transactions: "0" } });
  shards = [
    { server, database: "shard_0" },
    { server, database: "shard_1" },
    { server: plain, database: "shard_1" },
  ];
  for (const shard of shards) {
    await shard.server.createDatabase(shard.database);
    await shard.server.sql(
      shard.database,
      `CREATE TABLE tenant (tenant_id bigint PRIMARY KEY, name text UNIQUE DEFERRABLE INITIALLY DEFERRED);
       CREATE TABLE note (id int PRIMARY KEY, text text);
       CREATE TABLE audit (tenant_id bigint, name text);
       CREATE FUNCTION audited() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO audit VALUES (NEW.tenant_id, NEW.name); RETURN NULL; END $$;
       CREATE CONSTRAINT TRIGGER audited AFTER INSERT ON tenant DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION audited();
       CREATE FUNCTION scratch() RETURNS int LANGUAGE plpgsql AS
         $$ BEGIN CREATE TEMP TABLE scratch_rows (n int) ON COMMIT DROP; RETURN 1; END $$;
       CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN PERFORM pg_notify('tenants', ''); RETURN NULL; END $$`,
    );
  }
});

beforeEach(async () => {
  for (const shard of shards)
    await shard.server.sql(shard.database, "TRUNCATE tenant, note, audit");
  proxy = await startProxy(configWith("auto"));
  return async () => {
    await proxy[Symbol.asyncDispose]();
    for (const each of [server, plain])
      expect(await each.sql("postgres", "SELECT gid FROM pg_prepared_xacts")).toEqual([]);
  };
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await plain[Symbol.asyncDispose]();
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

/** Keys 1 and 2 are on shard 0, 3 and 4 on shard 1. */
async function keys(): Promise<readonly (readonly number[])[]> {
  return await Promise.all(
    shards.map(async (shard) => {
      const sql = "SELECT tenant_id::int AS id FROM tenant ORDER BY 1";
      return (await shard.server.sql(shard.database, sql)).map(({ id }) => Number(id));
    }),
  );
}

const twoPhases = () => proxy.clientRows().map((row) => Number(row.transactions_2pc));

describe("COMMIT over shards", () => {
  test("is in two phases where several shards were written, whatever the statements are called", async () => {
    const client = await proxy.client("app");
    await client.query("BEGIN");
    await client.query("SELECT * FROM tenant");
    await client.query("INSERT INTO tenant VALUES (3, 'c')");
    await client.query("COMMIT");
    expect(twoPhases()).toEqual([0]);
    await client.query("INSERT INTO tenant VALUES (1, 'a'), (4, 'd')");
    expect(twoPhases()).toEqual([1]);
    for (const { database } of shards.slice(0, 2))
      await server.sql(
        database,
        `CREATE OR REPLACE FUNCTION renamed(t bigint) RETURNS bigint LANGUAGE sql AS
           'UPDATE tenant SET name = name || ''!'' WHERE tenant_id = t RETURNING 1::bigint'`,
      );
    await client.query("BEGIN");
    await client.query("SELECT renamed(tenant_id) FROM tenant WHERE tenant_id = 1");
    await client.query("SELECT renamed(tenant_id) FROM tenant WHERE tenant_id = 3");
    await client.query("COMMIT");
    expect(twoPhases()).toEqual([2]);
    const { rows } = await client.query("SELECT name FROM tenant ORDER BY tenant_id");
    expect(rows.map(({ name }) => name)).toEqual(["a!", "c!", "d"]);
  });

  test.each(["app", "mixed"])(
    "%s: a deferred check that fails leaves nothing committed",
    async (name) => {
      const client = await proxy.client(name);
      await client.query("INSERT INTO tenant VALUES (2, 'two'), (4, 'four')");
      for (const [one, other] of [
        [1, 3],
        [3, 1],
      ]) {
        await client.query("BEGIN");
        await client.query("SAVEPOINT s");
        await client.query(`INSERT INTO tenant VALUES (${one}, 'fine')`);
        const twice = other === 1 ? "two" : "four";
        await client.query(`INSERT INTO tenant VALUES (${other}, '${twice}')`);
        expect((await failure(client.query("COMMIT"))).code).toBe("23505");
        expect((await client.query("SELECT tenant_id::int FROM tenant ORDER BY 1")).rows).toEqual([
          { tenant_id: 2 },
          { tenant_id: 4 },
        ]);
      }
      const { rows } = await client.query("SELECT count(*)::int AS n FROM audit");
      expect(rows).toEqual([{ n: 2 }]);
    },
  );

  test("where a server cannot prepare, auto does without and true refuses by name", async () => {
    const client = await proxy.client("mixed");
    await client.query("INSERT INTO tenant VALUES (1, 'a'), (3, 'c')");
    expect(twoPhases()).toEqual([0]);
    expect(await keys()).toEqual([[1], [], [3]]);
    proxy.topology(configWith(true));
    const refused = await failure(client.query("INSERT INTO tenant VALUES (2, 'b'), (4, 'd')"));
    expect([refused.code, refused.message, Boolean(refused.hint)]).toEqual([
      "55000",
      `two_phase_commit is true, and shard 1 (127.0.0.1:${plain.port}/shard_1) has max_prepared_transactions = 0`,
      true,
    ]);
    expect(await keys()).toEqual([[1], [], [3]]);
    await client.query("INSERT INTO tenant VALUES (2, 'one shard is one commit')");
  });

  test("what cannot be prepared decides, and is refused before anything commits where two would", async () => {
    const client = await proxy.client("app");
    const used = "SELECT scratch() FROM note";
    await client.query("INSERT INTO note VALUES (1, 'x')");
    const before = twoPhases()[0] ?? 0;
    await client.query("BEGIN");
    await client.query("INSERT INTO tenant VALUES (1, 'a'), (3, 'c')");
    await client.query("SELECT scratch() FROM tenant WHERE tenant_id = 3");
    await client.query("COMMIT");
    expect(twoPhases()).toEqual([before + 1]);
    await client.query("BEGIN");
    await client.query("INSERT INTO tenant VALUES (2, 'b'), (4, 'd')");
    await client.query("SELECT scratch() FROM tenant WHERE tenant_id = 2");
    await client.query("COMMIT");
    // Temporary tables of the past do no harm.
    await client.query("UPDATE tenant SET name = name || '.'");
    expect(twoPhases()).toEqual([before + 2]);
    proxy.topology(configWith(true));
    await client.query("BEGIN");
    await client.query("INSERT INTO tenant VALUES (10, 'e'), (5, 'f')");
    for (const key of [1, 3]) await client.query(`${used}, tenant WHERE tenant_id = ${key}`);
    expect((await failure(client.query("COMMIT"))).code).toBe("0A000");
    expect((await keys()).flat()).toEqual([1, 2, 3, 4]);
  });

  test("triggers that NOTIFY: one error that says to repeat, then one commit after the other", async () => {
    const client = await proxy.client("app");
    const trigger = "CREATE TRIGGER told AFTER INSERT ON tenant EXECUTE FUNCTION told()";
    for (const { database } of shards.slice(0, 2)) await server.sql(database, trigger);
    const sql = "INSERT INTO tenant VALUES (1, 'a'), (3, 'c')";
    expect((await failure(client.query(sql))).code).toBe("40001");
    expect((await keys()).flat()).toEqual([]);
    await client.query(sql);
    expect((await keys()).flat()).toEqual([1, 3]);
    for (const { database } of shards.slice(0, 2))
      await server.sql(database, "DROP TRIGGER told ON tenant");
  });

  test("a client's own two phases are refused whole (R54)", async () => {
    const client = await proxy.client("app");
    await client.query("BEGIN");
    await client.query("INSERT INTO tenant VALUES (1, 'a'), (3, 'c')");
    expect((await failure(client.query("PREPARE TRANSACTION 'x1'"))).code).toBe("0A000");
    expect((await client.query("COMMIT")).command).toBe("ROLLBACK");
    for (const sql of ["COMMIT PREPARED 'x1'", "ROLLBACK PREPARED 'x1'"]) {
      expect((await failure(client.query(sql))).code).toBe("0A000");
      expect((await failure(client.query({ name: sql, text: sql }))).code).toBe("0A000");
    }
    expect((await keys()).flat()).toEqual([]);
  });
});
