import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  encodeBind,
  encodeClose,
  encodeDescribe,
  encodeExecute,
  encodeParseSql,
  encodeQuery,
  SYNC,
} from "../../../src/wire/frontend.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { RawClient, type RawMessage } from "./raw-client.js";
import { startProxy, type TestProxy, testConfig } from "./support.js";

let server: PostgresServer;
let proxy: TestProxy;

beforeAll(async () => {
  server = await startPostgres();
  const databases = ["plain", "other", "shard_0", "shard_1"];
  for (const name of databases) {
    await server.createDatabase(name);
    await server.sql(
      name,
      `CREATE TABLE dd (id int, at date);
       CREATE FUNCTION throw_away() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN 1; END $$;
       CREATE PROCEDURE throw_all() LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$`,
    );
  }
  proxy = await startProxy(
    testConfig({
      databases: [
        { name: "plain", shards: [{ server, database: "plain" }] },
        {
          name: "sharded",
          shards: [0, 1].map((shard) => ({ server, database: `shard_${shard}` })),
        },
      ],
      shardedTables: [
        { database: "sharded", name: "dd", column: "id", dataType: "bigint", schema: null },
      ],
      // One connection for all, so that everybody has what the others left.
      general: { defaultPoolSize: 1, preparedStatementsLimit: 20 },
    }),
  );
});

afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const parse = (name: string, sql: string) => encodeParseSql(name, sql, []);
const run = (statement: string) => [
  encodeBind({
    portal: "",
    statement,
    parameterFormats: [],
    parameters: [],
    resultFormats: [],
  }),
  encodeExecute({ portal: "", maxRows: 0 }),
];
const types = (messages: readonly RawMessage[]) =>
  messages
    .filter(({ type }) => type !== "S")
    .map(({ type, code }) => (code ? `${type}:${code}` : type))
    .join(" ");

/** Of a row of one column. */
const valueIn = ({ body }: RawMessage) => {
  const bytes = Buffer.from(String(body), "hex");
  return bytes.readInt32BE(2) < 0 ? null : bytes.toString("utf8", 6);
};

async function two(): Promise<readonly [RawClient, RawClient]> {
  return [
    await RawClient.connect(proxy.port, "plain"),
    await RawClient.connect(proxy.port, "plain"),
  ];
}

