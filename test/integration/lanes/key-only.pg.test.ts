import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openSides } from "../../../src/resharding/control/sides.js";
import { createStream } from "../../../src/resharding/stream/create-stream-step.js";
import { dropStream } from "../../../src/resharding/stream/drop-stream-step.js";
import { emitMarker } from "../../../src/resharding/stream/lane-watch.js";
import { settleAside } from "../../../src/resharding/stream/settle-aside.js";
import { streamStatus } from "../../../src/resharding/stream/stream-status.js";
import { shardOfText } from "../../../src/topology/hash.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";
import {
  type Case,
  copyAll,
  expectPlaced,
  History,
  SCHEMA,
  STEP,
  type Step,
} from "./key-only-history.js";
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

const STEPS = 160;

async function playHistory(of: Case, steps: readonly Step[]): Promise<void> {
  const { sources, destinations, otherUnique } = of;
  const adjust = {
    adjust: (plan: LanesFixture["spec"]["tables"][number]) => ({ ...plan, otherUnique }),
  };
  const input = { sources, destinations, schema: SCHEMA, tables: { doc: "tenant" } };
  const fixture = await lanesFixture(server, { ...input, ...adjust });
  const context = fixture.context();
  await using sides = await openSides(context, fixture.ref);
  const history = new History(fixture, sides, of);
  const queue = [...steps];
  const playSome = async (count: number) => {
    for (const step of queue.splice(0, count)) if (step.kind === "change") await history.play(step);
  };
  if (of.stream === 0) await playSome(steps.length / 5);
  await createStream(context, { ref: fixture.ref, stream: of.stream });
  if (of.stream === 0) {
    await playSome((steps.length * 2) / 5);
    await copyAll(fixture, () => playSome(2));
  }
  await using running = startStream(fixture, of.stream);
  if (of.stream === 1)
    for (const shard of fixture.databases.destination.keys()) {
      const client = await sides.session("destination", shard, { purpose: "history" });
      await emitMarker(client, { migration: fixture.ref.id, kind: "start", token: "t" });
    }
  const stopped = running.ended.then((error) => {
    throw error;
  });
  stopped.catch(() => {});
  await Promise.race([
    stopped,
    (async () => {
      for (const step of queue) await history.play(step);
      await history.release();
      await settled(fixture, of.stream);
    })(),
  ]);
  await expectPlaced(fixture, of.stream);
  await running.stop();
  await dropStream(context, { ref: fixture.ref, stream: of.stream });
}

it.each<Case & { readonly what: string }>([
  {
    what: "one to three",
    sources: 1,
    destinations: 3,
    stream: 0,
    hasEqualIds: false,
    otherUnique: false,
  },
  {
    what: "one to two, in order",
    sources: 1,
    destinations: 2,
    stream: 0,
    hasEqualIds: false,
    otherUnique: true,
  },
  {
    what: "two to four, equal ids",
    sources: 2,
    destinations: 4,
    stream: 0,
    hasEqualIds: true,
    otherUnique: false,
  },
  {
    what: "two to three",
    sources: 2,
    destinations: 3,
    stream: 0,
    hasEqualIds: false,
    otherUnique: true,
  },
  {
    what: "back, three to one",
    sources: 1,
    destinations: 3,
    stream: 1,
    hasEqualIds: false,
    otherUnique: false,
  },
  {
    what: "back, three to two",
    sources: 2,
    destinations: 3,
    stream: 1,
    hasEqualIds: false,
    otherUnique: true,
  },
])(
  "R9: any history arrives, whatever the pace of the lanes: $what",
  { timeout: 120_000 },
  async (of) => {
    const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
    const steps = fc.sample(STEP, { seed, numRuns: STEPS });
    await playHistory(of, steps).catch((error: unknown) => {
      throw new Error(`seed ${seed}`, { cause: error });
    });
  },
);

const INPUT = { schema: SCHEMA, tables: { doc: "tenant" } };

