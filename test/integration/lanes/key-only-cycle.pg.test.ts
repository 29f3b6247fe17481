import { afterAll, beforeAll, expect, test } from "vitest";
import { connectSql, type SqlClient } from "../../../src/backend/sql-client.js";
import type { Side } from "../../../src/resharding/model/migration.js";
import { prepareDecision } from "../../../src/resharding/switch/prepare-decision-step.js";
import { awaitReadiness } from "../../../src/resharding/switch/readiness-step.js";
import { resolve } from "../../../src/resharding/switch/resolve-step.js";
import { switchTraffic } from "../../../src/resharding/switch/switch-step.js";
import { verifyPass } from "../../../src/resharding/verify/verify-pass-step.js";
import { shardOfText } from "../../../src/topology/hash.js";
import { EngineCycle } from "../../support/engine-cycle.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";

/** Tables as frameworks make them, from the checks to the way back: no statement but the application's on the source. */

let server: PostgresServer;
let cycle: EngineCycle;
const SOURCE = "keys_source";
const SHARDS = ["keys_0", "keys_1"];
const IDS = 2_000;
const WRITERS = 2;

beforeAll(async () => {
  server = await startPostgres({ settings: { fsync: "off" } });
  for (const database of [SOURCE, ...SHARDS]) await server.createDatabase(database);
  await server.sql(
    SOURCE,
    `CREATE TABLE doc (id bigint PRIMARY KEY, tenant_id bigint NOT NULL, slug text UNIQUE, v int, body text);
     ALTER TABLE doc ALTER body SET STORAGE EXTERNAL;
     CREATE TABLE log (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id bigint NOT NULL, doc_id bigint);
     INSERT INTO doc SELECT g, g % 16, 's' || g, 0, repeat('b' || g, 900) FROM generate_series(1, ${IDS}) g;
     CREATE PUBLICATION all_tables FOR TABLE doc, log;`,
  );
  cycle = new EngineCycle({ server, source: SOURCE, shards: SHARDS, id: "abcdef0b0d0c" });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

/** Writes ids of its own: it changes, moves, deletes and makes them anew, and swaps unique values. */
class Writer {
  readonly #number: number;
  readonly #where = new Map<number, number>();
  #clients: readonly SqlClient[] = [];
  #isStopped = false;
  #done: Promise<void> = Promise.resolve();
  writes = 0;

  constructor(number: number) {
    this.#number = number;
  }

  async begin(databases: readonly string[]): Promise<void> {
    this.#isStopped = false;
    this.#clients = await Promise.all(
      databases.map((name) => connectSql(server.address(name), { applicationName: "app" })),
    );
    this.#where.clear();
    for (const client of this.#clients) {
      const { rows } = await client.query<{ id: string; tenant_id: string }>(
        "SELECT id, tenant_id FROM public.doc WHERE id % $1 = $2",
        [WRITERS, this.#number],
      );
      for (const row of rows) this.#where.set(Number(row.id), Number(row.tenant_id));
    }
    this.#done = this.#run();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#done;
    for (const client of this.#clients) await client[Symbol.asyncDispose]();
  }

  #on(tenant: number): SqlClient {
    const client = this.#clients[shardOfText(String(tenant), "bigint", this.#clients.length)];
    if (!client) throw new Error("no shard");
    return client;
  }

  async #run(): Promise<void> {
    while (!this.#isStopped) {
      const id = Math.floor((Math.random() * IDS) / WRITERS) * WRITERS + this.#number;
      const tenant = Math.floor(Math.random() * 16);
      await this.#write(id, tenant, Math.random());
      this.writes += 1;
    }
  }

  async #write(id: number, tenant: number, dice: number): Promise<void> {
    const old = this.#where.get(id);
    const v = this.writes;
    const insert = `INSERT INTO public.doc VALUES (${id}, ${tenant}, 's${id}', ${v}, repeat('n${v}', 900))`;
    if (old === undefined) {
      await this.#on(tenant).query(insert);
      this.#where.set(id, tenant);
    } else if (dice < 0.04) {
      await this.#on(old).query(`DELETE FROM public.doc WHERE id = ${id}`);
      this.#where.delete(id);
    } else if (dice < 0.1 && this.#on(old) === this.#on(tenant)) {
      await this.#on(old).query(
        `UPDATE public.doc SET tenant_id = ${tenant}, slug = 't${id}x${v}' WHERE id = ${id}`,
      );
      this.#where.set(id, tenant);
    } else if (dice < 0.14) {
      // As a proxy moves a row between shards; on one server it is a delete and an insert as well.
      await this.#on(old).query(`DELETE FROM public.doc WHERE id = ${id}`);
      await this.#on(tenant).query(insert);
      this.#where.set(id, tenant);
    } else {
      await this.#on(old).query(`UPDATE public.doc SET v = ${v} WHERE id = ${id}`);
      await this.#on(old).query(
        `INSERT INTO public.log (tenant_id, doc_id) VALUES (${old}, ${id})`,
      );
    }
  }
}