describe("the list of a server's statements is what the server said", () => {
  test.each([
    ["an error behind it", [encodeQuery("DEALLOCATE ALL; SELECT 1/0")]],
    ["in a pipeline", [parse("", "DEALLOCATE ALL"), ...run(""), SYNC]],
    [
      "in a pipeline that fails",
      [parse("", "DEALLOCATE ALL"), ...run(""), parse("", "SELECT 1/0"), ...run(""), SYNC],
    ],
    ["DO", [encodeQuery("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")]],
    [
      "DO that fails",
      [encodeQuery("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; RAISE EXCEPTION 'x'; END $$")],
    ],
    ["CALL", [encodeQuery("CALL throw_all()")]],
    ["a function", [encodeQuery("SELECT throw_away()")]],
    ["DISCARD ALL", [encodeQuery("DISCARD ALL")]],
    ["DISCARD ALL that fails", [encodeQuery("SELECT 1; DISCARD ALL")]],
  ])("thrown away by another client: %s", async (_, messages) => {
    const [one, other] = await two();
    await using _one = one;
    await using _other = other;
    await one.exchange([parse("s", "SELECT 'mine'"), ...run("s"), SYNC]);
    await other.exchange(messages);
    const again = await one.exchange([...run("s"), SYNC]);
    expect(types(again)).toBe("2 D C Z");
    const third = await other.exchange([parse("t", "SELECT 'mine'"), ...run("t"), SYNC]);
    expect(types(third)).toBe("1 2 D C Z");
  });

  test("in a transaction: after DO it is made again, after a function the error is told", async () => {
    const [one, other] = await two();
    await using _one = one;
    await using _other = other;
    await one.exchange([parse("s", "SELECT 'tx'"), ...run("s"), SYNC]);
    await one.exchange([encodeQuery("BEGIN")]);
    await one.exchange([encodeQuery("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")]);
    expect(types(await one.exchange([...run("s"), SYNC]))).toBe("2 D C Z");
    await one.exchange([encodeQuery("SELECT throw_away()")]);
    expect(types(await one.exchange([...run("s"), SYNC]))).toBe("E:26000 Z");
    await one.exchange([encodeQuery("ROLLBACK")]);
    expect(types(await one.exchange([...run("s"), SYNC]))).toBe("2 D C Z");
    expect(types(await other.exchange([parse("s", "SELECT 'tx'"), ...run("s"), SYNC]))).toBe(
      "1 2 D C Z",
    );
  });

  test("a Parse that fails, or is skipped, leaves nothing behind", async () => {
    const [one, other] = await two();
    await using _one = one;
    await using _other = other;
    const skipped = [parse("", "SELECT 1/0"), ...run(""), parse("later", "SELECT 'late'"), SYNC];
    expect(types(await one.exchange(skipped))).toMatch(/E:22012 Z$/);
    const late = await other.exchange([parse("l", "SELECT 'late'"), ...run("l"), SYNC]);
    expect(types(late)).toBe("1 2 D C Z");
    expect(types(await one.exchange([parse("bad", "SELEC"), SYNC]))).toBe("E:42601 Z");
    expect(types(await one.exchange([parse("bad", "SELECT 1"), ...run("bad"), SYNC]))).toBe(
      "1 2 D C Z",
    );
  });

  test("DEALLOCATE and EXECUTE of one that was prepared by the protocol", async () => {
    await using client = await RawClient.connect(proxy.port, "plain");
    await client.exchange([parse("pdo_1", "SELECT 1"), parse("B", "SELECT 2"), SYNC]);
    expect(types(await client.exchange([encodeQuery("EXECUTE pdo_1")]))).toBe("T D C Z");
    expect(types(await client.exchange([encodeQuery("DEALLOCATE pdo_1")]))).toBe("C Z");
    expect(types(await client.exchange([...run("pdo_1"), SYNC]))).toBe("E:26000 Z");
    expect(types(await client.exchange([encodeQuery('SELECT 1; DEALLOCATE PREPARE "B"')]))).toBe(
      "T D C C Z",
    );
    expect(types(await client.exchange([...run("B"), SYNC]))).toBe("E:26000 Z");
    await client.exchange([parse("c", "SELECT 3"), SYNC]);
    const byProtocol = [parse("", "DEALLOCATE c"), ...run(""), SYNC];
    expect(types(await client.exchange(byProtocol))).toBe("1 2 C Z");
    expect(types(await client.exchange([parse("c", "SELECT 4"), ...run("c"), SYNC]))).toBe(
      "1 2 D C Z",
    );
    expect(types(await client.exchange([encodeQuery("DEALLOCATE nobody")]))).toBe("E:26000 Z");
    await client.exchange([encodeQuery("BEGIN")]);
    await client.exchange([encodeQuery("SELECT 1/0")]);
    expect(types(await client.exchange([encodeQuery("DEALLOCATE c")]))).toBe("E:25P02 Z");
    await client.exchange([encodeQuery("ROLLBACK")]);
    expect(types(await client.exchange([...run("c"), SYNC]))).toBe("2 D C Z");
  });

  test("the same on shards", async () => {
    await using client = await RawClient.connect(proxy.port, "sharded");
    await client.exchange([parse("a", "SELECT 1"), SYNC]);
    expect(types(await client.exchange([encodeQuery("DEALLOCATE a")]))).toBe("C Z");
    expect(types(await client.exchange([...run("a"), SYNC]))).toBe("E:26000 Z");
    expect(types(await client.exchange([encodeQuery("DEALLOCATE a")]))).toBe("E:26000 Z");
  });
});