/** Nothing was copied; the lanes of this stream run. */
async function streaming(
  input: { readonly sources?: number; readonly destinations?: number } = {},
): Promise<LanesFixture> {
  const fixture = await lanesFixture(server, { ...INPUT, ...input });
  await createStream(fixture.context(), { ref: fixture.ref, stream: 0 });
  await fixture.noteEmptyCopy();
  return fixture;
}

function tenantOn(shard: number, shardCount: number): number {
  for (let tenant = 1; ; tenant++)
    if (shardOfText(String(tenant), "bigint", shardCount) === shard) return tenant;
}

async function asideOf(fixture: LanesFixture, shard: number): Promise<number> {
  const rows = await fixture.sql(
    "destination",
    shard,
    "SELECT FROM sluice.aside WHERE settled_at IS NULL",
  );
  return rows.length;
}

async function over(fixture: LanesFixture, running: { stop(): Promise<unknown> }): Promise<void> {
  await running.stop();
  await dropStream(fixture.context(), { ref: fixture.ref, stream: 0 });
}

it.each(["stream.beforeSettleCommit", "stream.betweenSettleCommits", "stream.beforeMarkSettled"])(
  "R9: a settlement that dies at %s is done again, on every shard",
  async (step) => {
    const fixture = await streaming();
    const [one, other] = [tenantOn(0, 2), tenantOn(1, 2)];
    await fixture.sql(
      "source",
      0,
      `INSERT INTO doc SELECT i, CASE WHEN i <= 20 THEN ${one} ELSE ${other} END, 0, 'b'
       FROM generate_series(1, 40) i`,
    );
    // Its own settlements are far apart, or die, too.
    let isDying = true;
    const dies = async (name: string) => {
      if (name !== step || !isDying) return;
      await server.sql(
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sluice settle'",
      );
    };
    await using running = startStream(fixture, 0, { overrides: { announce: dies } });
    await drain(fixture, 0);
    // Either shard may commit first: the row that is left lies on the other one, which knows nothing.
    await fixture.sql(
      "source",
      0,
      `UPDATE doc SET tenant = ${one} + ${other} - tenant, v = 1 WHERE id % 20 BETWEEN 1 AND 10`,
    );
    for (const shard of [0, 1])
      await until(async () => (await asideOf(fixture, shard)) === 10, {
        timeoutMs: 10_000,
        what: "keys to be set aside",
      });
    const context = fixture.context({ announce: dies });
    {
      await using sides = await openSides(context, fixture.ref);
      await expect(settleAside(context, sides, { ref: fixture.ref, stream: 0 })).rejects.toThrow();
    }
    // Counted still, somewhere: no switch may begin.
    const status = await streamStatus(context, { ref: fixture.ref, stream: 0 });
    expect(status.asideKeys).toBeGreaterThan(0);
    // The lanes go on meanwhile, and what they do is not lost.
    await fixture.sql("source", 0, "UPDATE doc SET v = 2 WHERE id IN (1, 11, 21, 31)");
    await fixture.sql("source", 0, "DELETE FROM doc WHERE id IN (2, 12, 22, 32)");
    await fixture.sql("source", 0, `UPDATE doc SET tenant = ${tenantOn(0, 2)} WHERE id IN (3, 4)`);
    await drain(fixture, 0);
    isDying = false;
    await settled(fixture, 0);
    await expectPlaced(fixture, 0);
    await over(fixture, running);
  },
);

it("R1 R9: a row that came and moved before it was copied comes once", async () => {
  const fixture = await lanesFixture(server, INPUT);
  const context = fixture.context();
  await createStream(context, { ref: fixture.ref, stream: 0 });
  await fixture.sql("source", 0, `INSERT INTO doc VALUES (1, ${tenantOn(0, 2)}, 0, 'b')`);
  await fixture.sql("source", 0, `UPDATE doc SET tenant = ${tenantOn(1, 2)}`);
  await copyAll(fixture, async () => {});
  await using running = startStream(fixture, 0);
  await settled(fixture, 0);
  await expectPlaced(fixture, 0);
  await over(fixture, running);
});

