import { afterAll, beforeAll, expect, it } from "vitest";
import { createStream } from "../../../src/resharding/stream/create-stream-step.js";
import { streamStatus } from "../../../src/resharding/stream/stream-status.js";
import { shardOfText } from "../../../src/topology/hash.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import {
  drain,
  type FixtureInput,
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

async function streaming(input: FixtureInput): Promise<LanesFixture> {
  const fixture = await lanesFixture(server, input);
  await createStream(fixture.context(), { ref: fixture.ref, stream: 0 });
  await fixture.noteEmptyCopy();
  return fixture;
}

async function expectEqual(fixture: LanesFixture, table: string): Promise<void> {
  expect(await rowsOf(fixture, "destination", table)).toEqual(
    await rowsOf(fixture, "source", table),
  );
}

const TOAST = `CREATE TABLE big (id bigint PRIMARY KEY, v int, body text);
  ALTER TABLE big ALTER body SET STORAGE EXTERNAL`;

it("R12: unchanged TOAST is kept, in place and when the row moves", async () => {
  const fixture = await streaming({ schema: TOAST, tables: { big: "id" } });
  await fixture.sql(
    "source",
    0,
    "INSERT INTO big SELECT i, 0, repeat('x' || i, 3000) FROM generate_series(1, 60) i",
  );
  {
    await using running = startStream(fixture, 0);
    await drain(fixture, 0);
    void running;
  }
  // One backlog, so that in-place updates, moves and a row that is gone meet in one batch.
  await fixture.sql("source", 0, "UPDATE big SET v = 1");
  await fixture.sql("source", 0, "UPDATE big SET id = id + 1000 WHERE id <= 30");
  await fixture.sql(
    "source",
    0,
    "UPDATE big SET v = 2, id = id + 1000 WHERE id BETWEEN 1001 AND 1010",
  );
  await fixture.sql("source", 0, "DELETE FROM big WHERE id BETWEEN 2001 AND 2005");
  await using again = startStream(fixture, 0);
  await drain(fixture, 0);
  const nulls = await fixture.sql("destination", 0, "SELECT 1 FROM big WHERE body IS NULL");
  expect(nulls).toEqual([]);
  await settleNow(fixture, 0);
  await expectEqual(fixture, "big");
  void again;
});

it("R13: an omnisharded table is fed by its owner shard alone", async () => {
  const fixture = await streaming({
    sources: 2,
    schema: "CREATE TABLE kind (id int PRIMARY KEY, label text)",
    tables: { kind: null },
  });
  await using running = startStream(fixture, 0);
  for (const shard of [0, 1]) {
    await fixture.sql("source", shard, "INSERT INTO kind VALUES (1, 'a'), (2, 'b')");
    await fixture.sql("source", shard, "UPDATE kind SET label = 'c' WHERE id = 1");
    await fixture.sql("source", shard, "DELETE FROM kind WHERE id = 2");
  }
  await drain(fixture, 0);
  for (const shard of [0, 1])
    expect(await fixture.sql("destination", shard, "SELECT * FROM kind")).toEqual([
      { id: 1, label: "c" },
    ]);
  void running;
});

const PLAIN = "CREATE TABLE item (id bigint PRIMARY KEY, v int)";

