import { afterAll, beforeAll, expect, test } from "vitest";
import { connectSql } from "../../../src/backend/sql-client.js";
import { dropStream } from "../../../src/resharding/stream/drop-stream-step.js";
import { advanceSequences } from "../../../src/resharding/switch/sequences.js";
import { shardOfText } from "../../../src/topology/hash.js";
import { EngineCycle, type RunningStream } from "../../support/engine-cycle.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import {
  ACCOUNTS,
  expectFinding,
  found,
  preflightFixture,
} from "../../support/preflight-fixture.js";

/** Ids of an application whose sequences are of every kind, drawn by clients that bypass the proxy. */

let server: PostgresServer;
let round = 0;

beforeAll(async () => {
  server = await startPostgres({ settings: { fsync: "off" } });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

interface Place {
  readonly cycle: EngineCycle;
  readonly source: string;
  readonly shards: readonly string[];
}

async function place(schema: string): Promise<Place> {
  round += 1;
  const source = `seq${round}_source`;
  const shards = [`seq${round}_0`, `seq${round}_1`];
  for (const database of [source, ...shards]) await server.createDatabase(database);
  await server.sql(source, `${schema}; CREATE PUBLICATION all_tables FOR TABLE t, lookup;`);
  const id = (0x5e0 + round).toString(16).padStart(12, "0");
  return { cycle: new EngineCycle({ server, source, shards, id }), source, shards };
}

async function ids(database: string, sequence: string, count: number): Promise<bigint[]> {
  const rows = await server.sql(
    database,
    `SELECT nextval('${sequence}')::text AS id FROM generate_series(1, ${count})`,
  );
  return rows.map((row) => BigInt(String(row.id)));
}

const SCHEMA = `
  CREATE ROLE seq_app;
  CREATE TABLE t (
    tenant_id bigint NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    n serial, small smallserial, note text, PRIMARY KEY (tenant_id, id));
  CREATE INDEX ON t (id);
  CREATE TABLE lookup (id serial PRIMARY KEY, name text);
  CREATE TABLE stays (id serial PRIMARY KEY);
  CREATE SEQUENCE early INCREMENT BY 50 START 501;
  CREATE SEQUENCE down INCREMENT BY -3 START -10;
  CREATE SEQUENCE round_trip MINVALUE 1 MAXVALUE 40 CYCLE;
  CREATE SEQUENCE cached CACHE 50;
  SELECT nextval('early'), nextval('down'), nextval('round_trip'), nextval('cached');
  INSERT INTO t (tenant_id, note) SELECT g % 20, 'x' FROM generate_series(1, 300) g;
  INSERT INTO t (tenant_id, id, n, note) OVERRIDING SYSTEM VALUE VALUES (1, 900001, 40000, 'by a client');
  INSERT INTO lookup (id, name) VALUES (2147483647, 'nobody'), (700, 'given'), (DEFAULT, 'a')`;

/** Everything between the copy and the switch; the streams that run then. */
async function switched(
  { cycle }: Place,
  serving: "source" | "destination",
  stream: number,
  running: RunningStream,
): Promise<RunningStream> {
  const { next, attempt } = await cycle.prepare(serving, stream);
  expect(await attempt()).toMatchObject({ outcome: "committed", reason: "" });
  await running.stop();
  await dropStream(cycle.context(), { ref: cycle.ref, stream });
  return next;
}

const SEQUENCES = ["t_ident", "t_n_seq", "t_small_seq", "lookup_id_seq"];
SEQUENCES.push("early", "down", "cached", "bill", "hib");

test("R35 R49: sequences of every kind, also made after the copy, never give an id twice; there and back", async () => {
  const here = await place(SCHEMA);
  const { cycle, source, shards } = here;
  await cycle.copy();
  const first = await cycle.catchUp();
  // R48: made, renamed and altered after the schema was copied.
  await server.sql(
    source,
    `CREATE SEQUENCE bill START 500; CREATE SEQUENCE hib INCREMENT BY 50 START 501; SELECT nextval('hib');
     GRANT USAGE ON SEQUENCE bill TO seq_app;
     ALTER SEQUENCE t_id_seq RENAME TO t_ident;
     ALTER SEQUENCE cached INCREMENT BY 2`,
  );
  const before = new Map<string, bigint>();
  const widths = new Map<string, bigint>();
  for (const row of await server.sql(
    source,
    `SELECT sequencename AS name, coalesce(last_value, start_value)::text AS last, increment_by::text AS width
       FROM pg_sequences WHERE schemaname = 'public'`,
  )) {
    before.set(String(row.name), BigInt(String(row.last)));
    widths.set(String(row.name), BigInt(String(row.width)));
  }
  const there = await switched(here, "destination", 0, first);

  const taken = new Map<string, bigint[]>();
  for (const name of SEQUENCES) {
    const drawn = await Promise.all(shards.map((shard) => ids(shard, name, 60)));
    taken.set(name, drawn.flat());
    const width = widths.get(name) ?? 0n;
    const old = before.get(name) ?? 0n;
    for (const id of drawn.flat())
      expect((id - old) * (width < 0n ? -1n : 1n), name).toBeGreaterThan(0n);
    // A block is as wide as the old increment: no two ids of two shards are nearer.
    const size = width < 0n ? -width : width;
    const blocks = drawn.flatMap((list, shard) => list.map((id) => ({ id, shard })));
    const sorted = blocks.toSorted((a, b) => (a.id < b.id ? -1 : 1));
    const meeting = sorted.filter((one, index) => {
      const next = sorted[index + 1];
      return next !== undefined && next.shard !== one.shard && next.id - one.id < size;
    });
    expect(meeting, name).toEqual([]);
  }
  // A cycle comes back at other ids on each shard.
  const cycled = await Promise.all(shards.map((shard) => ids(shard, "round_trip", 90)));
  expect(new Set(cycled[0]).size).toBe(20);
  expect(new Set(cycled.flat()).size).toBe(40);
  // Ids that clients gave count, but one that would end the sequence.
  expect(taken.get("t_ident")?.every((id) => id > 900_001n)).toBe(true);
  expect(taken.get("t_n_seq")?.every((id) => id > 40_000n)).toBe(true);
  expect(taken.get("lookup_id_seq")?.every((id) => id > 700n && id < 1_000_000n)).toBe(true);
  // The identity column draws from the renamed one; rights came along.
  const inserted = await server.sql(
    shards[shardOfText("7", "bigint", 2)] ?? "",
    "INSERT INTO t (tenant_id, note) VALUES (7, 'new') RETURNING id::int",
  );
  expect(Number(inserted[0]?.id)).toBeGreaterThan(900_001);
  for (const shard of shards)
    expect(
      await server.sql(shard, "SELECT has_sequence_privilege('seq_app', 'bill', 'USAGE') AS may"),
    ).toEqual([{ may: true }]);

  const back = await switched(here, "source", 1, there);
  for (const row of await server.sql(
    source,
    "SELECT sequencename AS name, increment_by::text AS width FROM pg_sequences WHERE schemaname = 'public'",
  ))
    expect(BigInt(String(row.width)), String(row.name)).toBe(widths.get(String(row.name)));
  for (const name of SEQUENCES) {
    const width = widths.get(name) ?? 0n;
    const [next = 0n] = await ids(source, name, 1);
    for (const id of taken.get(name) ?? [])
      if (width > 0n) expect(next - id, name).toBeGreaterThanOrEqual(width);
      else expect(next - id, name).toBeLessThanOrEqual(width);
  }
  await back.stop();
}, 120_000);

test("R27: a run that wakes on a side that serves sets nothing", async () => {
  const here = await place(SCHEMA.replace("CREATE ROLE seq_app;", ""));
  const { cycle, shards } = here;
  await cycle.copy();
  const there = await switched(here, "destination", 0, await cycle.catchUp());
  const [shard = ""] = shards;
  // A client sets its sequence back: our affair no more.
  await server.sql(shard, "SELECT setval('early', 1001)");
  await expect(
    advanceSequences(cycle.context(), { ref: cycle.ref, serving: "destination" }),
  ).rejects.toMatchObject({ code: "SLUICE_SEQUENCES_UNSET" });
  expect(await server.sql(shard, "SELECT last_value::int AS last FROM early")).toEqual([
    { last: 1001 },
  ]);
  await there.stop();
}, 120_000);

test("R49: a session that keeps ids in advance gives none twice", async () => {
  const here = await place(SCHEMA.replace("CREATE ROLE seq_app;", ""));
  const { cycle, source, shards } = here;
  await cycle.copy();
  const first = await cycle.catchUp();
  await using client = await connectSql(server.address(source), { applicationName: "app" });
  const kept = await client.query<{ id: string }>("SELECT nextval('public.cached')::text AS id");
  const there = await switched(here, "destination", 0, first);
  const drawn = await Promise.all(shards.map((shard) => ids(shard, "cached", 120)));
  // Its fifty ids are below all others', whether it has used them or not.
  expect(drawn.flat().every((id) => id > BigInt(kept.rows[0]?.id ?? 0) + 50n)).toBe(true);
  expect(new Set(drawn.flat()).size).toBe(240);
  await there.stop();
}, 120_000);

test("R48: a sequence that feeds a table of the new side only stops the switch, and is named", async () => {
  const here = await place(SCHEMA.replace("CREATE ROLE seq_app;", ""));
  const { cycle, shards } = here;
  await cycle.copy();
  const first = await cycle.catchUp();
  const [shard = ""] = shards;
  await server.sql(
    shard,
    "CREATE SEQUENCE other; ALTER TABLE t ALTER COLUMN n SET DEFAULT nextval('other')",
  );
  await expect(
    advanceSequences(cycle.context(), { ref: cycle.ref, serving: "destination" }),
  ).rejects.toThrow("public.other of shard 0");
  await first.stop();
}, 120_000);

test("R49: the plan names what stays with its table, and what is near its end; a sequence alone is no news", async () => {
  const fixture = await preflightFixture(server, {
    source: `${ACCOUNTS}; CREATE TABLE outside (id serial PRIMARY KEY);
      ALTER TABLE accounts ADD n smallserial; CREATE SEQUENCE alone; CREATE SEQUENCE tiny MAXVALUE 9;
      SELECT setval('accounts_n_seq', 32000)`,
    publication: "CREATE PUBLICATION moving FOR TABLE accounts",
  });
  const result = await fixture.run();
  expect(found(result, "sequences")).toHaveLength(2);
  expectFinding(result, "sequences", {
    severity: "warning",
    evidence: /left behind .* public\.outside_id_seq$/,
  });
  expectFinding(result, "sequences", {
    severity: "warning",
    scope: /accounts_n_seq/,
    evidence: /767 values left/,
    remedy: /AS bigint/,
  });
});
