import { afterAll, beforeAll, expect, test } from "vitest";
import {
  IdentityDiffers,
  IdentityLockTimedOut,
} from "../../../src/resharding/control/replica-identity.js";
import { connectEngine } from "../../../src/resharding/control/sides.js";
import { abortMigration } from "../../../src/resharding/ends/abort-step.js";
import { finalizeMigration } from "../../../src/resharding/ends/finalize-step.js";
import { syncSchema } from "../../../src/resharding/schema/sync-schema-step.js";
import { createStream } from "../../../src/resharding/stream/create-stream-step.js";
import { installGates } from "../../../src/resharding/switch/install-gates-step.js";
import { EngineCycle } from "../../support/engine-cycle.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";

/** R9, R58: tables without an identity have one from us while they are published, and afterwards what they had. */

let server: PostgresServer;
let round = 0;

beforeAll(async () => {
  server = await startPostgres({ settings: { fsync: "off" } });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const SCHEMA = `
  CREATE TABLE acct (tenant_id bigint, id bigint, PRIMARY KEY (tenant_id, id));
  CREATE TABLE bare (tenant_id bigint NOT NULL, note text);
  CREATE TABLE pair (tenant_id bigint NOT NULL, other bigint NOT NULL, note text);
  CREATE UNIQUE INDEX "pair's %key" ON pair (tenant_id, other);
  CREATE TABLE quiet (tenant_id bigint PRIMARY KEY, note text);
  ALTER TABLE quiet REPLICA IDENTITY NOTHING;
  INSERT INTO acct SELECT g % 20, g FROM generate_series(1, 100) g;
  INSERT INTO bare SELECT g % 20, 'n' || g FROM generate_series(1, 100) g;
  INSERT INTO pair SELECT g % 20, g FROM generate_series(1, 100) g;
  INSERT INTO quiet SELECT g FROM generate_series(1, 100) g;`;

/** As pg_class and pg_index have it: the letter, and the index of "i". */
const AS_IT_WAS = { acct: "d", bare: "d", pair: "d", quiet: "n" };
const OURS = { acct: "d", bare: "f", pair: "i pair's %key", quiet: "i quiet_pkey" };

async function newCycle(more = "CREATE PUBLICATION all_tables FOR TABLE acct, bare, pair, quiet") {
  round += 1;
  const source = `identity${round}_source`;
  const shards = [`identity${round}_0`, `identity${round}_1`];
  for (const database of [source, ...shards]) await server.createDatabase(database);
  await server.sql(source, `${SCHEMA} ${more}`);
  const id = round.toString(16).padStart(12, "0");
  return { cycle: new EngineCycle({ server, source, shards, id }), source, shards };
}

async function identities(database: string): Promise<Readonly<Record<string, string>>> {
  const rows = await server.sql(
    database,
    `SELECT c.relname AS name, concat_ws(' ', c.relreplident::text, ic.relname) AS identity FROM pg_class c
       LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisreplident AND c.relreplident = 'i'
       LEFT JOIN pg_class ic ON ic.oid = i.indexrelid
      WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace`,
  );
  return Object.fromEntries(rows.map((row) => [String(row.name), String(row.identity)]));
}

const notes = async (database: string) =>
  await server.sql(database, "SELECT table_name FROM sluice.replica_identity");

test("set before the publication names them, on both sides; a switch, and finalize puts back", async () => {
  const { cycle, source, shards } = await newCycle();
  const broken = server.sql(source, "UPDATE bare SET note = 'x'");
  await expect(broken, "publication all_tables makes it fail").rejects.toThrow(/replica identity/);
  await cycle.copy();
  expect(await identities(source)).toEqual(OURS);
  for (const shard of shards) expect(await identities(shard)).toEqual(OURS);
  const first = await cycle.catchUp();
  for (const table of ["bare", "pair", "quiet"])
    await server.sql(source, `UPDATE ${table} SET note = 'changed' WHERE tenant_id < 10`);
  const { next, attempt } = await cycle.prepare("destination", 0);
  expect(await attempt()).toMatchObject({ outcome: "committed" });
  await first.stop();
  // The way back reads the shards: their tables are published now.
  for (const shard of shards) {
    for (const table of ["bare", "pair", "quiet"])
      await server.sql(shard, `UPDATE ${table} SET note = 'again'`);
    await server.sql(shard, "DELETE FROM bare WHERE tenant_id = 3");
  }
  const count = "SELECT count(*)::int AS n FROM bare WHERE note = 'again'";
  await until(async () => (await server.sql(source, count))[0]?.n === 95, {
    timeoutMs: 20_000,
    what: "the way back to bring the changes",
  });
  await next.stop();
  await finalizeMigration(cycle.context(), cycle.ref);
  for (const database of [source, ...shards]) {
    expect(await identities(database)).toEqual(AS_IT_WAS);
    expect(await notes(database)).toEqual([]);
  }
  // Nothing is left that would need one.
  for (const shard of shards) await server.sql(shard, "UPDATE bare SET note = 'alone'");
}, 120_000);

test("abort puts back what was there, but for what somebody else altered; renamed and dropped tables do not matter", async () => {
  const { cycle, source, shards } = await newCycle();
  await cycle.copy();
  await server.sql(
    source,
    `ALTER TABLE bare REPLICA IDENTITY NOTHING;
     ALTER TABLE pair RENAME TO couple; ALTER INDEX "pair's %key" RENAME TO couple_key;`,
  );
  await server.sql(shards[0] ?? "", "DROP TABLE pair");
  await server.sql(shards[1] ?? "", `DROP INDEX "pair's %key"`);
  await abortMigration(cycle.context(), cycle.ref);
  expect(await identities(source)).toEqual({
    acct: "d",
    bare: "n",
    couple: "i couple_key",
    quiet: "n",
  });
  const { pair: _, ...others } = AS_IT_WAS;
  expect(await identities(shards[0] ?? "")).toEqual(others);
  expect(await identities(shards[1] ?? "")).toEqual(AS_IT_WAS);
  await abortMigration(cycle.context(), cycle.ref);
}, 60_000);

test("died after the notes: nothing was altered; it goes on, or is given up", async () => {
  const { cycle, source } = await newCycle();
  const dies = async (step: string) => {
    if (step === "begin.afterNotes") throw new Error("killed");
  };
  await expect(cycle.begin({ announce: dies })).rejects.toThrow("killed");
  expect(await identities(source)).toEqual(AS_IT_WAS);
  expect(await notes(source)).toHaveLength(3);
  await cycle.begin();
  expect(await identities(source)).toEqual(OURS);
  await cycle.begin();
  await abortMigration(cycle.context(), cycle.ref);
  expect(await identities(source)).toEqual(AS_IT_WAS);
}, 60_000);

test("given up when the schema has come, and nothing else: it brought what is put back", async () => {
  const { cycle, shards } = await newCycle();
  await cycle.begin();
  await syncSchema(cycle.context(), { ref: cycle.ref, phase: "pre" });
  for (const shard of shards) expect(await identities(shard)).toEqual(OURS);
  await abortMigration(cycle.context(), cycle.ref);
  for (const shard of shards) expect(await identities(shard)).toEqual(AS_IT_WAS);
}, 60_000);

test("what somebody alters between the note and its turn is theirs", async () => {
  const { cycle, source } = await newCycle();
  const alters = async (step: string) => {
    if (step === "begin.afterNotes")
      await server.sql(source, "ALTER TABLE pair REPLICA IDENTITY FULL");
  };
  await expect(cycle.begin({ announce: alters })).rejects.toThrow(IdentityDiffers);
  await abortMigration(cycle.context(), cycle.ref);
  expect(await identities(source)).toEqual({ ...AS_IT_WAS, pair: "f" });
}, 60_000);

test("R46: frozen between two tables, and awake after the abort: it alters nothing, and notes nothing", async () => {
  const { cycle, source } = await newCycle();
  let thaw = () => {};
  const frozen = new Promise<void>((resolve) => {
    thaw = resolve;
  });
  let tables = 0;
  const freezes = async (step: string) => {
    if (step !== "identity.afterTable") return;
    tables += 1;
    if (tables === 1) await frozen;
  };
  const begun = cycle.begin({ announce: freezes });
  const ended = expect(begun).rejects.toThrow(IdentityDiffers);
  await until(() => tables === 1, { timeoutMs: 20_000, what: "the first table" });
  expect(await identities(source)).toEqual({ ...AS_IT_WAS, bare: "f" });
  await abortMigration(cycle.context(), cycle.ref);
  thaw();
  await ended;
  expect(await identities(source)).toEqual(AS_IT_WAS);
  expect(await notes(source)).toEqual([]);
  await cycle.begin().catch(() => {});
  expect(await identities(source)).toEqual(AS_IT_WAS);
}, 60_000);

test("R26: a table that somebody holds is named, writers queue for half a second, and the next attempt does it", async () => {
  const { cycle, source } = await newCycle();
  await using holder = await connectEngine(cycle.context(), server.address(source), "test holder");
  await holder.query("BEGIN");
  await holder.query("INSERT INTO public.bare VALUES (1, 'held')");
  const begun = cycle.begin();
  const refused = expect(begun).rejects.toThrow(IdentityLockTimedOut);
  const waits = `SELECT FROM pg_locks WHERE relation = 'bare'::regclass AND NOT granted`;
  await until(async () => (await server.sql(source, waits)).length > 0, {
    timeoutMs: 20_000,
    what: "the lock to be waited for",
  });
  const startedAtMs = performance.now();
  await server.sql(source, "INSERT INTO bare VALUES (2, 'beside')");
  expect(performance.now() - startedAtMs).toBeLessThan(3_000);
  await refused;
  await expect(begun).rejects.toThrow(/"public"\."bare"/);
  await holder.query("COMMIT");
  await cycle.begin();
  expect(await identities(source)).toEqual(OURS);
}, 60_000);

test("a publication of ours never names a table that has another identity than planned", async () => {
  const { cycle, source } = await newCycle();
  await cycle.begin();
  await server.sql(source, "ALTER TABLE quiet REPLICA IDENTITY NOTHING");
  await syncSchema(cycle.context(), { ref: cycle.ref, phase: "pre" });
  await installGates(cycle.context(), cycle.ref);
  const made = createStream(cycle.context(), { ref: cycle.ref, stream: 0 });
  await expect(made).rejects.toThrow(
    /"quiet" REPLICA IDENTITY USING a unique INDEX on \(tenant_id\)/,
  );
  const ours = "SELECT FROM pg_publication WHERE starts_with(pubname, 'sluice_')";
  expect(await server.sql(source, ours)).toEqual([]);
}, 60_000);

test("a table that was at the destination before has its own identity again", async () => {
  const { cycle, source, shards } = await newCycle();
  await server.sql(
    shards[0] ?? "",
    `CREATE TABLE acct (tenant_id bigint, id bigint, PRIMARY KEY (tenant_id, id));
     ALTER TABLE acct REPLICA IDENTITY FULL;
     CREATE TABLE bare (tenant_id bigint NOT NULL, note text);
     ALTER TABLE bare REPLICA IDENTITY NOTHING;`,
  );
  await cycle.copy();
  expect(await identities(source)).toEqual(OURS);
  for (const shard of shards) expect(await identities(shard)).toEqual(OURS);
  await abortMigration(cycle.context(), cycle.ref);
  expect(await identities(shards[0] ?? "")).toEqual({ ...AS_IT_WAS, acct: "f", bare: "n" });
  expect(await identities(shards[1] ?? "")).toEqual(AS_IT_WAS);
}, 60_000);

test("the policy refuses: nothing is noted and nothing altered", async () => {
  const { cycle, source } = await newCycle();
  const { policy } = cycle.context();
  const begun = cycle.begin({ policy: { ...policy, replicaIdentity: "refuse" } });
  await expect(begun).rejects.toThrow(/ALTER TABLE "public"."bare" REPLICA IDENTITY FULL/);
  expect(await identities(source)).toEqual(AS_IT_WAS);
});

test("partitions: each has its own, and the root none", async () => {
  const { cycle, source, shards } = await newCycle(
    `CREATE TABLE log (tenant_id bigint NOT NULL, day int) PARTITION BY LIST (day);
     CREATE TABLE log_1 PARTITION OF log FOR VALUES IN (1);
     CREATE TABLE log_2 PARTITION OF log FOR VALUES IN (2);
     CREATE UNIQUE INDEX log_1_key ON log_1 (tenant_id);
     ALTER TABLE log_1 REPLICA IDENTITY USING INDEX log_1_key;
     INSERT INTO log VALUES (1, 1), (1, 2), (1, 2);
     CREATE PUBLICATION all_tables FOR ALL TABLES`,
  );
  await cycle.copy();
  await server.sql(source, "UPDATE log SET tenant_id = tenant_id");
  const ours = { log_1: "i log_1_key", log_2: "f" };
  expect(await identities(source)).toMatchObject(ours);
  for (const shard of shards) expect(await identities(shard)).toMatchObject(ours);
  await abortMigration(cycle.context(), cycle.ref);
  expect(await identities(source)).toMatchObject({ ...ours, log_2: "d" });
  for (const shard of shards)
    expect(await identities(shard)).toMatchObject({ ...ours, log_2: "d" });
}, 60_000);