it("R8 R9: a row that went from source to source between their ranges is there once", async () => {
  const fixture = await lanesFixture(server, { ...INPUT, sources: 2, destinations: 1 });
  const context = fixture.context();
  const row = (shard: number, id: number) =>
    `INSERT INTO doc VALUES (${id}, ${tenantOn(shard, 2)}, ${shard}, 'b')`;
  await fixture.sql("source", 0, row(0, 1));
  await createStream(context, { ref: fixture.ref, stream: 0 });
  let isMoved = false;
  await copyAll(fixture, async () => {
    if (isMoved) return;
    isMoved = true;
    await fixture.sql("source", 0, "DELETE FROM doc");
    await fixture.sql("source", 1, row(1, 1));
    await fixture.sql("source", 1, row(1, 2));
  });
  expect(await asideOf(fixture, 0)).toBe(1);
  await using running = startStream(fixture, 0);
  await settled(fixture, 0);
  await expectPlaced(fixture, 0);
  await over(fixture, running);
});

it("R9: a lane that is behind a settlement does not apply what the settled row has", async () => {
  const fixture = await streaming();
  const [here, there] = [tenantOn(0, 2), tenantOn(1, 2)];
  let goOn: () => void = () => {};
  const gate = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  let stand: () => void = () => {};
  const frozen = new Promise<void>((resolve) => {
    stand = resolve;
  });
  let isFreezing = false;
  // Between two batches, so that it holds no lock.
  const freeze = async (step: string) => {
    if (step !== "stream.afterCommit" || !isFreezing) return;
    isFreezing = false;
    stand();
    await gate;
  };
  await using running = startStream(fixture, 0, { overrides: { announce: freeze } });
  await fixture.sql("source", 0, `INSERT INTO doc VALUES (1, ${here}, 0, 'b')`);
  await drain(fixture, 0);
  await fixture.sql("source", 0, `UPDATE doc SET tenant = ${there} WHERE id = 1`);
  await drain(fixture, 0);
  let isDone = false;
  const meanwhile = async (step: string) => {
    if (step !== "stream.afterSettleMarker" || isDone) return;
    isDone = true;
    isFreezing = true;
    await fixture.sql("source", 0, `INSERT INTO doc VALUES (2, ${here}, 0, 'b')`);
    await frozen;
    // Comes to the lane that stands still; goes on to the other one, which does not know it.
    await fixture.sql("source", 0, `INSERT INTO doc VALUES (3, ${here}, 0, 'b')`);
    await fixture.sql("source", 0, `UPDATE doc SET tenant = ${there} WHERE id = 3`);
    const aside = "SELECT FROM sluice.aside WHERE key = '{3}'";
    await until(async () => (await fixture.sql("destination", 1, aside)).length === 1, {
      timeoutMs: 10_000,
      what: "the key to be set aside",
    });
  };
  const context = fixture.context({ announce: meanwhile });
  {
    await using sides = await openSides(context, fixture.ref);
    await settleAside(context, sides, { ref: fixture.ref, stream: 0 });
  }
  const [settledKey] = await fixture.sql(
    "destination",
    0,
    "SELECT snapshots IS NOT NULL AS yes FROM sluice.aside WHERE key = '{3}'",
  );
  expect(settledKey).toEqual({ yes: true });
  goOn();
  await drain(fixture, 0);
  expect(await fixture.sql("destination", 0, "SELECT id FROM doc")).toEqual([{ id: "2" }]);
  await settled(fixture, 0);
  await expectPlaced(fixture, 0);
  await over(fixture, running);
});

it("R9: settlements beside each other take turns", async () => {
  const fixture = await streaming();
  await using running = startStream(fixture, 0);
  await fixture.sql(
    "source",
    0,
    `INSERT INTO doc SELECT i, ${tenantOn(0, 2)}, 0, 'b' FROM generate_series(1, 20) i`,
  );
  await drain(fixture, 0);
  await fixture.sql("source", 0, `UPDATE doc SET tenant = ${tenantOn(1, 2)}`);
  await drain(fixture, 0);
  await Promise.all([1, 2, 3].map(async () => await settleNow(fixture, 0)));
  await settled(fixture, 0);
  await expectPlaced(fixture, 0);
  await over(fixture, running);
});

