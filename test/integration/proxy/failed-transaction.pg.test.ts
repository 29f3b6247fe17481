import { afterAll, beforeAll, expect, test } from "vitest";
import {
  encodeBind,
  encodeDescribe,
  encodeExecute,
  encodeParseSql,
  encodeQuery,
  SYNC,
} from "../../../src/wire/frontend.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { RawClient } from "./raw-client.js";
import { startProxy, type TestProxy, testConfig } from "./support.js";

/** How drivers leave a transaction that has failed: message by message as PostgreSQL answers it. */

let server: PostgresServer;
let proxy: TestProxy;

beforeAll(async () => {
  server = await startPostgres();
  for (const name of ["straight", "one", "shard_0", "shard_1"]) {
    await server.createDatabase(name);
    await server.sql(name, "CREATE TABLE tenant (tenant_id bigint PRIMARY KEY)");
  }
  proxy = await startProxy(
    testConfig({
      databases: [
        { name: "one", shards: [{ server, database: "one" }] },
        {
          name: "sharded",
          shards: ["shard_0", "shard_1"].map((database) => ({ server, database })),
        },
      ],
      shardedTables: [
        { database: "sharded", name: null, schema: null, column: "tenant_id", dataType: "bigint" },
      ],
    }),
  );
});

afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const parse = (name: string, sql: string) => encodeParseSql(name, sql, []);
const bind = (statement: string) =>
  encodeBind({ portal: "", statement, parameterFormats: [], parameters: [], resultFormats: [] });
const EXECUTE = encodeExecute({ portal: "", maxRows: 0 });
const describe = (target: "statement" | "portal", name = "") => encodeDescribe({ target, name });
const run = (sql: string) => [parse("", sql), bind(""), describe("portal"), EXECUTE, SYNC];

const FAILING = [
  [encodeQuery("BEGIN")],
  [encodeQuery("INSERT INTO tenant (tenant_id) VALUES (1)")],
  [encodeQuery("INSERT INTO tenant (tenant_id) VALUES (3)")],
  [encodeQuery("INSERT INTO tenant (tenant_id) VALUES (3)")],
];
const WITH_SAVEPOINT = [
  [encodeQuery("BEGIN")],
  [encodeQuery("INSERT INTO tenant (tenant_id) VALUES (1)")],
  run("SAVEPOINT s"),
  run("INSERT INTO tenant (tenant_id) VALUES (3)"),
  run("INSERT INTO tenant (tenant_id) VALUES (3)"),
];

/** Each is a list of requests, each of which ends with ReadyForQuery. */
const SCRIPTS: Readonly<Record<string, readonly (readonly Buffer[])[]>> = {
  "at once": [...FAILING, run("ROLLBACK"), run("SELECT 1")],
  "prepared by itself, then executed": [
    ...FAILING,
    [parse("rb", "ROLLBACK"), describe("statement", "rb"), SYNC],
    [bind("rb"), describe("portal"), EXECUTE, SYNC],
    run("SELECT 1"),
    // The statement is there still.
    [encodeQuery("BEGIN")],
    [bind("rb"), EXECUTE, SYNC],
  ],
  "prepared before": [
    [parse("rb", "ROLLBACK"), SYNC],
    ...FAILING,
    [describe("statement", "rb"), SYNC],
    [bind("rb"), EXECUTE, SYNC],
  ],
  "what else is prepared is refused": [
    ...FAILING,
    [parse("s", "SELECT 1"), describe("statement", "s"), SYNC],
    [parse("rb", "ROLLBACK"), bind("s"), EXECUTE, SYNC],
    run("COMMIT"),
    run("SELECT 1"),
  ],
  "to a savepoint, at once": [
    ...WITH_SAVEPOINT,
    run("SELECT 1"),
    run("ROLLBACK TO SAVEPOINT s"),
    run("INSERT INTO tenant (tenant_id) VALUES (4)"),
    run("RELEASE SAVEPOINT s"),
    run("COMMIT"),
  ],
  "to a savepoint, prepared by itself": [
    ...WITH_SAVEPOINT,
    [parse("rb", "ROLLBACK TO s"), describe("statement", "rb"), SYNC],
    [bind("rb"), describe("portal"), EXECUTE, SYNC],
    [encodeQuery("INSERT INTO tenant (tenant_id) VALUES (4)")],
    [encodeQuery("COMMIT")],
  ],
  "all of it, though there is a savepoint": [
    ...WITH_SAVEPOINT,
    [parse("rb", "ROLLBACK"), describe("statement", "rb"), SYNC],
    [bind("rb"), EXECUTE, SYNC],
    run("SELECT 1"),
  ],
};

test.each(Object.entries(SCRIPTS))("%s", async (_name, script) => {
  const answers = async (port: number, database: string) => {
    await using client = await RawClient.connect(port, database);
    const seen: unknown[] = [];
    for (const messages of script)
      seen.push((await client.exchange(messages)).map(({ type, body }) => [type, body]));
    return seen;
  };
  const wanted = await answers(server.port, "straight");
  expect(await answers(proxy.port, "one")).toEqual(wanted);
  expect(await answers(proxy.port, "sharded")).toEqual(wanted);
  const rows = async (name: string) =>
    (await server.sql(name, "DELETE FROM tenant RETURNING tenant_id::int AS id")).map(
      ({ id }) => id,
    );
  const kept = await rows("straight");
  expect(await rows("one")).toEqual(kept);
  expect([...(await rows("shard_0")), ...(await rows("shard_1"))]).toEqual(kept);
});
