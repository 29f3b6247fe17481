import { afterAll, beforeAll, expect, test } from "vitest";
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

test.each([
  { databases: ["one"], scripts: SINGLE, poolSize: 3 },
  { databases: ["shard_0", "shard_1"], scripts: SHARDED, poolSize: 4 },
])("$databases: clients that vanish at every byte", { timeout: 600_000 }, async (kind) => {
  await using setting = await startSlowly(server, kind.databases, kind.poolSize);
  const { proxy } = setting;
  const bystanders = await startBystanders(proxy);
  await vanishEverywhere(proxy, kind.scripts, { step: 1, together: 6 });
  const { acknowledged } = await bystanders.end();
  await expectRest(proxy);
  const kept = new Set<number>();
  for (const database of kind.databases)
    for (const { id } of await server.sql(database, "SELECT id FROM kept")) kept.add(Number(id));
  expect(acknowledged.filter((id) => !kept.has(id))).toEqual([]);
});
