import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import {
  expectRest,
  SCHEMA,
  SHARDED,
  SINGLE,
  startBystanders,
  startSlowly,
  vanishEverywhere,
} from "./vanishing.js";

/** Places at which clients vanish: every so many bytes; `npm run test:full` takes each. */
const STEP = 9;

let server: PostgresServer;

beforeAll(async () => {
  server = await startPostgres();
  for (const name of ["one", "shard_0", "shard_1"]) {
    await server.createDatabase(name);
    await server.sql(name, SCHEMA);
  }
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

async function idsIn(database: string, table: string): Promise<readonly number[]> {
  const rows = await server.sql(database, `SELECT id FROM ${table}`);
  return rows.map(({ id }) => Number(id));
}

describe("clients that vanish at any byte", () => {
  test("on one server: others read their own answers and keep their rows", async () => {
    await using setting = await startSlowly(server, ["one"], 3);
    const { proxy } = setting;
    const bystanders = await startBystanders(proxy);
    const count = await vanishEverywhere(proxy, SINGLE, { step: STEP, together: 6 });
    const { answers, acknowledged } = await bystanders.end();
    expect(count).toBeGreaterThan(150);
    expect(answers).toBeGreaterThan(20);
    await expectRest(proxy);
    const kept = new Set(await idsIn("one", "kept"));
    expect(acknowledged.filter((id) => !kept.has(id))).toEqual([]);
  });

  test("on shards, where each statement is done on all of them or on none as well", async () => {
    await using setting = await startSlowly(server, ["shard_0", "shard_1"], 4);
    const { proxy } = setting;
    const bystanders = await startBystanders(proxy);
    const count = await vanishEverywhere(proxy, SHARDED, { step: STEP, together: 4 });
    const { answers, acknowledged } = await bystanders.end();
    expect(count).toBeGreaterThan(150);
    expect(answers).toBeGreaterThan(20);
    await expectRest(proxy);
    const kept = new Set([
      ...(await idsIn("shard_0", "kept")),
      ...(await idsIn("shard_1", "kept")),
    ]);
    expect(acknowledged.filter((id) => !kept.has(id))).toEqual([]);
    const pairs = "SELECT n, count(*)::int FROM dropped WHERE n IN (3, 4, 5) GROUP BY n ORDER BY n";
    expect(await server.sql("shard_0", pairs)).toEqual(await server.sql("shard_1", pairs));
    const values = "SELECT value FROM settings";
    expect(await server.sql("shard_0", values)).toEqual(await server.sql("shard_1", values));
  });
});
