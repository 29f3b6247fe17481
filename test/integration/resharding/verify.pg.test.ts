import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectSql } from "../../../src/backend/sql-client.js";
import { openSides } from "../../../src/resharding/control/sides.js";
import { copyRange } from "../../../src/resharding/copy/copy-range-step.js";
import { planCopy } from "../../../src/resharding/copy/plan-copy-step.js";
import { WHOLE_TABLE } from "../../../src/resharding/copy/range-sql.js";
import { asideName } from "../../../src/resharding/stream/lanes/aside.js";
import { SideReader } from "../../../src/resharding/verify/sides-reader.js";
import { compareTable } from "../../../src/resharding/verify/table-compare.js";
import { verifyPass } from "../../../src/resharding/verify/verify-pass-step.js";
import { shardOfText } from "../../../src/topology/hash.js";
import { finalCompare } from "../../support/compare/final-compare.js";
import { type CopyFixture, copyFixture, type FixtureOptions } from "../../support/copy-fixture.js";
import { startDecodingLane } from "../../support/decoding-lane.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";

let server: PostgresServer;

beforeAll(async () => {
  server = await startPostgres();
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const ROWS = 3000;

const KEYS: Pick<FixtureOptions, "schema" | "tables"> = {
  schema: "CREATE TABLE k (id int PRIMARY KEY, v bigint NOT NULL)",
  tables: [{ name: "k" }],
};

async function copyAll(fixture: CopyFixture): Promise<void> {
  const context = fixture.context();
  for (const { schema, table, sourceShard, rangeCount } of await planCopy(context, fixture.ref))
    for (let range = 0; range < rangeCount; range++)
      await copyRange(context, { ref: fixture.ref, schema, table, sourceShard, range });
}

async function copied(name: string, options: Partial<FixtureOptions> = {}): Promise<CopyFixture> {
  const fixture = await copyFixture(server, { name, ...KEYS, ...options });
  for (const [shard, database] of fixture.sources.entries()) {
    const ids = Array.from({ length: ROWS }, (_, index) => index + 1).filter(
      (id) => shardOfText(String(id), "bigint", fixture.sources.length) === shard,
    );
    if (fixture.spec.tables.some((table) => table.name === "k"))
      await server.sql(database, "INSERT INTO k SELECT id, id FROM unnest($1::int[]) AS id", [ids]);
  }
  await copyAll(fixture);
  return fixture;
}

/** Lanes that have nothing to do: nobody writes, so every marker counts as passed. */
async function idleLanes(fixture: CopyFixture, stream: number): Promise<void> {
  const [from, to] =
    stream % 2 === 0
      ? [fixture.sources, fixture.destinations]
      : [fixture.destinations, fixture.sources];
  for (const [toShard, database] of to.entries())
    await server.sql(
      database,
      `INSERT INTO sluice.lane (migration, stream, from_shard, to_shard, slot, origin,
         system_identifier, timeline, state, applied_lsn)
       SELECT '${fixture.ref.id}', ${stream}, f, ${toShard}, 's', 'o', '1', 1, 'applying',
              'FFFFFFFF/FFFFFFFF'
         FROM generate_series(0, ${from.length - 1}) f`,
    );
}

async function verify(fixture: CopyFixture, stream = 0, pass = 1) {
  return await verifyPass(fixture.context(), { ref: fixture.ref, stream, pass });
}

/** Keys that differ, as they are noted for SHOW EVIDENCE. */
async function keysNoted(database: string): Promise<readonly string[]> {
  const rows = await server.sql(database, "SELECT evidence FROM sluice.evidence ORDER BY scope");
  return rows.map((row) => String(row.evidence));
}

async function receipts(database: string) {
  return await server.sql(
    database,
    `SELECT table_name, shard, row_count::int, hash::text, is_clean, detail
       FROM sluice.receipt ORDER BY pass, table_name, shard`,
  );
}

const shardOf = (id: number, count: number) => Number(shardOfText(String(id), "bigint", count));

describe("verification of sides that stand still", () => {
  test("equal sides are clean, in both directions, with a receipt per table and shard", {
    timeout: 90_000,
  }, async () => {
    for (const [name, sources, destinations] of [
      ["one_two", 1, 2],
      ["two_three", 2, 3],
      ["three_one", 3, 1],
    ] as const) {
      const fixture = await copied(name, { sources, destinations });
      for (const stream of [0, 1]) {
        await idleLanes(fixture, stream);
        expect(await verify(fixture, stream)).toEqual({
          isClean: true,
          rowCount: ROWS,
          differences: [],
        });
      }
      const written = await receipts(fixture.sources[0] ?? "");
      expect(written.map((receipt) => receipt.shard)).toEqual(
        Array.from({ length: destinations }, (_, shard) => shard),
      );
      expect(written.reduce((sum, receipt) => sum + Number(receipt.row_count), 0)).toBe(ROWS);
      expect(written.every((receipt) => receipt.is_clean)).toBe(true);
      expect((await receipts(fixture.destinations[0] ?? "")).length).toBe(sources);
    }
  });

  test("R40: a row on the wrong shard is found although the sums over all shards agree", async () => {
    const fixture = await copied("wrongshard");
    await idleLanes(fixture, 0);
    const home = fixture.destinations[shardOf(42, 2)] ?? "";
    const away = fixture.destinations[1 - shardOf(42, 2)] ?? "";
    await server.sql(home, "DELETE FROM k WHERE id = 42");
    await server.sql(away, "INSERT INTO k VALUES (42, 42)");
    const result = await verify(fixture);
    expect(result.isClean).toBe(false);
    expect(result.differences).toEqual([
      "public.k: 1 keys differ on shard 0",
      "public.k: 1 keys differ on shard 1",
    ]);
    const written = await receipts(fixture.sources[0] ?? "");
    expect(written.map((receipt) => receipt.detail)).toEqual(["", ""]);
    const noted = await keysNoted(fixture.sources[0] ?? "");
    expect(noted.map((keys) => keys.includes('["42"]'))).toEqual([true, true]);
    expect((await finalCompare(fixture.context(), fixture.ref)).isEqual).toBe(false);
  });

  test("R40: a second copy of a row on a shard where it does not route is found", async () => {
    const fixture = await copied("doubled");
    await idleLanes(fixture, 0);
    const away = 1 - shardOf(7, 2);
    await server.sql(fixture.destinations[away] ?? "", "INSERT INTO k VALUES (7, 7)");
    const result = await verify(fixture);
    expect(result.differences).toContain(`public.k: 1 keys differ on shard ${away}`);
    expect((await finalCompare(fixture.context(), fixture.ref)).isEqual).toBe(false);
  });

  test.each([
    ["changed", "UPDATE k SET v = -1 WHERE id = 100"],
    ["missing", "DELETE FROM k WHERE id = 100"],
    ["added", "INSERT INTO k VALUES (1000000, 1)"],
  ])("R41: a real difference is reported: %s", async (name, sql) => {
    const fixture = await copied(`diff_${name}`, { destinations: 1 });
    await idleLanes(fixture, 0);
    await server.sql(fixture.destinations[0] ?? "", sql);
    expect(await verify(fixture)).toEqual({
      isClean: false,
      rowCount: ROWS,
      differences: ["public.k: 1 keys differ on shard 0"],
    });
    const final = await finalCompare(fixture.context(), fixture.ref);
    expect(final.isEqual).toBe(false);
    expect(final.differences).toHaveLength(1);
  });

  test("R40: omnisharded tables are compared shard by shard with their owner", async () => {
    const fixture = await copyFixture(server, {
      name: "omni",
      schema: "CREATE TABLE settings (name text PRIMARY KEY, value text)",
      tables: [{ name: "settings", shardBy: null }],
    });
    await server.sql(
      fixture.sources[0] ?? "",
      "INSERT INTO settings VALUES ('a', '1'), ('b', '2')",
    );
    await copyAll(fixture);
    await idleLanes(fixture, 0);
    expect(await verify(fixture)).toEqual({ isClean: true, rowCount: 2, differences: [] });
    expect(await finalCompare(fixture.context(), fixture.ref)).toMatchObject({ isEqual: true });
    await server.sql(
      fixture.destinations[1] ?? "",
      "UPDATE settings SET value = '3' WHERE name = 'a'",
    );
    expect((await verify(fixture)).differences).toEqual([
      "public.settings: 1 keys differ on shard 1",
    ]);
    expect(await finalCompare(fixture.context(), fixture.ref)).toMatchObject({ isEqual: false });
  });

  test("on the way back a shard that has not the owner's rows of an omnisharded table is found", async () => {
    const fixture = await copyFixture(server, {
      name: "omniback",
      schema: "CREATE TABLE settings (name text PRIMARY KEY, value text)",
      tables: [{ name: "settings", shardBy: null }],
    });
    const [source = ""] = fixture.sources;
    const [first = "", second = ""] = fixture.destinations;
    await server.sql(source, "INSERT INTO settings VALUES ('a', '1'), ('b', '2')");
    await copyAll(fixture);
    await idleLanes(fixture, 1);
    expect(await verify(fixture, 1)).toEqual({ isClean: true, rowCount: 2, differences: [] });
    await server.sql(second, "UPDATE settings SET value = 'secret' WHERE name = 'a'");
    const finding = '"public"."settings": shard 1 has 2 rows, shard 0 has 2; 1 keys (name) differ';
    expect(await verify(fixture, 1, 2)).toEqual({
      isClean: false,
      rowCount: 2,
      differences: [finding],
    });
    expect((await receipts(first)).map((one) => [one.is_clean, one.detail])).toEqual([
      [true, ""],
      [false, finding],
    ]);
    await server.sql(second, "UPDATE settings SET value = '1' WHERE name = 'a'");
    // A writer that does not end: the pass goes on without the table, and does not hold up who comes next.
    await using writer = await connectSql(server.address(first), { applicationName: "app" });
    await writer.query("BEGIN");
    await writer.query("INSERT INTO public.settings VALUES ('c', '3')");
    await server.sql(second, "INSERT INTO settings VALUES ('c', '3')");
    expect((await verify(fixture, 1, 3)).differences).toEqual([
      "public.settings: not clean: its shards were written all the time",
    ]);
    await writer.query("ROLLBACK");
    await server.sql(second, "DELETE FROM settings WHERE name = 'c'");
    expect(await verify(fixture, 1, 4)).toMatchObject({ isClean: true });
  });

  test("R40: a generated column that a shard computes otherwise is found", async () => {
    const fixture = await copyFixture(server, {
      name: "generated",
      schema:
        "CREATE TABLE g (id int PRIMARY KEY, v int, w int GENERATED ALWAYS AS (v * 2) STORED)",
      tables: [{ name: "g" }],
    });
    const [source = ""] = fixture.sources;
    await server.sql(source, "INSERT INTO g SELECT i, i FROM generate_series(1, 50) i");
    const [first = "", second = ""] = fixture.destinations;
    await copyAll(fixture);
    await idleLanes(fixture, 0);
    expect(await verify(fixture)).toMatchObject({ isClean: true });
    for (const shard of [first, second])
      await server.sql(
        shard,
        "ALTER TABLE g DROP w; ALTER TABLE g ADD w int GENERATED ALWAYS AS (v * 3) STORED",
      );
    expect(await verify(fixture, 0, 2)).toMatchObject({ isClean: false });
  });

  test("R7: row security that hides rows from verification is an error", async () => {
    const fixture = await copied("hidden", { destinations: 1 });
    await idleLanes(fixture, 0);
    const user = `blind_${fixture.ref.id}`;
    const [destination = ""] = fixture.destinations;
    await server.sql(
      destination,
      `CREATE ROLE ${user} LOGIN; GRANT USAGE ON SCHEMA sluice TO ${user};
       GRANT SELECT ON ALL TABLES IN SCHEMA sluice, public TO ${user};
       ALTER TABLE k ENABLE ROW LEVEL SECURITY; CREATE POLICY half ON k USING (id % 2 = 0)`,
    );
    const owner = fixture.context();
    const context = fixture.context({
      cluster: (name) => {
        const cluster = owner.cluster(name);
        const isSource = name === fixture.ref.source;
        return isSource
          ? cluster
          : { ...cluster, shards: cluster.shards.map((shard) => ({ ...shard, user })) };
      },
    });
    await expect(
      verifyPass(context, { ref: fixture.ref, stream: 0, pass: 1 }),
    ).rejects.toMatchObject({ message: expect.stringContaining("row-level security") });
  });

  test("types: without a hash, by OID, arrays, and tables without a key", async () => {
    const fixture = await copyFixture(server, {
      name: "types",
      schema: `CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE DOMAIN short AS text;
        CREATE TABLE many (id bigint PRIMARY KEY, m mood, d short, j json, b jsonb, x bit(3), n numeric,
          t text[], f float8, at timestamptz(3), by bytea, u uuid, i interval, ms mood[], p point);
        CREATE TABLE log (tenant_id bigint NOT NULL, note text);
        ALTER TABLE log REPLICA IDENTITY FULL`,
      tables: [{ name: "many" }, { name: "log", shardBy: "tenant_id", keyless: true }],
    });
    const [source = "", first = ""] = [fixture.sources[0], fixture.destinations[0]];
    // Other OIDs on one side.
    await server.sql(
      first,
      "ALTER TYPE mood RENAME TO gone; CREATE TYPE mood AS ENUM ('good', 'bad')",
    );
    await server.sql(
      first,
      `ALTER TABLE many ALTER m TYPE mood USING m::text::mood,
                        ALTER ms TYPE mood[] USING ms::text::mood[]; DROP TYPE gone`,
    );
    await server.sql(
      source,
      `INSERT INTO many SELECT g, 'bad', 'x', '{"a": 1}', '{"a": 1}', '101', 1.50, ARRAY['a', NULL],
          'NaN', now(), '\\x00ff', gen_random_uuid(), '1 day', ARRAY['good'::mood], '(1,2)'
          FROM generate_series(1, 300) g;
       INSERT INTO many (id) VALUES (1000);
       INSERT INTO log SELECT g % 10, 'same' FROM generate_series(1, 100) g`,
    );
    await copyAll(fixture);
    await idleLanes(fixture, 0);
    expect(await verify(fixture)).toEqual({ isClean: true, rowCount: 401, differences: [] });
    expect(await finalCompare(fixture.context(), fixture.ref)).toMatchObject({
      isEqual: true,
      differences: [],
    });
    const shard = fixture.destinations[shardOf(3, 2)] ?? "";
    await server.sql(
      shard,
      "DELETE FROM log WHERE ctid = (SELECT min(ctid) FROM log WHERE tenant_id = 3)",
    );
    expect((await verify(fixture)).differences).toEqual([
      `public.log: 1 keys differ on shard ${shardOf(3, 2)}`,
    ]);
    expect((await finalCompare(fixture.context(), fixture.ref)).differences).toHaveLength(1);
  });
});

describe("R41: verification under traffic", () => {
  async function traffic(database: string, state: { stopped: boolean; writes: number }) {
    await using client = await connectSql(server.address(database), { applicationName: "app" });
    while (!state.stopped) {
      const id = 1 + Math.floor(Math.random() * (ROWS + 200));
      const dice = Math.random();
      if (dice < 0.7) await client.query("UPDATE public.k SET v = v + 1 WHERE id = $1", [id]);
      else if (dice < 0.85) await client.query("DELETE FROM public.k WHERE id = $1", [id]);
      else await client.query("INSERT INTO public.k VALUES ($1, 0) ON CONFLICT DO NOTHING", [id]);
      // One key that never rests, and one whose value comes back.
      await client.query("UPDATE public.k SET v = 1 - v WHERE id IN (1, 2)");
      state.writes++;
      // An application's pace: the lane of this test decodes by SQL and would never catch up with a loop.
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  test("R41: running updates are no alarm; a real difference among them is", {
    timeout: 90_000,
  }, async () => {
    const fixture = await copied("traffic");
    const [source = ""] = fixture.sources;
    const state = { stopped: false, writes: 0 };
    let result: Awaited<ReturnType<typeof verify>>;
    let broken: Awaited<ReturnType<typeof verify>>;
    {
      await using lane = await startDecodingLane(server, fixture, { delayMs: 30 });
      const writers = [traffic(source, state), traffic(source, state)];
      try {
        result = await Promise.race([verify(fixture), lane.ended.then(() => verify(fixture))]);
        await server.sql(source, "INSERT INTO k VALUES (9001, 1)");
        await server.sql(
          fixture.destinations[shardOf(9002, 2)] ?? "",
          "INSERT INTO k VALUES (9002, 1)",
        );
        broken = await verify(fixture, 0, 2);
      } finally {
        state.stopped = true;
        await Promise.all(writers);
      }
    }
    expect(state.writes).toBeGreaterThan(100);
    expect(result.differences.filter((text) => !text.includes("still moving"))).toEqual([]);
    expect(result.isInMotion ?? false).toBe(!result.isClean);
    expect(broken.isInMotion).toBeUndefined();
    expect(broken.differences.filter((text) => !text.includes("still moving"))).toEqual([
      `public.k: 1 keys differ on shard ${shardOf(9002, 2)}`,
    ]);
    expect((await keysNoted(source)).join("\n")).toContain('["9002"]');
  });

  test("R41: a value that comes back at the source is motion, not a difference", async () => {
    const fixture = await copied("aba", { destinations: 1 });
    const [source = "", destination = ""] = [fixture.sources[0], fixture.destinations[0]];
    const context = fixture.context();
    await using sides = await openSides(context, fixture.ref);
    const from = await SideReader.open(sides, "source");
    const to = await SideReader.open(sides, "destination");
    await server.sql(destination, "UPDATE k SET v = -1 WHERE id = 5");
    const [table] = fixture.spec.tables;
    if (!table) throw new Error("no table");
    let rounds = 0;
    const passMarker = async () => {
      rounds += 1;
      // The lanes have passed the marker, and one change more: from 5 to -2. The source is back at 5.
      await server.sql(source, "UPDATE k SET v = -2 WHERE id = 5");
      await server.sql(destination, `UPDATE k SET v = ${rounds < 5 ? -2 : 5} WHERE id = 5`);
      await server.sql(source, "UPDATE k SET v = 5 WHERE id = 5");
      return new Set<string>();
    };
    const input = { sides: { from, to }, table, ranges: [WHOLE_TABLE], passMarker };
    expect(await compareTable(context, input)).toMatchObject({ differences: [], movingCount: 0 });
    expect(rounds).toBe(5);
    // One that never rests is neither.
    rounds = Number.NEGATIVE_INFINITY;
    await server.sql(destination, "UPDATE k SET v = -1 WHERE id = 5");
    expect(await compareTable(context, input)).toMatchObject({ differences: [], movingCount: 1 });
    // At rest and different, but set aside by a lane: to be settled, no difference.
    const aside = { ...input, passMarker: async () => new Set([asideName(table, ["5"])]) };
    expect(await compareTable(context, aside)).toMatchObject({ differences: [], movingCount: 1 });
    const plain = { ...input, passMarker: async () => new Set<string>() };
    expect((await compareTable(context, plain)).differences.map(({ key }) => key)).toEqual([
      '["5"]',
    ]);
  });

  test("lanes that do not get on are named", async () => {
    const fixture = await copied("stuck");
    await idleLanes(fixture, 0);
    await server.sql(
      fixture.destinations[1] ?? "",
      "UPDATE sluice.lane SET state = 'stopped' WHERE stream = 0",
    );
    await expect(verify(fixture)).rejects.toMatchObject({
      code: "SLUICE_MARKER_NOT_PASSED",
      message: expect.stringContaining("0 -> 1 (stopped)"),
    });
  });
});
