import { afterAll, beforeAll, expect, test } from "vitest";
import { abortMigration } from "../../../src/resharding/ends/abort-step.js";
import { finalizeMigration } from "../../../src/resharding/ends/finalize-step.js";
import { syncSchema } from "../../../src/resharding/schema/sync-schema-step.js";
import { installGates } from "../../../src/resharding/switch/install-gates-step.js";
import { shardOfText } from "../../../src/topology/hash.js";
import { EngineCycle } from "../../support/engine-cycle.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";

/** R53: PostgreSQL itself refuses a row on the wrong shard. R58: who did not get a guard from us has none. */

let server: PostgresServer;
let round = 0;

beforeAll(async () => {
  server = await startPostgres({ settings: { fsync: "off" } });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const SCHEMA = `
  CREATE TABLE acct (tenant_id int NOT NULL, id bigint PRIMARY KEY, note text);
  CREATE TABLE log (tenant_id bigint, at date, id bigint, PRIMARY KEY (tenant_id, at, id)) PARTITION BY RANGE (at);
  CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
  CREATE TABLE plan (id int PRIMARY KEY);
  INSERT INTO acct SELECT g % 50, g, 'n' FROM generate_series(1, 500) g;
  INSERT INTO log SELECT g % 50, '2026-05-05', g FROM generate_series(1, 500) g;
  INSERT INTO plan SELECT g FROM generate_series(1, 10) g;
  CREATE PUBLICATION all_tables FOR ALL TABLES;`;

async function newCycle(shardCount: number, more = "") {
  round += 1;
  const source = `placed${round}_source`;
  const shards = Array.from({ length: shardCount }, (_, shard) => `placed${round}_${shard}`);
  for (const database of [source, ...shards]) await server.createDatabase(database);
  await server.sql(source, SCHEMA + more);
  const id = round.toString(16).padStart(12, "0");
  return { cycle: new EngineCycle({ server, source, shards, id }), source, shards };
}

/** Tables with a guard, and whether it was validated. */
async function guarded(database: string): Promise<readonly unknown[]> {
  return await server.sql(
    database,
    `SELECT conrelid::regclass::text AS name, convalidated AS valid FROM pg_constraint
      WHERE conname = 'sluice_placement' ORDER BY 1`,
  );
}

const ALL = ["acct", "log", "log_1"].map((name) => ({ name, valid: true }));

const keysOf = (shard: number, count: number) =>
  Array.from({ length: 50 }, (_, key) => key).filter(
    (key) => shardOfText(String(key), "bigint", count) === shard,
  );

test("every sharded table has one before the copy; wrong rows are refused; it stays with the side that serves", async () => {
  const { cycle, source, shards } = await newCycle(3);
  await cycle.copy();
  for (const shard of shards) expect(await guarded(shard)).toEqual(ALL);
  expect(await guarded(source)).toEqual([]);
  const first = await cycle.catchUp();
  // Keys that move, and rows that are set aside.
  await server.sql(source, "UPDATE acct SET tenant_id = (tenant_id + 7) % 50 WHERE id % 3 = 0");
  const { next, attempt } = await cycle.prepare("destination", 0);
  expect(await attempt()).toMatchObject({ outcome: "committed" });
  await first.stop();
  for (const [shard, database] of shards.entries()) {
    const [own] = keysOf(shard, 3);
    const [other] = keysOf((shard + 1) % 3, 3);
    await server.sql(database, `INSERT INTO acct VALUES (${own}, ${1_000 + shard})`);
    await server.sql(database, `INSERT INTO log VALUES (${own}, '2026-06-06', ${1_000 + shard})`);
    for (const wrong of [
      `INSERT INTO acct VALUES (${other}, 2000)`,
      `UPDATE acct SET tenant_id = ${other} WHERE id = ${1_000 + shard}`,
      `INSERT INTO log VALUES (${other}, '2026-06-06', 2000)`,
      `INSERT INTO log_1 VALUES (${other}, '2026-06-06', 2000)`,
    ])
      await expect(server.sql(database, wrong)).rejects.toMatchObject({
        code: "23514",
        constraint: "sluice_placement",
      });
  }
  const count = "SELECT count(*)::int AS n FROM acct WHERE id >= 1000";
  await until(async () => (await server.sql(source, count))[0]?.n === 3, {
    timeoutMs: 20_000,
    what: "the way back to bring the rows",
  });
  await next.stop();
  await finalizeMigration(cycle.context(), cycle.ref);
  for (const shard of shards) {
    expect(await guarded(shard)).toEqual(ALL);
    expect(await server.sql(shard, "SELECT FROM sluice.placement_guard")).toEqual([]);
  }
  expect(await guarded(source)).toEqual([]);
}, 120_000);

/** As of a shard of an earlier migration, in both forms in which pg_dump has them. */
const SOURCE_GUARDS = `
  ALTER TABLE acct ADD CONSTRAINT sluice_placement CHECK ((hashint8extended(tenant_id, 1) <> 0) IS TRUE);
  ALTER TABLE log ADD CONSTRAINT sluice_placement CHECK ((tenant_id >= 0) IS TRUE) NOT VALID;`;

test("a guarded source: the other side gets its own, and guards are no change of a definition", async () => {
  const { cycle, source, shards } = await newCycle(2, SOURCE_GUARDS);
  await cycle.copy();
  const conditions = `SELECT string_agg(pg_get_constraintdef(oid), '; ' ORDER BY conrelid::regclass::text) AS all
    FROM pg_constraint WHERE conname = 'sluice_placement'`;
  for (const shard of shards) {
    expect(await guarded(shard)).toEqual(ALL);
    const [row] = await server.sql(shard, conditions);
    expect(row?.all).not.toContain(">= 0");
    expect(row?.all).not.toContain("<> 0");
  }
  const running = await cycle.catchUp();
  await server.sql(source, "ALTER TABLE acct DROP CONSTRAINT sluice_placement");
  const { next, attempt } = await cycle.prepare("destination", 0);
  expect(await attempt()).toMatchObject({ outcome: "committed" });
  await running.stop();
  await next.stop();
}, 120_000);

test("abort puts back what was there: nothing, or the guard of a dump restored by hand", async () => {
  const { cycle, shards } = await newCycle(2);
  const byHand = SCHEMA.replaceAll(/INSERT[^;]*;|CREATE PUBLICATION[^;]*;/g, "");
  const theirs = `ALTER TABLE acct ADD CONSTRAINT sluice_placement CHECK (id > 0);
    ALTER TABLE log_1 ADD CONSTRAINT sluice_placement CHECK (id > 7);`;
  const [first = "", second = ""] = shards;
  await server.sql(first, byHand + theirs);
  await cycle.copy();
  for (const shard of shards) expect(await guarded(shard)).toEqual(ALL);
  // Run again before a switch: what somebody dropped is not made on tables with rows.
  await server.sql(second, "ALTER TABLE acct DROP CONSTRAINT sluice_placement");
  await installGates(cycle.context(), cycle.ref);
  expect(await guarded(second)).toEqual(ALL.slice(1));
  await abortMigration(cycle.context(), cycle.ref);
  expect(await guarded(second)).toEqual([]);
  expect(
    await server.sql(
      first,
      `SELECT conrelid::regclass::text AS name, pg_get_constraintdef(oid) AS definition FROM pg_constraint
        WHERE conname = 'sluice_placement' ORDER BY 1`,
    ),
  ).toEqual([
    { name: "acct", definition: "CHECK ((id > 0))" },
    { name: "log_1", definition: "CHECK ((id > 7))" },
  ]);
  // R46: what was frozen and wakes makes nothing.
  await installGates(cycle.context(), cycle.ref).catch(() => {});
  expect(await guarded(second)).toEqual([]);
}, 120_000);

test("rolled back and finalized: neither side has one; with the policy off nobody gets one", async () => {
  const { cycle, source, shards } = await newCycle(2);
  await cycle.copy();
  const running = await cycle.catchUp();
  const there = await cycle.prepare("destination", 0);
  expect(await there.attempt()).toMatchObject({ outcome: "committed" });
  await running.stop();
  const back = await cycle.prepare("source", 1);
  expect(await back.attempt()).toMatchObject({ outcome: "committed" });
  await there.next.stop();
  await back.next.stop();
  await finalizeMigration(cycle.context(), cycle.ref);
  for (const database of [source, ...shards]) expect(await guarded(database)).toEqual([]);
  const other = await newCycle(2);
  const policy = { ...other.cycle.context().policy, placementGuard: false };
  await other.cycle.begin();
  await syncSchema(other.cycle.context(), { ref: other.cycle.ref, phase: "pre" });
  await installGates(other.cycle.context({ policy }), other.cycle.ref);
  for (const shard of other.shards) expect(await guarded(shard)).toEqual([]);
}, 120_000);