async function rowsOf(databases: readonly string[], table: string): Promise<readonly string[]> {
  const rows: string[] = [];
  for (const [shard, database] of databases.entries())
    for (const row of await server.sql(
      database,
      `SELECT md5(t::text) || ' ' || id AS row, tenant_id FROM ${table} t`,
    )) {
      if (databases.length > 1)
        expect(shardOfText(String(row.tenant_id), "bigint", databases.length)).toBe(shard);
      rows.push(String(row.row));
    }
  return rows.sort();
}

async function expectSame(): Promise<void> {
  for (const table of ["doc", "log"])
    expect(await rowsOf(SHARDS, table)).toEqual(await rowsOf([SOURCE], table));
}

/** Writers are over when the gate closes; what they wrote last arrives within the pause. */
async function switchTo(
  serving: Side,
  stream: number,
  inPause: () => Promise<void>,
): Promise<{ readonly stop: () => Promise<void>; readonly settled: number }> {
  const { next } = await cycle.prepare(serving, stream);
  const { ref } = cycle;
  let settled = 0;
  const announce = async (step: string) => {
    if (step === "cutover.afterHold") await inPause();
    if (step === "stream.beforeSettleCommit") settled += 1;
  };
  const decision = await prepareDecision(cycle.context(), { ref, stream, serving, capMs: 8_000 });
  const report = await switchTraffic(cycle.context({ announce }), { ref, decision, nodes: [] });
  await resolve(cycle.context(), { ref, decision, as: "coordinator" });
  expect(report).toMatchObject({ outcome: "committed", reason: "" });
  return { stop: () => next.stop(), settled };
}

test("R9 R33: keys without the sharding key go there, back and there again, with rows that move in the pause", {
  timeout: 180_000,
}, async () => {
  const writers = Array.from({ length: WRITERS }, (_, number) => new Writer(number));
  const begin = async (databases: readonly string[]) => {
    for (const writer of writers) await writer.begin(databases);
  };
  const stop = async () => {
    for (const writer of writers) await writer.stop();
  };
  const written = () => writers.reduce((sum, writer) => sum + writer.writes, 0);
  const untilWritten = async (count: number) => {
    const before = written();
    await until(() => written() > before + count, { timeoutMs: 30_000, what: "writes" });
  };
  await begin([SOURCE]);
  await cycle.copy();
  const first = await cycle.catchUp();
  await untilWritten(300);
  // Under load: what moves all the time is never called a difference.
  const { ref } = cycle;
  const pass = await verifyPass(cycle.context(), { ref, stream: 0, pass: 0 });
  expect(pass.differences.filter((one) => !one.includes("still moving"))).toEqual([]);
  await stop();

  const move = `UPDATE doc SET tenant_id = (tenant_id + 1) % 16, v = -1 WHERE id % 3 = 0`;
  const there = await switchTo("destination", 0, async () => {
    await server.sql(SOURCE, move);
  });
  expect(there.settled).toBeGreaterThan(0);
  await expectSame();
  await first.stop();
  await begin(SHARDS);
  await untilWritten(300);
  await stop();

  const back = await switchTo("source", 1, async () => {
    // A row that goes from shard to shard while both lanes are on their way.
    const [row] = await server.sql(SHARDS[0] ?? "", "SELECT * FROM doc LIMIT 1");
    await server.sql(SHARDS[0] ?? "", "DELETE FROM doc WHERE id = $1", [row?.id]);
    const tenant = Array.from({ length: 16 }, (_, index) => index).find(
      (one) => shardOfText(String(one), "bigint", 2) === 1,
    );
    await server.sql(SHARDS[1] ?? "", "INSERT INTO doc VALUES ($1, $2, $3, 0, $4)", [
      row?.id,
      tenant,
      row?.slug,
      row?.body,
    ]);
  });
  await expectSame();
  await there.stop();
  await begin([SOURCE]);
  await untilWritten(300);
  await stop();
  const again = await switchTo("destination", 2, async () => {
    await server.sql(SOURCE, move);
  });
  await expectSame();
  await back.stop();
  await again.stop();
});

test("R9: no switch begins while keys are aside, and readiness says how many", async () => {
  const { ref } = cycle;
  await server.sql(
    SHARDS[0] ?? "",
    `INSERT INTO sluice.aside (migration, stream, schema_name, table_name, key, from_shard, reason)
     VALUES ('${ref.id}', 3, 'public', 'doc', '{7}', 0, 'test')`,
  );
  await server.sql(
    SOURCE,
    `INSERT INTO sluice.aside (migration, stream, schema_name, table_name, key, from_shard, reason, conflict)
     VALUES ('${ref.id}', 3, 'public', 'doc', '{7}', 0, 'test', 'it is on 2 shards')`,
  );
  const { isReady, waitingFor } = await awaitReadiness(cycle.context(), {
    ref,
    stream: 3,
    waitMs: 0,
  });
  expect(isReady).toBe(false);
  expect(waitingFor.map(({ message }) => message).join("\n")).toMatch(
    /1 keys are set aside, not settled yet; key \(id\) of public\.doc: it is on 2 shards/,
  );
});
