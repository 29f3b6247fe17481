import { afterAll, beforeAll, expect, it } from "vitest";
import { connectEngine, openSides } from "../../../src/resharding/control/sides.js";
import { createStream } from "../../../src/resharding/stream/create-stream-step.js";
import { emitMarker, openLaneWatch } from "../../../src/resharding/stream/lane-watch.js";
import { openSettlement, settleWithin } from "../../../src/resharding/stream/settle-aside.js";
import { streamStatus } from "../../../src/resharding/stream/stream-status.js";
import { shardOfText } from "../../../src/topology/hash.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";
import {
  drain,
  type LanesFixture,
  lanesFixture,
  rowsOf,
  settled,
  settleNow,
  startStream,
} from "./lanes-fixture.js";

let server: PostgresServer;

beforeAll(async () => {
  server = await startPostgres();
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

/** Keyed by id, sharded by tenant: a row may move between shards and keep its key. */
const SCHEMA = `CREATE TABLE doc (id bigint PRIMARY KEY, tenant bigint NOT NULL, v text);
  CREATE UNIQUE INDEX doc_move ON doc (id, tenant);
  ALTER TABLE doc REPLICA IDENTITY USING INDEX doc_move`;

async function reverseFixture(): Promise<LanesFixture> {
  return await lanesFixture(server, { schema: SCHEMA, tables: { doc: "tenant" } });
}

function tenantOf(shard: number): number {
  for (let tenant = 1; ; tenant++)
    if (shardOfText(String(tenant), "bigint", 2) === shard) return tenant;
}

async function startMarkers(fixture: LanesFixture): Promise<void> {
  const context = fixture.context();
  for (const address of context.cluster("prod_sharded").shards) {
    await using client = await connectEngine(context, address, "test");
    await emitMarker(client, { migration: fixture.ref.id, kind: "start", token: "t" });
  }
}

it("R33: a row that moves between shards arrives whichever lane is first", async () => {
  const fixture = await reverseFixture();
  const [a, b] = [tenantOf(0), tenantOf(1)];
  for (const [side, shard] of [
    ["source", 0],
    ["destination", 0],
  ] as const)
    await fixture.sql(
      side,
      shard,
      `INSERT INTO doc SELECT i, ${a}, 'old' FROM generate_series(1, 40) i`,
    );
  await createStream(fixture.context(), { ref: fixture.ref, stream: 1 });
  await using first = startStream(fixture, 1, { fromShards: [1] });
  await startMarkers(fixture);
  // As a proxy moves rows: delete there, insert here. Only the lane of the new place runs, so it is first.
  await fixture.sql("destination", 0, "DELETE FROM doc WHERE id <= 20");
  await fixture.sql(
    "destination",
    1,
    `INSERT INTO doc SELECT i, ${b}, 'moved' FROM generate_series(1, 20) i`,
  );
  await fixture.sql("destination", 1, "UPDATE doc SET v = 'moved and changed' WHERE id <= 10");
  await until(
    async () => (await fixture.sql("source", 0, "SELECT 1 FROM sluice.aside")).length === 20,
    { timeoutMs: 10_000, what: "keys to be set aside" },
  );
  await using second = startStream(fixture, 1, { fromShards: [0] });
  await settled(fixture, 1);
  // Back again, and gone, after the settlement.
  await fixture.sql("destination", 1, "DELETE FROM doc WHERE id BETWEEN 5 AND 15");
  await fixture.sql(
    "destination",
    0,
    `INSERT INTO doc SELECT i, ${a}, 'back' FROM generate_series(5, 8) i`,
  );
  await settled(fixture, 1);
  expect(await rowsOf(fixture, "source", "doc")).toEqual(
    await rowsOf(fixture, "destination", "doc"),
  );
  void [first, second];
});

it("R33: rows that move back and forth under load are right in the end, without a stop", async () => {
  const fixture = await reverseFixture();
  const context = fixture.context();
  await createStream(context, { ref: fixture.ref, stream: 1 });
  await using running = startStream(fixture, 1);
  await startMarkers(fixture);
  const tenants = [tenantOf(0), tenantOf(1)];
  const writers = Array.from({ length: 4 }, async (_, writer) => {
    const shards = await Promise.all(
      context
        .cluster("prod_sharded")
        .shards.map((address) => connectEngine(context, address, "load")),
    );
    const where = new Map<number, number>();
    for (let round = 0; round < 250; round++) {
      const id = Math.floor(Math.random() * 12) * 4 + writer;
      const at = where.get(id);
      const to = Math.floor(Math.random() * 2);
      const insert = `INSERT INTO public.doc VALUES (${id}, ${tenants[to]}, 'v${round}')`;
      if (at === undefined) await shards[to]?.query(insert);
      else if (at === to && round % 3 > 0)
        await shards[at]?.query(`UPDATE public.doc SET v = 'u${round}' WHERE id = ${id}`);
      else {
        // Away first or there first: a proxy without two-phase commit may do either.
        const isThereFirst = at !== to && round % 2 === 0;
        if (isThereFirst) await shards[to]?.query(insert);
        await shards[at]?.query(`DELETE FROM public.doc WHERE id = ${id}`);
        if (!isThereFirst && at !== to) await shards[to]?.query(insert);
        if (at === to) where.delete(id);
      }
      if (at !== to) where.set(id, to);
    }
    for (const shard of shards) await shard.end();
  });
  await Promise.all(writers);
  await settled(fixture, 1);
  expect(await rowsOf(fixture, "source", "doc")).toEqual(
    await rowsOf(fixture, "destination", "doc"),
  );
  void running;
});

it("R33: a key on two shards stays aside and is named", async () => {
  const fixture = await reverseFixture();
  await createStream(fixture.context(), { ref: fixture.ref, stream: 1 });
  await using running = startStream(fixture, 1);
  await startMarkers(fixture);
  await fixture.sql("destination", 0, `INSERT INTO doc VALUES (1, ${tenantOf(0)}, 'here')`);
  await drain(fixture, 1);
  await fixture.sql("destination", 1, `INSERT INTO doc VALUES (1, ${tenantOf(1)}, 'there')`);
  await drain(fixture, 1);
  const result = await settleNow(fixture, 1);
  expect(result.conflicts.join()).toMatch(/public\.doc is on 2 shards/);
  expect((await streamStatus(fixture.context(), { ref: fixture.ref, stream: 1 })).asideKeys).toBe(
    1,
  );
  await fixture.sql("destination", 0, "DELETE FROM doc WHERE id = 1");
  await settled(fixture, 1);
  expect(await rowsOf(fixture, "source", "doc")).toEqual(
    await rowsOf(fixture, "destination", "doc"),
  );
  void running;
});

it("R28 R33: in the pause settlement waits no longer than the pause, and for no lock longer than 500 ms", async () => {
  const fixture = await reverseFixture();
  const context = fixture.context();
  const input = { ref: fixture.ref, stream: 1 };
  await createStream(context, input);
  await fixture.sql(
    "source",
    0,
    `INSERT INTO sluice.aside (migration, stream, schema_name, table_name, key, from_shard, reason)
     VALUES ('${fixture.ref.id}', 1, 'public', 'doc', '{1}', 0, 'test')`,
  );
  await using sides = await openSides(context, fixture.ref);
  const lanes = await openLaneWatch(context, sides, input);
  const sessions = await openSettlement(sides, { ...input, lanes });
  for (const client of [...sessions.writers, ...sessions.readers])
    expect((await client.query("SHOW lock_timeout")).rows).toEqual([{ lock_timeout: "500ms" }]);
  // No lane runs, so the marker is never passed.
  const startedAtMs = performance.now();
  const deadlineAtMs = startedAtMs + 250;
  const result = await settleWithin(context, sides, { ...input, sessions, deadlineAtMs });
  expect(result).toEqual({ settledKeys: 0, conflicts: ["the lanes do not pass a marker now"] });
  expect(performance.now() - startedAtMs).toBeLessThan(2_500);
});

it("R34: a standby stream drops what is before its marker and what our lanes wrote", async () => {
  const fixture = await reverseFixture();
  const context = fixture.context();
  await createStream(context, { ref: fixture.ref, stream: 0 });
  await fixture.noteEmptyCopy();
  await createStream(context, { ref: fixture.ref, stream: 1 });
  await using forward = startStream(fixture, 0);
  await using reverse = startStream(fixture, 1);
  await fixture.sql(
    "source",
    0,
    "INSERT INTO doc SELECT i, i, 'fed' FROM generate_series(1, 20) i",
  );
  await drain(fixture, 0);
  // Of no origin of ours, but before the marker: as a copy writes.
  await fixture.sql("destination", 0, `INSERT INTO doc VALUES (100, ${tenantOf(0)}, 'copied')`);
  const confirmed = async () =>
    await server.sql(
      "postgres",
      `SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'sluice_${fixture.ref.id}_1_%'
       AND pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn) < 100000`,
    );
  await until(async () => (await confirmed()).length === 2, {
    timeoutMs: 10_000,
    what: "WAL to be confirmed in standby",
  });
  const before = await streamStatus(context, { ref: fixture.ref, stream: 1 });
  expect(before.lanes.map((lane) => [lane.state, lane.changeCount])).toEqual([
    ["standby", 0],
    ["standby", 0],
  ]);
  await startMarkers(fixture);
  await fixture.sql("source", 0, "UPDATE doc SET v = 'fed again' WHERE id <= 5");
  await drain(fixture, 0);
  await fixture.sql("destination", 0, "DELETE FROM doc WHERE id = 100");
  await fixture.sql("destination", 0, `INSERT INTO doc VALUES (101, ${tenantOf(0)}, 'own')`);
  await until(
    async () =>
      (await streamStatus(context, { ref: fixture.ref, stream: 1 })).blocker !== null ||
      (await fixture.sql("source", 0, "SELECT 1 FROM doc WHERE id = 101")).length === 1,
    { timeoutMs: 10_000, what: "the reverse stream to begin" },
  );
  await drain(fixture, 1);
  // Row 100 was dropped as it came, so its delete met nothing: the key is set aside and settled.
  await settled(fixture, 1);
  expect(await rowsOf(fixture, "source", "doc")).toEqual(
    await rowsOf(fixture, "destination", "doc"),
  );
  const after = await streamStatus(context, { ref: fixture.ref, stream: 1 });
  expect(after.lanes.reduce((sum, lane) => sum + lane.changeCount, 0)).toBe(2);
  void [forward, reverse];
});