it("R17: a missing row stops the lane with evidence, and its successor", async () => {
  const fixture = await streaming({ schema: PLAIN, tables: { item: "id" }, destinations: 1 });
  await using running = startStream(fixture, 0);
  await fixture.sql("source", 0, "INSERT INTO item SELECT i, 0 FROM generate_series(1, 10) i");
  await drain(fixture, 0);
  await fixture.sql("destination", 0, "DELETE FROM item WHERE id = 7");
  await fixture.sql("source", 0, "UPDATE item SET v = 1");
  expect(await running.ended).toMatchObject({
    code: "SLUICE_LANE_ROW_MISSING",
    recovery: "operator",
  });
  const status = await streamStatus(fixture.context(), { ref: fixture.ref, stream: 0 });
  expect(status.blocker).toMatchObject({
    code: "SLUICE_LANE_ROW_MISSING",
    message: expect.stringMatching(/update in public\.item: .* not there; see SHOW EVIDENCE$/),
  });
  // Which row it is, is told by the database alone (R56).
  const [lane] = await fixture.sql("destination", 0, "SELECT evidence FROM sluice.lane");
  expect(lane).toEqual({ evidence: "update: id = 7" });
  // Nothing of the batch was kept.
  expect(await fixture.sql("destination", 0, "SELECT 1 FROM item WHERE v = 1")).toEqual([]);
  await using successor = startStream(fixture, 0);
  expect(await successor.ended).toMatchObject({ code: "SLUICE_LANE_ROW_MISSING" });
});

it("R17: an existing row stops the lane with evidence", async () => {
  const fixture = await streaming({ schema: PLAIN, tables: { item: "id" }, destinations: 1 });
  await fixture.sql("destination", 0, "INSERT INTO item VALUES (5, 99)");
  await using running = startStream(fixture, 0);
  await fixture.sql("source", 0, "INSERT INTO item SELECT i, 0 FROM generate_series(1, 10) i");
  expect(await running.ended).toMatchObject({ code: "SLUICE_LANE_ROW_EXISTS" });
  expect(await fixture.sql("destination", 0, "SELECT * FROM item")).toEqual([{ id: "5", v: 99 }]);
});

it("R20: REPLICA IDENTITY FULL touches one of several equal rows, whatever their types", async () => {
  const fixture = await streaming({
    schema:
      "CREATE TABLE log (id bigint, f float8, j json, n numeric, t text); ALTER TABLE log REPLICA IDENTITY FULL",
    tables: { log: "id" },
  });
  await using running = startStream(fixture, 0);
  await fixture.sql(
    "source",
    0,
    `INSERT INTO log SELECT i % 5, CASE i % 3 WHEN 0 THEN '-0' WHEN 1 THEN 'NaN' END::float8, '{"a": 1}', 1.50, NULL
     FROM generate_series(1, 60) i`,
  );
  await fixture.sql(
    "source",
    0,
    "DELETE FROM log WHERE ctid = (SELECT ctid FROM log WHERE id = 2 LIMIT 1)",
  );
  await fixture.sql(
    "source",
    0,
    "UPDATE log SET t = 'one' WHERE ctid = (SELECT ctid FROM log WHERE id = 3 LIMIT 1)",
  );
  await fixture.sql(
    "source",
    0,
    "UPDATE log SET id = 4 WHERE ctid = (SELECT ctid FROM log WHERE id = 1 LIMIT 1)",
  );
  await drain(fixture, 0);
  await expectEqual(fixture, "log");
  void running;
});

it("applies in order where unique values swap, and writes identity and generated columns", async () => {
  const fixture = await streaming({
    schema: `CREATE TABLE seat (id bigint PRIMARY KEY, place int UNIQUE DEFERRABLE, name text);
      CREATE TABLE numbered (id uuid PRIMARY KEY, n bigint GENERATED ALWAYS AS IDENTITY, v int,
        twice int GENERATED ALWAYS AS (v * 2) STORED)`,
    tables: { seat: "id", numbered: "id" },
    destinations: 1,
    adjust: (plan) => (plan.name === "seat" ? { ...plan, otherUnique: true } : plan),
  });
  await fixture.sql("source", 0, "INSERT INTO seat SELECT i, i, 'a' FROM generate_series(1, 20) i");
  await fixture.sql(
    "source",
    0,
    "INSERT INTO numbered (id, v) SELECT gen_random_uuid(), i FROM generate_series(1, 20) i",
  );
  await fixture.sql(
    "source",
    0,
    "DELETE FROM seat WHERE id = 1; UPDATE seat SET place = 1 WHERE id = 2; UPDATE seat SET place = 2 WHERE id = 3",
  );
  await fixture.sql("source", 0, "UPDATE numbered SET v = v + 1");
  await using running = startStream(fixture, 0);
  await drain(fixture, 0);
  await expectEqual(fixture, "seat");
  await expectEqual(fixture, "numbered");
  void running;
});