it("R9: two rows of one key that belong to one shard are named, by their columns, until one goes", async () => {
  const fixture = await streaming({ sources: 2, destinations: 1 });
  await using running = startStream(fixture, 0);
  for (const shard of [0, 1])
    await fixture.sql(
      "source",
      shard,
      `INSERT INTO doc VALUES (1234567, ${tenantOn(shard, 2)}, ${shard}, 'secret')`,
    );
  await drain(fixture, 0);
  const { conflicts } = await settleNow(fixture, 0);
  expect(conflicts.join()).toMatch(/a key \(id\) of public\.doc is on 2 shards/);
  const status = await streamStatus(fixture.context(), { ref: fixture.ref, stream: 0 });
  expect(status).toMatchObject({
    asideKeys: 1,
    asideConflicts: ["key (id) of public.doc: it is on 2 shards"],
  });
  expect(JSON.stringify([conflicts, status])).not.toMatch(/1234567|secret/);
  // The other source's row is none of its business.
  await fixture.sql("source", 0, "DELETE FROM doc");
  await settled(fixture, 0);
  await expectPlaced(fixture, 0);
  expect(await rowsOf(fixture, "destination", "doc")).toHaveLength(1);
  await fixture.sql("source", 1, "UPDATE doc SET v = 7");
  await settled(fixture, 0);
  await expectPlaced(fixture, 0);
  await over(fixture, running);
});

it("R9: a row on a source shard that is not its home stops the stream, as no delete would reach it", async () => {
  const fixture = await streaming({ sources: 2 });
  await using running = startStream(fixture, 0);
  await fixture.sql("source", 0, `INSERT INTO doc VALUES (1, ${tenantOn(1, 2)}, 0, 'b')`);
  expect(await running.ended).toMatchObject({
    code: "SLUICE_STREAM_UNSUPPORTED_CHANGE",
    message: expect.stringMatching(/a row of public\.doc on shard 0 routes to another shard/),
  });
  await over(fixture, running);
});

it("R9: a large value of a row that moves is the source's, and never lost", async () => {
  const fixture = await streaming({ destinations: 3 });
  await using running = startStream(fixture, 0);
  await fixture.sql(
    "source",
    0,
    `INSERT INTO doc SELECT i, i, 0, repeat('x' || i, 3000) FROM generate_series(1, 30) i`,
  );
  await drain(fixture, 0);
  await fixture.sql("source", 0, "UPDATE doc SET tenant = tenant + 1");
  await fixture.sql("source", 0, "UPDATE doc SET id = id + 1000, v = 1 WHERE id <= 15");
  await fixture.sql("source", 0, "UPDATE doc SET v = 2");
  await settled(fixture, 0);
  await expectPlaced(fixture, 0);
  for (const shard of [0, 1, 2])
    expect(await fixture.sql("destination", shard, "SELECT FROM doc WHERE body IS NULL")).toEqual(
      [],
    );
  await over(fixture, running);
});

it("R9: FULL beside a primary key without the sharding key routes by the old row, and sets nothing aside", async () => {
  const fixture = await lanesFixture(server, {
    ...INPUT,
    schema: `${SCHEMA}; ALTER TABLE doc REPLICA IDENTITY FULL`,
  });
  await createStream(fixture.context(), { ref: fixture.ref, stream: 0 });
  await fixture.noteEmptyCopy();
  await using running = startStream(fixture, 0);
  await fixture.sql(
    "source",
    0,
    `INSERT INTO doc SELECT i, i, 0, repeat('x' || i, 3000) FROM generate_series(1, 30) i`,
  );
  await fixture.sql("source", 0, "UPDATE doc SET tenant = tenant + 1 WHERE id <= 20");
  await fixture.sql("source", 0, "DELETE FROM doc WHERE id % 5 = 0");
  await drain(fixture, 0);
  for (const shard of [0, 1]) expect(await asideOf(fixture, shard)).toBe(0);
  await expectPlaced(fixture, 0);
  await over(fixture, running);
});
