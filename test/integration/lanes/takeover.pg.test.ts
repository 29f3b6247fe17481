import { afterAll, beforeAll, expect, it } from "vitest";
import { openSides } from "../../../src/resharding/control/sides.js";
import { createStream } from "../../../src/resharding/stream/create-stream-step.js";
import { openLane } from "../../../src/resharding/stream/lanes/lane-session.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";
import {
  drain,
  type LanesFixture,
  lanesFixture,
  rowsOf,
  settled,
  startStream,
} from "./lanes-fixture.js";
import { LOAD_SCHEMA, startLoad } from "./lanes-load.js";

let server: PostgresServer;

beforeAll(async () => {
  server = await startPostgres();
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

async function loadedFixture(): Promise<LanesFixture> {
  const fixture = await lanesFixture(server, { schema: LOAD_SCHEMA, tables: { item: "id" } });
  await createStream(fixture.context(), { ref: fixture.ref, stream: 0 });
  await fixture.noteEmptyCopy();
  return fixture;
}

async function expectEqual(fixture: LanesFixture): Promise<void> {
  await settled(fixture, 0);
  const rows = await rowsOf(fixture, "destination", "item");
  expect(rows).toEqual(await rowsOf(fixture, "source", "item"));
  expect(rows.length).toBeGreaterThan(50);
}

it("R15, R16: runs that are killed at any step, and their successors, apply each change once", async () => {
  const fixture = await loadedFixture();
  const address = fixture.context().cluster("prod").shards[0];
  if (!address) throw new Error("no shard");
  const load = await startLoad(address, { writers: 4, keys: 400 });
  for (const step of ["stream.beforeCommit", "stream.afterCommit"])
    for (const nth of [1, 7, 30]) {
      let seen = 0;
      // Ends the lane's session on the server as a crash would, between any two statements.
      const announce = async (name: string) => {
        if (name !== step || ++seen !== nth) return;
        await server.sql(
          "postgres",
          "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'sluice lane%'",
        );
      };
      await using running = startStream(fixture, 0, { overrides: { announce } });
      expect(await running.ended).toBeInstanceOf(Error);
    }
  for (let round = 0; round < 3; round++) {
    const before = load.transactions;
    await using running = startStream(fixture, 0);
    await until(() => load.transactions > before + 50, { timeoutMs: 10_000, what: "load" });
    await running.stop();
  }
  await load.stop();
  await using running = startStream(fixture, 0);
  await drain(fixture, 0);
  await expectEqual(fixture);
  void running;
});

it("R16: a successor ends a frozen predecessor in the middle of its batch", async () => {
  const fixture = await loadedFixture();
  await fixture.sql(
    "source",
    0,
    "INSERT INTO item SELECT i, 1, 'n', 'b' FROM generate_series(1, 100) i",
  );
  let freeze: () => void = () => {};
  const frozen = new Promise<void>((resolve) => {
    freeze = resolve;
  });
  let thaw: () => void = () => {};
  const thawed = new Promise<void>((resolve) => {
    thaw = resolve;
  });
  const announce = async (name: string) => {
    if (name !== "stream.beforeCommit") return;
    freeze();
    await thawed;
  };
  await using predecessor = startStream(fixture, 0, {
    overrides: { announce, incarnation: "old" },
  });
  await frozen;
  await using successor = startStream(fixture, 0, { overrides: { incarnation: "new" } });
  await drain(fixture, 0);
  thaw();
  expect(await predecessor.ended).toBeInstanceOf(Error);
  await fixture.sql("source", 0, "UPDATE item SET v = v + 1");
  await drain(fixture, 0);
  await expectEqual(fixture);
  const lanes = await fixture.sql("destination", 0, "SELECT incarnation FROM sluice.lane");
  expect(lanes).toEqual([{ incarnation: "new" }]);
  void successor;
});

it("R16: the position is the origin's, not the row's", async () => {
  const fixture = await loadedFixture();
  {
    await using running = startStream(fixture, 0);
    await fixture.sql("source", 0, "INSERT INTO item VALUES (1, 1, 'n', 'b')");
    await drain(fixture, 0);
    void running;
  }
  await fixture.sql(
    "destination",
    0,
    "UPDATE sluice.lane SET applied_lsn = '0/1', start_lsn = NULL",
  );
  await using sides = await openSides(fixture.context(), fixture.ref);
  const lane = await openLane(fixture.context(), sides, {
    ref: fixture.ref,
    stream: 0,
    fromShard: 0,
    toShard: 0,
  });
  const [origin] = await server.sql(
    "postgres",
    "SELECT remote_lsn FROM pg_replication_origin_status WHERE external_id = $1",
    [`sluice_${fixture.ref.id}_0_0_0`],
  );
  expect(lane.positionLsn.toString(16)).toBe(
    BigInt(`0x${String(origin?.remote_lsn).replace("/", "").padStart(1, "0")}`).toString(16),
  );
});

it("R15: an empty batch moves the origin, so a marker is passed by idle lanes", async () => {
  const fixture = await loadedFixture();
  await using running = startStream(fixture, 0);
  await drain(fixture, 0);
  const before = await server.sql(
    "postgres",
    "SELECT remote_lsn FROM pg_replication_origin_status ORDER BY 1",
  );
  const startedAtMs = performance.now();
  for (let i = 0; i < 5; i++) await drain(fixture, 0);
  const perMarkerMs = (performance.now() - startedAtMs) / 5;
  const after = await server.sql(
    "postgres",
    "SELECT remote_lsn FROM pg_replication_origin_status ORDER BY 1",
  );
  expect(after).not.toEqual(before);
  // Connecting to three databases included; a batching delay would show.
  expect(perMarkerMs).toBeLessThan(400);
  void running;
});

it("R18: another server, or a slot that is gone or made anew, ends the stream", async () => {
  const fixture = await loadedFixture();
  {
    await using running = startStream(fixture, 0);
    await fixture.sql("source", 0, "INSERT INTO item VALUES (1, 1, 'n', 'b')");
    await drain(fixture, 0);
    void running;
  }
  const lanes = (text: string) => fixture.sql("destination", 0, `UPDATE sluice.lane SET ${text}`);
  await lanes("system_identifier = '1' || system_identifier");
  await using elsewhere = startStream(fixture, 0);
  expect(await elsewhere.ended).toMatchObject({ code: "SLUICE_SERVER_IDENTITY_CHANGED" });
  await lanes("system_identifier = substr(system_identifier, 2)");
  const slot = `sluice_${fixture.ref.id}_0_0`;
  const gone = async () => {
    const found = await server.sql(
      "postgres",
      "SELECT 1 FROM pg_replication_slots WHERE slot_name = $1 AND active",
      [slot],
    );
    return found.length === 0;
  };
  await until(gone, { timeoutMs: 5_000, what: "the walsender to end" });
  await fixture.sql("source", 0, `SELECT pg_drop_replication_slot('${slot}')`);
  await using lost = startStream(fixture, 0);
  expect(await lost.ended).toMatchObject({ code: "SLUICE_SLOT_LOST" });
  await fixture.sql("source", 0, "INSERT INTO item VALUES (2, 1, 'n', 'b')");
  await fixture.sql(
    "source",
    0,
    `SELECT pg_create_logical_replication_slot('${slot}', 'pgoutput')`,
  );
  await using anew = startStream(fixture, 0);
  expect(await anew.ended).toMatchObject({
    code: "SLUICE_SLOT_LOST",
    message: expect.stringMatching(/made anew/),
  });
});
