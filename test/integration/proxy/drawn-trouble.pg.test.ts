import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  encodeBind,
  encodeExecute,
  encodeParseSql,
  encodeQuery,
  SYNC,
} from "../../../src/wire/frontend.js";
import { until } from "../../support/until.js";
import { answer, connectTo, DrawnShop, failure, SHARDS } from "./drawn-shop.js";
import { RawClient } from "./raw-client.js";
import { type TestProxy, testConfig } from "./support.js";

let shop: DrawnShop;
let proxy: TestProxy;

beforeAll(async () => {
  shop = await DrawnShop.start();
});

beforeEach(async () => {
  await shop.empty();
  proxy = await shop.proxy();
  return async () => {
    await proxy[Symbol.asyncDispose]();
  };
});

afterAll(async () => {
  await shop[Symbol.asyncDispose]();
});

/** Databases in which a session of the proxy has a transaction open. */
async function inTransaction(): Promise<readonly unknown[]> {
  const rows = await shop.server.sql(
    "postgres",
    "SELECT datname FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' ORDER BY 1",
  );
  return rows.map(({ datname }) => datname);
}

describe("drawn sharding keys: transactions and what goes wrong", () => {
  test("in a transaction: with it or not at all, and no other shard becomes a part of it for a sequence", async () => {
    const client = await proxy.client("app");
    await client.query("BEGIN");
    await client.query("INSERT INTO visits VALUES (3, 'on shard 1')");
    for (const slug of ["a", "b"])
      await client.query("INSERT INTO tenants (slug) VALUES ($1)", [slug]);
    await client.query("ROLLBACK");
    expect(await shop.rowsOf(SHARDS)).toEqual([]);
    await client.query("INSERT INTO tenants (slug) VALUES ('c')");
    expect(await shop.rowsOf(SHARDS)).toEqual(["tenants (3,c,1)"]);
    // A key on shard 1, drawn on shard 0.
    await client.query("BEGIN");
    await client.query("INSERT INTO tenants (slug) VALUES ('d')");
    expect(await inTransaction()).toEqual(["shard_1"]);
    expect((await failure(client.query("INSERT INTO tenants (slug) VALUES ('d')"))).code).toBe(
      "23505",
    );
    expect((await failure(client.query("INSERT INTO tenants (slug) VALUES ('e')"))).code).toBe(
      "25P02",
    );
    await client.query("ROLLBACK");
    expect(await shop.rowsOf(SHARDS)).toEqual(["tenants (3,c,1)"]);
  });

  test("what a transaction has made or locked is seen by its draw", async () => {
    const client = await proxy.client("app");
    await client.query("BEGIN");
    await client.query("TRUNCATE tenants RESTART IDENTITY");
    const { rows } = await client.query("INSERT INTO tenants (slug) VALUES ('a') RETURNING id");
    expect(rows).toEqual([{ id: "1" }]);
    await client.query("COMMIT");
    await client.query("BEGIN");
    // The first shard has no part in it.
    await client.query("INSERT INTO visits VALUES (3, 'on shard 1')");
    await client.query("SET LOCAL app.tenant = '5'");
    await client.query("INSERT INTO notes (note) VALUES ('local')");
    await client.query("COMMIT");
    await client.query("SET app.tenant = '1'");
    await client.query("INSERT INTO notes (note) VALUES ('of the session')");
    expect(await shop.rowsOf(SHARDS)).toEqual([
      'notes (1,"of the session")',
      "notes (5,local)",
      "tenants (1,a,1)",
      'visits (3,"on shard 1")',
    ]);
  });

  test("a default means the same whatever the client's search path is", async () => {
    const client = await proxy.client("app");
    await client.query("SET search_path = crm");
    await client.query("INSERT INTO public.tenants (slug) VALUES ('a')");
    await client.query("INSERT INTO leads (name) VALUES ('b')");
    expect(await shop.rowsOf(SHARDS)).toEqual(["crm.leads (b,100)", "tenants (1,a,1)"]);
  });

  test("a function that counts in a table does so with the row, in one place", async () => {
    const client = await proxy.client("app");
    await client.query("INSERT INTO tickets (note) VALUES ('a')");
    expect((await failure(client.query("INSERT INTO tickets (note) VALUES ('bad')"))).code).toBe(
      "23514",
    );
    await client.query("BEGIN");
    await client.query("INSERT INTO tickets (note) VALUES ('b')");
    await client.query("ROLLBACK");
    await client.query("INSERT INTO tickets (note) VALUES ('c'), ('d')");
    expect(await shop.rowsOf(SHARDS)).toEqual([
      "tickets (501,a)",
      "tickets (502,c)",
      "tickets (503,d)",
    ]);
    expect(await shop.server.sql("shard_0", "SELECT n FROM counters")).toEqual([{ n: "503" }]);
  });

  test("several statements in one text, and a pipeline, are one transaction", async () => {
    const client = await proxy.client("app");
    await client.query(
      "INSERT INTO tenants (slug) VALUES ('a'); INSERT INTO tenants (slug) VALUES ('b'), ('c')",
    );
    expect(await shop.rowsOf(SHARDS)).toHaveLength(3);
    const text =
      "INSERT INTO tenants (slug) VALUES ('d'); INSERT INTO tenants (slug) VALUES ('a much too long value')";
    expect((await failure(client.query(text))).code).toBe("22001");
    await using raw = await RawClient.connect(proxy.port, "app");
    const put = (slug: string) => [
      encodeParseSql("", "INSERT INTO tenants (slug) VALUES ($1)", []),
      encodeBind({
        portal: "",
        statement: "",
        parameterFormats: [],
        parameters: [Buffer.from(slug)],
        resultFormats: [],
      }),
      encodeExecute({ portal: "", maxRows: 0 }),
    ];
    const failed = await raw.exchange([
      ...put("e"),
      ...put("f"),
      ...put("a much too long value"),
      SYNC,
    ]);
    // As PostgreSQL: it is planned at Bind, and the value is too long by then.
    expect(failed.map(({ type }) => type).join("")).toBe("12C12C1EZ");
    expect(await shop.rowsOf(SHARDS)).toHaveLength(3);
    await raw.exchange([...put("e"), ...put("f"), SYNC]);
    expect(await shop.rowsOf(SHARDS)).toHaveLength(5);
  });

  test("what the draw is refused reaches the client as PostgreSQL says it", async () => {
    const client = await proxy.client("app");
    await client.query("INSERT INTO scarce (note) VALUES ('a'), ('b')");
    const exhausted = await failure(client.query("INSERT INTO scarce (note) VALUES ($1)", ["c"]));
    expect([exhausted.code, exhausted.message]).toEqual([
      "2200H",
      'nextval: reached maximum value of sequence "few" (2)',
    ]);
    for (const name of SHARDS) await shop.server.sql(name, "GRANT ALL ON tenants TO guest");
    const guest = await proxy.client("app", { user: "guest" });
    const denied = await failure(guest.query("INSERT INTO tenants (slug) VALUES ('a')"));
    expect([denied.code, denied.message]).toEqual([
      "42501",
      "permission denied for sequence tenants_id_seq",
    ]);
    // Both are at rest again.
    for (const each of [client, guest])
      expect((await each.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
  });

  test("a server that dies while it is asked costs the statement, not the pool", async () => {
    await using blocker = await connectTo(shop.server.port, "shard_0");
    await blocker.query("BEGIN");
    await blocker.query("ALTER SEQUENCE tenants_id_seq INCREMENT 1");
    const clients = await Promise.all(Array.from({ length: 6 }, () => proxy.client("app")));
    const waiting = clients.map((each) => answer(each, "INSERT INTO tenants (slug) VALUES ('a')"));
    const pids = await until(
      async () => {
        const rows = await shop.server.sql(
          "postgres",
          "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%nextval%'",
        );
        return rows.length === 4 ? rows : null;
      },
      { timeoutMs: 5_000, what: "the pool's four connections to wait for the sequence" },
    );
    for (const { pid } of pids)
      await shop.server.sql("postgres", "SELECT pg_terminate_backend($1)", [pid]);
    await blocker.query("ROLLBACK");
    const answers = await Promise.all(waiting);
    const lost = answers.filter(({ error }) => error !== null);
    expect(lost.length).toBeGreaterThanOrEqual(4);
    for (const { error } of lost) expect(error).toMatch(/^(57P01|08006|23505)/);
    // As many as the pool holds, at once.
    const again = clients.map((each, at) =>
      answer(each, `INSERT INTO tenants (slug) VALUES ('again ${at}')`),
    );
    for (const { error } of await Promise.all(again)) expect(error).toBeNull();
  });

  test("a cancel request reaches the draw", async () => {
    await using blocker = await connectTo(shop.server.port, "shard_0");
    await blocker.query("BEGIN");
    await blocker.query("ALTER SEQUENCE tenants_id_seq INCREMENT 1");
    await using raw = await RawClient.connect(proxy.port, "app");
    const cancelled = raw.exchange([encodeQuery("INSERT INTO tenants (slug) VALUES ('a')")]);
    await until(
      async () => {
        const rows = await shop.server.sql(
          "postgres",
          "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
        );
        return rows.length === 1;
      },
      { timeoutMs: 5_000, what: "the draw to wait" },
    );
    await raw.cancel();
    expect((await cancelled).map(({ type, code }) => code ?? type)).toEqual(["57014", "Z"]);
    await blocker.query("ROLLBACK");
    expect(await shop.rowsOf(SHARDS)).toEqual([]);
  });

  test("held in the pause and moved: the id comes from where the row goes", async () => {
    const client = await proxy.client("app");
    await client.query("INSERT INTO tenants (slug) VALUES ('a')");
    await shop.server.sql("whole", "SELECT setval('tenants_id_seq', 5000)");
    for (const name of SHARDS)
      await shop.server.sql(
        name,
        `CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN RAISE EXCEPTION 'gate closed' USING ERRCODE = 'SL001'; END $$;
         CREATE TRIGGER gate BEFORE INSERT ON tenants EXECUTE FUNCTION refuse()`,
      );
    proxy.onMessage = (each) => {
      if (each.kind !== "stale") return;
      const moved = testConfig({
        databases: [{ name: "app", shards: [{ server: shop.server, database: "whole" }] }],
      });
      proxy.topology(moved, { app: 1 });
      proxy.tell({ kind: "refreshed", database: "app" });
    };
    const extended = await proxy.client("app");
    const text = "INSERT INTO tenants (slug) VALUES ($1) RETURNING id";
    const [one, two] = await Promise.all([
      client.query("INSERT INTO tenants (slug) VALUES ('b') RETURNING id"),
      extended.query({ name: "put", text, values: ["c"] }),
    ]);
    for (const { rows } of [one, two]) expect(Number(rows[0]?.id)).toBeGreaterThan(5000);
    for (const name of SHARDS) await shop.server.sql(name, "DROP TRIGGER gate ON tenants");
  });
});
