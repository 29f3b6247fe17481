import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectSql } from "../../../src/backend/sql-client.js";
import type { EngineContext } from "../../../src/resharding/context.js";
import { copyRange } from "../../../src/resharding/copy/copy-range-step.js";
import { planCopy } from "../../../src/resharding/copy/plan-copy-step.js";
import { shardOfText } from "../../../src/topology/hash.js";
import { otherCollation } from "../../support/collation.js";
import { type CopyFixture, copyFixture } from "../../support/copy-fixture.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";

let server: PostgresServer;

beforeAll(async () => {
  server = await startPostgres();
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const schema = (collation: string) => `
  CREATE TYPE mood AS ENUM ('good', 'bad');
  CREATE TABLE orders (id bigint PRIMARY KEY, tenant_id bigint NOT NULL, note text, body jsonb,
    amount numeric, tags text[], at timestamptz, is_paid boolean, small smallint, ratio float8);
  CREATE TABLE sessions (id uuid PRIMARY KEY, tenant_id bigint NOT NULL, feeling mood);
  CREATE TABLE codes (code text COLLATE ${collation} PRIMARY KEY, label text);
  CREATE TABLE settings (name text PRIMARY KEY, value text);
`;

async function copyAll(fixture: CopyFixture, context: EngineContext): Promise<number> {
  let rowCount = 0;
  for (const plan of await planCopy(context, fixture.ref))
    for (let range = 0; range < plan.rangeCount; range++) {
      if (plan.doneRanges.includes(range)) continue;
      const { schema, table, sourceShard } = plan;
      const input = { ref: fixture.ref, schema, table, sourceShard, range };
      rowCount += (await copyRange(context, input)).rowCount;
    }
  return rowCount;
}

async function rowsOf(database: string, table: string): Promise<string[]> {
  const rows = await server.sql(database, `SELECT t::text AS row FROM ${table} t ORDER BY 1`);
  return rows.map((row) => String(row.row));
}

async function ordersFixture(
  name: string,
  options: { sources?: number; destinations?: number } = {},
) {
  return await copyFixture(server, {
    name,
    ...options,
    schema: "CREATE TABLE orders (id bigint PRIMARY KEY, v bigint NOT NULL, note text)",
    tables: [{ name: "orders" }],
  });
}

async function fill(database: string, count: number): Promise<void> {
  await server.sql(
    database,
    `INSERT INTO orders SELECT g, g, repeat('x', (g % 50)::int) FROM generate_series(1, ${count}) g`,
  );
}

async function expectRouted(fixture: CopyFixture, table: string, column = "id"): Promise<void> {
  const count = fixture.destinations.length;
  for (const [shard, database] of fixture.destinations.entries()) {
    const keys = await server.sql(database, `SELECT ${column}::text AS key FROM ${table}`);
    for (const { key } of keys) expect(shardOfText(String(key), "bigint", count)).toBe(shard);
  }
}

async function expectEqual(fixture: CopyFixture, table: string): Promise<void> {
  const expected: string[] = [];
  for (const database of fixture.sources) expected.push(...(await rowsOf(database, table)));
  const found: string[] = [];
  for (const database of fixture.destinations) found.push(...(await rowsOf(database, table)));
  expect(found.sort()).toEqual(expected.sort());
}

describe("copy", () => {
  test.each(["binary", "text"] as const)("all kinds of tables, %s", async (copyFormat) => {
    const fixture = await copyFixture(server, {
      name: `kinds_${copyFormat}`,
      schema: schema(await otherCollation(server)),
      tables: [
        { name: "orders", shardBy: "tenant_id" },
        { name: "sessions", shardBy: "tenant_id" },
        { name: "codes", shardBy: "code", shardingType: "varchar" },
        { name: "settings", shardBy: null },
      ],
    });
    const [source = ""] = fixture.sources;
    await server.sql(
      source,
      `INSERT INTO orders SELECT g, g % 97, CASE WHEN g % 7 = 0 THEN NULL ELSE E'a\\tb\\n\\\\' || g END,
          jsonb_build_object('n', g), g / 3.0, ARRAY['x', NULL, E'"y'], now(), g % 2 = 0, g % 100, random()
          FROM generate_series(1, 5000) g;
       INSERT INTO orders SELECT 100000, 1, string_agg(md5(g::text), '') FROM generate_series(1, 50000) g;
       INSERT INTO sessions SELECT gen_random_uuid(), g % 97, CASE g % 2 WHEN 0 THEN 'good' ELSE 'bad' END::mood
          FROM generate_series(1, 3000) g;
       INSERT INTO codes SELECT E'c\\t' || g, 'l' FROM generate_series(1, 2000) g;
       INSERT INTO settings VALUES ('a', '1'), ('b', NULL)`,
    );
    const context = fixture.context({}, { copyFormat });
    const plans = await planCopy(context, fixture.ref);
    expect(plans.find((plan) => plan.table === "orders")?.rangeCount).toBe(6);
    expect(plans.find((plan) => plan.table === "sessions")?.rangeCount).toBe(3);
    const rowCount = await copyAll(fixture, context);
    expect(rowCount).toBe(5001 + 3000 + 2000 + 2);
    for (const table of ["orders", "sessions", "codes"]) await expectEqual(fixture, table);
    for (const database of fixture.destinations)
      expect(await rowsOf(database, "settings")).toEqual(await rowsOf(source, "settings"));
    await expectRouted(fixture, "orders", "tenant_id");
    await expectRouted(fixture, "sessions", "tenant_id");
    const again = await planCopy(context, fixture.ref);
    expect(again.map((plan) => plan.doneRanges.length)).toEqual(
      plans.map((plan) => plan.rangeCount),
    );
    // A second run of a done range writes nothing and says the same.
    expect(await copyAll(fixture, context)).toBe(0);
    const repeated = {
      ref: fixture.ref,
      schema: "public",
      table: "orders",
      sourceShard: 0,
      range: 0,
    };
    const first = await copyRange(context, repeated);
    expect(await copyRange(context, repeated)).toEqual(first);
  });

  test("the plan does not change when the table does", async () => {
    const fixture = await ordersFixture("plan");
    const [source = ""] = fixture.sources;
    await fill(source, 3000);
    const context = fixture.context();
    const [a, b] = await Promise.all([
      planCopy(context, fixture.ref),
      planCopy(context, fixture.ref),
    ]);
    expect(a).toEqual(b);
    await server.sql(source, "DELETE FROM orders WHERE id > 10");
    const [later] = await planCopy(context, fixture.ref);
    expect(later?.rangeCount).toBe(a[0]?.rangeCount);
    expect(later?.rangeCount).toBe(3);
  });

  test("R5: a text key under a collation of its own is one range", async () => {
    const fixture = await copyFixture(server, {
      name: "icu",
      schema: `CREATE TABLE codes (code text COLLATE ${await otherCollation(server)} PRIMARY KEY)`,
      tables: [{ name: "codes", shardBy: "code", shardingType: "varchar" }],
    });
    await server.sql(
      fixture.sources[0] ?? "",
      "INSERT INTO codes SELECT 'c' || g FROM generate_series(1, 5000) g",
    );
    const [plan] = await planCopy(fixture.context(), fixture.ref);
    expect(plan?.rangeCount).toBe(1);
    expect(plan?.estimatedRows).toBe(5000);
  });

  test("a NULL sharding key stops the copy and names the table", async () => {
    for (const copyFormat of ["binary", "text"] as const) {
      const fixture = await copyFixture(server, {
        name: `nullkey_${copyFormat}`,
        schema: "CREATE TABLE orders (id bigint PRIMARY KEY, tenant_id bigint)",
        tables: [{ name: "orders", shardBy: "tenant_id" }],
      });
      await server.sql(fixture.sources[0] ?? "", "INSERT INTO orders VALUES (1, 1), (2, NULL)");
      await expect(copyAll(fixture, fixture.context({}, { copyFormat }))).rejects.toMatchObject({
        code: "SLUICE_COPY_FAILED",
        recovery: "operator",
        message: expect.stringContaining("public.orders has rows whose sharding key"),
      });
      for (const database of fixture.destinations)
        expect(await rowsOf(database, "orders")).toEqual([]);
    }
  });

  test("rows that are not ours at the destination are an error, not overwritten", async () => {
    const fixture = await ordersFixture("foreign");
    await fill(fixture.sources[0] ?? "", 100);
    for (const database of fixture.destinations)
      await server.sql(database, "INSERT INTO orders VALUES (3, -1, 'theirs')");
    await expect(copyAll(fixture, fixture.context())).rejects.toMatchObject({
      code: "SLUICE_COPY_FAILED",
      hint: expect.stringContaining("destination holds rows"),
    });
  });

  test("several source shards: a repeat deletes only its own source shard's rows", async () => {
    const fixture = await ordersFixture("manysrc", { sources: 2, destinations: 3 });
    for (const [shard, database] of fixture.sources.entries()) {
      await fill(database, 4000);
      const strays = (await server.sql(database, "SELECT id FROM orders"))
        .map((row) => Number(row.id))
        .filter((id) => shardOfText(String(id), "bigint", 2) !== shard);
      await server.sql(database, "DELETE FROM orders WHERE id = ANY ($1)", [strays]);
    }
    await copyAll(fixture, fixture.context());
    // One shard says that it does not have the range: it is written again, beside the other shard's rows.
    await server.sql(
      fixture.destinations[1] ?? "",
      "UPDATE sluice.copy_chunk SET snapshot = '1:1:' WHERE source_shard = 1 AND range = 0",
    );
    expect(await copyAll(fixture, fixture.context())).toBeGreaterThan(500);
    await expectEqual(fixture, "orders");
    await expectRouted(fixture, "orders");
  });

  test("a row on a source shard that it does not route to stops the copy", async () => {
    const fixture = await ordersFixture("stray", { sources: 2 });
    for (const database of fixture.sources) await fill(database, 10);
    await expect(copyAll(fixture, fixture.context())).rejects.toMatchObject({
      message: expect.stringContaining("route to another shard"),
    });
  });

  test("R13: an omnisharded table comes from its owner shard alone", async () => {
    const fixture = await copyFixture(server, {
      name: "owner",
      sources: 2,
      schema: "CREATE TABLE settings (name text PRIMARY KEY, value text)",
      tables: [{ name: "settings", shardBy: null }],
    });
    await server.sql(fixture.sources[0] ?? "", "INSERT INTO settings VALUES ('a', 'owner')");
    await server.sql(
      fixture.sources[1] ?? "",
      "INSERT INTO settings VALUES ('a', 'other'), ('b', 'other')",
    );
    expect(
      (await planCopy(fixture.context(), fixture.ref)).map((plan) => plan.sourceShard),
    ).toEqual([0]);
    await copyAll(fixture, fixture.context());
    for (const database of fixture.destinations)
      expect(await rowsOf(database, "settings")).toEqual(["(a,owner)"]);
  });

  test("lanes that apply already: no range is repeated under them", async () => {
    const fixture = await ordersFixture("lanes");
    await fill(fixture.sources[0] ?? "", 10);
    await planCopy(fixture.context(), fixture.ref);
    await server.sql(
      fixture.destinations[1] ?? "",
      `INSERT INTO sluice.lane (migration, stream, from_shard, to_shard, slot, origin,
         system_identifier, timeline, state, applied_lsn)
       VALUES ('${fixture.ref.id}', 0, 0, 1, 's', 'o', '1', 1, 'applying', '0/10')`,
    );
    await expect(copyAll(fixture, fixture.context())).rejects.toMatchObject({
      message: expect.stringContaining("is being caught up"),
    });
  });

  test("cancelling ends the attempt, and nothing of it stays", async () => {
    const fixture = await ordersFixture("cancel");
    await fill(fixture.sources[0] ?? "", 10);
    const abort = new AbortController();
    const context = fixture.context({
      signal: abort.signal,
      announce: async (step) => {
        if (step === "copy.beforeCommit") abort.abort(new Error("cancelled by test"));
      },
    });
    await expect(copyAll(fixture, context)).rejects.toThrow("cancelled by test");
    for (const database of fixture.destinations)
      expect(await rowsOf(database, "orders")).toEqual([]);
    await copyAll(fixture, fixture.context());
    await expectEqual(fixture, "orders");
  });
});

test("cancelling ends an attempt that waits for a destination", async () => {
  const fixture = await ordersFixture("blocked");
  await fill(fixture.sources[0] ?? "", 10);
  await planCopy(fixture.context(), fixture.ref);
  const blocker = await connectSql(server.address(fixture.destinations[1] ?? ""), {
    applicationName: "test",
  });
  await blocker.query("BEGIN; LOCK TABLE public.orders IN SHARE MODE");
  const abort = new AbortController();
  const copying = copyAll(fixture, fixture.context({ signal: abort.signal }));
  const outcome = expect(copying).rejects.toThrow("cancelled by test");
  await until(
    async () => (await blocker.query("SELECT 1 FROM pg_locks WHERE NOT granted")).rows.length > 0,
    { timeoutMs: 10_000, what: "the copy to wait" },
  );
  abort.abort(new Error("cancelled by test"));
  await outcome;
  await blocker.end();
  await copyAll(fixture, fixture.context());
  await expectEqual(fixture, "orders");
});

describe("R8: a range is done when every shard holds it with the same snapshot", () => {
  test("killed between the two commits, then repeated", async () => {
    const fixture = await ordersFixture("between");
    const [source = ""] = fixture.sources;
    await fill(source, 500);
    const died = fixture.context({
      announce: async (step) => {
        if (step === "copy.betweenCommits") throw new Error("killed by test");
      },
    });
    const failed = expect(copyAll(fixture, died)).rejects;
    await failed.toMatchObject({ cause: expect.objectContaining({ message: "killed by test" }) });
    const held = await Promise.all(fixture.destinations.map((name) => rowsOf(name, "orders")));
    expect(held[0]?.length).toBeGreaterThan(0);
    expect(held[1]).toEqual([]);
    const [plan] = await planCopy(fixture.context(), fixture.ref);
    expect(plan?.doneRanges).toEqual([]);
    await server.sql(source, "UPDATE orders SET v = -v; DELETE FROM orders WHERE id < 50");
    await copyAll(fixture, fixture.context());
    await expectEqual(fixture, "orders");
    const [after] = await planCopy(fixture.context(), fixture.ref);
    expect(after?.doneRanges).toEqual([0]);
  });

  test("two snapshots are not one: a range committed twice over is not done", async () => {
    const fixture = await ordersFixture("twosnap");
    await fill(fixture.sources[0] ?? "", 100);
    await copyAll(fixture, fixture.context());
    await server.sql(
      fixture.destinations[0] ?? "",
      "UPDATE sluice.copy_chunk SET snapshot = '5:5:'",
    );
    const [plan] = await planCopy(fixture.context(), fixture.ref);
    expect(plan?.doneRanges).toEqual([]);
  });

  test("two attempts at once: the second ends the first, frozen or not, and the rows are there once", async () => {
    const fixture = await ordersFixture("attempts");
    const [source = ""] = fixture.sources;
    await fill(source, 500);
    await planCopy(fixture.context(), fixture.ref);
    let reached = () => {};
    const frozenAt = new Promise<void>((resolve) => {
      reached = resolve;
    });
    let thaw = () => {};
    const thawed = new Promise<void>((resolve) => {
      thaw = resolve;
    });
    const frozen = fixture.context({
      announce: async (step) => {
        if (step !== "copy.betweenCommits") return;
        reached();
        await thawed;
      },
    });
    const input = { ref: fixture.ref, schema: "public", table: "orders", sourceShard: 0, range: 0 };
    const first = copyRange(frozen, input);
    first.catch(() => {});
    await frozenAt;
    await server.sql(source, "UPDATE orders SET v = v + 1000");
    await copyRange(fixture.context(), input);
    thaw();
    await expect(first).rejects.toMatchObject({ code: "SLUICE_COPY_FAILED", recovery: "retry" });
    await expectEqual(fixture, "orders");
  });

  test("many attempts at once leave the rows once", async () => {
    const fixture = await ordersFixture("storm");
    await fill(fixture.sources[0] ?? "", 2000);
    await planCopy(fixture.context({}, { copyRangeRows: 10_000 }), fixture.ref);
    const input = { ref: fixture.ref, schema: "public", table: "orders", sourceShard: 0, range: 0 };
    await Promise.allSettled(Array.from({ length: 6 }, () => copyRange(fixture.context(), input)));
    expect((await copyRange(fixture.context(), input)).rowCount).toBe(2000);
    await expectEqual(fixture, "orders");
  });
});
