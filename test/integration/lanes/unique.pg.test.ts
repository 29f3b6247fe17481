import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readEvidence } from "../../../src/resharding/control/evidence.js";
import { connectEngine } from "../../../src/resharding/control/sides.js";
import { createStream } from "../../../src/resharding/stream/create-stream-step.js";
import { emitMarker } from "../../../src/resharding/stream/lane-watch.js";
import { streamStatus } from "../../../src/resharding/stream/stream-status.js";
import { shardOfText } from "../../../src/topology/hash.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";
import {
  drain,
  type LanesFixture,
  lanesFixture,
  type RunningStream,
  rowsOf,
  settled,
  settleNow,
  startStream,
} from "./lanes-fixture.js";

/** Constraints that one server keeps, and several shards keep each for itself. */

let server: PostgresServer;

beforeAll(async () => {
  server = await startPostgres({ settings: { fsync: "off" } });
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

function tenantOf(shard: number): number {
  for (let tenant = 1; ; tenant++)
    if (shardOfText(String(tenant), "bigint", 2) === shard) return tenant;
}

/** A table `t (id, tenant, ...)` on the way back, its lanes running. */
async function wayBack(
  columns: string,
  after = "",
): Promise<{ readonly fixture: LanesFixture; readonly running: RunningStream }> {
  const fixture = await lanesFixture(server, {
    schema: `CREATE TABLE t (id bigint PRIMARY KEY, tenant bigint NOT NULL, ${columns}); ${after}`,
    tables: { t: "tenant" },
    adjust: (plan) => ({ ...plan, otherUnique: true }),
  });
  const context = fixture.context();
  await createStream(context, { ref: fixture.ref, stream: 1 });
  const running = startStream(fixture, 1);
  for (const address of context.cluster("prod_sharded").shards) {
    await using client = await connectEngine(context, address, "test");
    await emitMarker(client, { migration: fixture.ref.id, kind: "start", token: "t" });
  }
  return { fixture, running };
}

async function expectSame(fixture: LanesFixture): Promise<void> {
  await settled(fixture, 1);
  expect(await rowsOf(fixture, "source", "t")).toEqual(await rowsOf(fixture, "destination", "t"));
}

describe.each(["DEFERRABLE INITIALLY DEFERRED", "DEFERRABLE INITIALLY IMMEDIATE"])(
  "UNIQUE (tenant, pos) %s",
  (deferrable) => {
    it("R33: rows that change places go the way back", async () => {
      const { fixture, running } = await wayBack(`pos int, UNIQUE (tenant, pos) ${deferrable}`);
      await using _ = running;
      for (const shard of [0, 1]) {
        const tenant = tenantOf(shard);
        await fixture.sql(
          "destination",
          shard,
          `INSERT INTO t SELECT g * 2 + ${shard}, ${tenant}, g FROM generate_series(1, 20) g`,
        );
        await fixture.sql("destination", shard, "UPDATE t SET pos = pos + 1");
        await fixture.sql("destination", shard, "UPDATE t SET pos = 43 - pos");
        await fixture.sql(
          "destination",
          shard,
          `BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO t VALUES (${100 + shard}, ${tenant}, 30);
           DELETE FROM t WHERE pos = 30 AND id < 100; COMMIT`,
        );
      }
      await expectSame(fixture);
      const status = await streamStatus(fixture.context(), { ref: fixture.ref, stream: 1 });
      expect(status.blocker).toBeNull();
    });
  },
);

it("R9: a table with a deferrable constraint goes there too, when its key does not name the shard", async () => {
  const fixture = await lanesFixture(server, {
    schema: `CREATE TABLE t (id bigint PRIMARY KEY, tenant bigint NOT NULL, pos int UNIQUE DEFERRABLE,
      code text UNIQUE)`,
    tables: { t: "tenant" },
    adjust: (plan) => ({ ...plan, otherUnique: true }),
  });
  await fixture.sql("source", 0, "CREATE PUBLICATION all_tables FOR TABLE t");
  await createStream(fixture.context(), { ref: fixture.ref, stream: 0 });
  await fixture.noteEmptyCopy();
  await using _ = startStream(fixture, 0);
  const [a, b] = [tenantOf(0), tenantOf(1)];
  await fixture.sql(
    "source",
    0,
    `INSERT INTO t SELECT g, CASE g % 2 WHEN 0 THEN ${a} ELSE ${b} END, g, 'c' || g FROM generate_series(1, 30) g;
     UPDATE t SET pos = pos + 1;
     UPDATE t SET tenant = ${a} + ${b} - tenant WHERE id % 3 = 0;
     UPDATE t SET code = NULL WHERE id = 4; UPDATE t SET code = 'c4' WHERE id = 6;
     UPDATE t SET pos = 32 - pos`,
  );
  await settled(fixture, 0);
  expect(await rowsOf(fixture, "destination", "t")).toEqual(await rowsOf(fixture, "source", "t"));
});

const RULES = {
  "a unique constraint": ["v text UNIQUE", "", "unique (v)"],
  "a deferrable one": ["v text UNIQUE DEFERRABLE INITIALLY DEFERRED", "", "unique (v)"],
  "one beside a deferrable one": [
    "v text UNIQUE, w int, UNIQUE (tenant, w) DEFERRABLE",
    "",
    "unique (v)",
  ],
  "a unique expression": ["v text", "CREATE UNIQUE INDEX ON t (lower(v))", "unique (lower(v))"],
  "a partial one": ["v text", "CREATE UNIQUE INDEX ON t (v) WHERE v <> ''", "unique (v)"],
  "a generated column": [
    "v text, g text GENERATED ALWAYS AS (upper(v)) STORED UNIQUE",
    "",
    "unique (g)",
  ],
  "an exclusion constraint": ["v text, EXCLUDE (v WITH =)", "", "exclusion (v)"],
  "a deferrable exclusion constraint": [
    "v text, EXCLUDE ((v || 'x') WITH =) DEFERRABLE",
    "",
    "exclusion ((v || 'x'::text))",
  ],
} as const;

describe("R33: a value that two shards have", () => {
  it.each(Object.entries(RULES))(
    "%s: named, and settled when one of them goes",
    async (_, rule) => {
      const [columns, after, description] = rule;
      const { fixture, running } = await wayBack(columns, after);
      await using __ = running;
      const look = { ref: fixture.ref, stream: 1 };
      const context = fixture.context();
      const [a, b] = [tenantOf(0), tenantOf(1)];
      await fixture.sql(
        "destination",
        0,
        `INSERT INTO t (id, tenant, v) VALUES (1, ${a}, 'planted')`,
      );
      await drain(fixture, 1);
      await fixture.sql(
        "destination",
        1,
        `INSERT INTO t (id, tenant, v) VALUES (2, ${b}, 'planted'), (3, ${b}, 'x')`,
      );
      await until(
        async () => {
          await settleNow(fixture, 1);
          return ((await streamStatus(context, look)).asideConflicts ?? []).length > 0;
        },
        { timeoutMs: 15_000, what: "the conflict" },
      );
      const status = await streamStatus(context, look);
      expect(status.asideConflicts).toEqual([
        `key (id) of public.t: another row has its value of ${description}`,
      ]);
      expect(status.asideKeys).toBe(1);
      expect(JSON.stringify([status, await settleNow(fixture, 1)])).not.toContain("planted");
      // One of the two is there, whichever came first; the rest is not held up.
      expect(await fixture.sql("source", 0, "SELECT id::int FROM t ORDER BY id")).toEqual([
        { id: 1 },
        { id: 3 },
      ]);
      const servers = (["source", "destination"] as const).flatMap(
        (side) => context.cluster(fixture.ref[side]).shards,
      );
      const { rows } = await readEvidence(servers, null);
      expect(
        rows.filter((row) => row.migration === fixture.ref.id).map((row) => row.evidence),
      ).toEqual(["id = 2; in its way: id = 1"]);
      await fixture.sql("destination", 0, "UPDATE t SET v = 'another' WHERE id = 1");
      await expectSame(fixture);
      expect((await streamStatus(context, look)).asideConflicts).toBeUndefined();
    },
  );

  it("a value that goes from one shard's row to another's is settled, whichever lane is first", async () => {
    const { fixture, running } = await wayBack("v text UNIQUE DEFERRABLE");
    await running.stop();
    const [a, b] = [tenantOf(0), tenantOf(1)];
    await fixture.sql("destination", 0, `INSERT INTO t VALUES (1, ${a}, 'v')`);
    await using first = startStream(fixture, 1);
    await drain(fixture, 1);
    await first.stop();
    await using second = startStream(fixture, 1, { fromShards: [1] });
    await fixture.sql("destination", 0, "DELETE FROM t WHERE id = 1");
    await fixture.sql("destination", 1, `INSERT INTO t VALUES (2, ${b}, 'v')`);
    await until(
      async () => (await fixture.sql("source", 0, "SELECT FROM sluice.aside")).length === 1,
      { timeoutMs: 10_000, what: "the key to be set aside" },
    );
    await using third = startStream(fixture, 1, { fromShards: [0] });
    await expectSame(fixture);
    void [second, third];
  });
});