describe("what was parsed under other settings is another statement", () => {
  test.each([
    [
      "datestyle",
      "ISO, MDY",
      "ISO, DMY",
      "SELECT '03/04/2024'::date::text",
      "2024-03-04",
      "2024-04-03",
    ],
    [
      "timezone",
      "UTC",
      "Asia/Tokyo",
      "SELECT extract(hour from '2024-01-01 00:00+00'::timestamptz - '2024-01-01 00:00'::timestamptz)::text",
      "0",
      "9",
    ],
    [
      "intervalstyle",
      "postgres",
      "sql_standard",
      "SELECT extract(hour from '-1 2:03:04'::interval)::text",
      "2",
      "-2",
    ],
    ["standard_conforming_strings", "on", "off", "SELECT 'a\\\\b'", "a\\\\b", "a\\b"],
    [
      "search_path",
      "pg_catalog",
      "other_path, pg_catalog",
      "SELECT 'here'::regclass::oid > 0",
      null,
      "t",
    ],
    ["transform_null_equals", "off", "on", "SELECT NULL = NULL", null, "t"],
    ["array_nulls", "on", "off", "SELECT ('{NULL}'::text[])[1] IS NULL", "t", "f"],
    ["bytea_output", "hex", "escape", "SELECT 'a'::bytea::text", "\\x61", "a"],
  ])("%s", async (name, first, second, sql, expectedFirst, expectedSecond) => {
    if (name === "search_path")
      await server.sql("plain", "CREATE SCHEMA other_path; CREATE TABLE other_path.here ()");
    const values: (string | null)[] = [];
    for (const value of [first, second, first]) {
      await using client = await RawClient.connect(proxy.port, "plain");
      await client.exchange([
        encodeQuery(`SET ${name} = ${name === "search_path" ? value : `'${value}'`}`),
      ]);
      const answer = await client.exchange([parse("s", sql), ...run("s"), SYNC]);
      const row = answer.find(({ type }) => type === "D");
      values.push(row ? valueIn(row) : null);
    }
    expect(values).toEqual([expectedFirst, expectedSecond, expectedFirst]);
  });

  test("SET LOCAL, and SET within a transaction", async () => {
    const sql = "INSERT INTO dd VALUES ($1, '03/04/2024'::date)";
    const clients: pg.Client[] = [];
    for (let index = 0; index < 3; index++) {
      const client = new pg.Client({
        host: "127.0.0.1",
        port: proxy.port,
        user: "postgres",
        database: "plain",
      });
      await client.connect();
      clients.push(client);
    }
    const [one, other, third] = clients;
    const insert = async (client: pg.Client | undefined, id: number) =>
      await client?.query({ name: "ins", text: sql, values: [id] });
    await one?.query("BEGIN");
    await one?.query("SET LOCAL datestyle = 'ISO, DMY'");
    await insert(one, 1);
    await one?.query("COMMIT");
    await insert(other, 2);
    await third?.query("BEGIN");
    await third?.query("SET datestyle = 'ISO, DMY'");
    await insert(third, 3);
    await third?.query("ROLLBACK");
    await insert(third, 4);
    for (const client of clients) await client.end();
    const rows = await server.sql("plain", "SELECT id, at::text FROM dd ORDER BY id");
    expect(rows).toEqual([
      { id: 1, at: "2024-04-03" },
      { id: 2, at: "2024-03-04" },
      // As in PostgreSQL: it was prepared when the setting was there.
      { id: 4, at: "2024-04-03" },
    ]);
  });
});

describe("statements on servers are within a bound", () => {
  test("prepared_statements_limit, by closing the longest unused", async () => {
    await using client = await RawClient.connect(proxy.port, "plain");
    for (let index = 0; index < 100; index++) {
      const name = `n${index}`;
      await client.exchange([parse(name, `SELECT ${index}`), ...run(name), SYNC]);
      if (index % 2 === 0)
        await client.exchange([encodeClose({ target: "statement", name }), SYNC]);
    }
    const count = await client.exchange([
      encodeQuery("SELECT count(*) <= 20 AS few FROM pg_prepared_statements"),
    ]);
    expect(count.filter(({ type }) => type === "D").map(valueIn)).toEqual(["t"]);
    const again = await client.exchange([
      encodeDescribe({ target: "statement", name: "n1" }),
      ...run("n1"),
      ...run("n3"),
      SYNC,
    ]);
    expect(types(again)).toBe("t T 2 D C 2 D C Z");
  });
});