it.each([
  ["TRUNCATE", "TRUNCATE item", /TRUNCATE of moving tables: public\.item/],
  [
    "a new column",
    "ALTER TABLE item ADD extra int; INSERT INTO item VALUES (1, 1, 1)",
    /its columns are \(id, v, extra\)/,
  ],
  [
    "another type",
    "ALTER TABLE item ALTER v TYPE bigint; INSERT INTO item VALUES (1, 1)",
    /type of column "v"/,
  ],
  [
    "another identity",
    "ALTER TABLE item REPLICA IDENTITY FULL; INSERT INTO item VALUES (1, 1)",
    /replica identity is "f"/,
  ],
])("stops at %s and says so", async (_what, statement, message) => {
  const fixture = await streaming({ schema: PLAIN, tables: { item: "id" } });
  await using running = startStream(fixture, 0);
  await drain(fixture, 0);
  await fixture.sql("source", 0, statement);
  expect(await running.ended).toMatchObject({
    code: "SLUICE_STREAM_UNSUPPORTED_CHANGE",
    message: expect.stringMatching(message),
  });
  const status = await streamStatus(fixture.context(), { ref: fixture.ref, stream: 0 });
  expect(status.blocker).toMatchObject({ code: "SLUICE_STREAM_UNSUPPORTED_CHANGE" });
});

it("R24: a lane is past a marker only when everything before it is there", async () => {
  const fixture = await streaming({ schema: PLAIN, tables: { item: "id" } });
  await using running = startStream(fixture, 0);
  for (let round = 1; round <= 20; round++) {
    await fixture.sql(
      "source",
      0,
      `INSERT INTO item SELECT ${round} * 1000 + i, ${round} FROM generate_series(1, 50) i`,
    );
    await drain(fixture, 0);
    expect((await rowsOf(fixture, "destination", "item")).length).toBe(round * 50);
  }
  void running;
});

it("carries a transaction that is larger than what is held in memory", async () => {
  const fixture = await streaming({
    schema: "CREATE TABLE item (id bigint PRIMARY KEY, t text)",
    tables: { item: "id" },
  });
  await using running = startStream(fixture, 0);
  await fixture.sql(
    "source",
    0,
    "INSERT INTO item SELECT i, repeat('x', 500) FROM generate_series(1, 40000) i; UPDATE item SET t = 'y' WHERE id % 2 = 0",
  );
  await drain(fixture, 0);
  await expectEqual(fixture, "item");
  void running;
});

it("R12: a row that moves on from a key that another row has taken since keeps its own large value", async () => {
  const fixture = await streaming({ schema: TOAST, tables: { big: "id" } });
  const onShard = (shard: number) => (id: number) => shardOfText(String(id), "bigint", 2) === shard;
  const ids = Array.from({ length: 40 }, (_, index) => index + 1);
  const [from = 0] = ids.filter(onShard(0));
  const [other = 0, passed = 0, end = 0] = ids.filter(onShard(1));
  await fixture.sql(
    "source",
    0,
    `INSERT INTO big SELECT i, 0, repeat('x' || i, 3000) FROM unnest(ARRAY[${from}, ${other}]) i`,
  );
  {
    await using running = startStream(fixture, 0);
    await drain(fixture, 0);
    void running;
  }
  // The first comes from another shard, so its value is read from the source, where the second is by now.
  for (const [old, now] of [
    [from, passed],
    [passed, end],
    [other, passed],
  ])
    await fixture.sql("source", 0, `UPDATE big SET id = ${now} WHERE id = ${old}`);
  await using running = startStream(fixture, 0);
  await settled(fixture, 0);
  await expectEqual(fixture, "big");
  void running;
});
