import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import pg from "pg";
import copyStreams from "pg-copy-streams";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { connectSql } from "../../../src/backend/sql-client.js";
import { guardRows } from "../../../src/resharding/switch/row-guards.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { SCHEMA, TRIGGERS } from "./omnisharded-corpus.js";
import { startProxy, type TestProxy, testConfig } from "./support.js";

/** COPY ... FROM STDIN into omnisharded tables, of rows that are not all in the data. */

const SHARDS = ["shard_0", "shard_1", "shard_2"];
const TABLES = [
  "doc",
  "price",
  "price_log",
  "tag",
  "flag",
  "plan",
  "session",
  "version",
  "pair",
  "event",
  "child",
];

let server: PostgresServer;
let proxy: TestProxy;

beforeAll(async () => {
  server = await startPostgres();
  for (const name of [...SHARDS, "whole"]) {
    await server.createDatabase(name);
    await server.sql(name, SCHEMA);
    await server.sql(name, TRIGGERS);
    // Statement triggers have their effect once, however the rows come.
    await server.sql(
      name,
      `CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO event (what) SELECT 'children ' || count(*) FROM child; RETURN NULL; END $$;
       CREATE TRIGGER note AFTER INSERT ON child EXECUTE FUNCTION note()`,
    );
    if (name === "whole") continue;
    await using shard = await connectSql(server.address(name), { applicationName: "test" });
    const tables = TABLES.map((table) => ({ schema: "public", name: table }));
    await guardRows(shard, tables, async (_table, act) => await act());
  }
});

beforeEach(async () => {
  for (const [shard, name] of [...SHARDS, "whole"].entries())
    await server.sql(
      name,
      `TRUNCATE ${TABLES.join(", ")};
       ${["flag", "plan", "child", "doc", "price", "price_log", "tag"]
         .map((table) => `ALTER SEQUENCE ${table}_id_seq INCREMENT 3 RESTART ${shard + 1};`)
         .join("\n")}`,
    );
  proxy = await startProxy(config(false));
  return async () => {
    await proxy[Symbol.asyncDispose]();
  };
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const config = (twoPhaseCommit: boolean) =>
  testConfig({
    databases: [{ name: "app", shards: SHARDS.map((database) => ({ server, database })) }],
    general: { twoPhaseCommit },
    users: [{ name: "postgres" }],
    shardedTables: [
      { database: "app", name: null, schema: null, column: "tenant_id", dataType: "bigint" },
    ],
  });

async function straight(): Promise<pg.Client> {
  const client = new pg.Client({
    host: "127.0.0.1",
    port: server.port,
    user: "postgres",
    database: "whole",
  });
  await client.connect();
  return client;
}

async function copy(client: pg.Client, sql: string, data: readonly string[]) {
  const stream = client.query(copyStreams.from(sql));
  await pipeline(Readable.from(data), stream);
  return stream.rowCount;
}

async function rowsOf(database: string, columns = "t"): Promise<readonly unknown[]> {
  const all = TABLES.map(
    (table) => `SELECT '${table}' AS name, ${columns}::text AS row FROM ${table} t`,
  );
  return await server.sql(database, `${all.join(" UNION ALL ")} ORDER BY 1, 2`);
}

async function expectSame(): Promise<readonly unknown[]> {
  const [first, ...others] = await Promise.all(SHARDS.map((name) => rowsOf(name)));
  for (const other of others) expect(other).toEqual(first);
  return first ?? [];
}

/** Without what is drawn anew everywhere. */
const GIVEN = "(to_jsonb(t) - '{id,token,created_at,at,updated_at}'::text[])";

const COPIES: readonly (readonly [string, readonly string[]])[] = [
  ["COPY flag (name) FROM STDIN", ["a\nb\\tc\\\\", "\n", "ü \"q\" 'x' (1,2)\n\\.\n"]],
  ["COPY flag (name) FROM STDIN", ["crlf\r\nlast\r\n"]],
  [
    "COPY plan (info, name, notes, ratio, price) FROM STDIN",
    ['{"k": "\\\\"v\\\\" {1}"}\tn\t{"a \\\\"b\\\\"",NULL,x}\t0.1\t1.005\n\\N\t\t{}\tNaN\t\\N\n'],
  ],
  [
    "COPY plan (name, notes, price) FROM STDIN (FORMAT csv, HEADER, DELIMITER ';', NULL 'nil')",
    ['name;notes;price\n"two\nlines; ""q"""', ';"{1,2}";nil\n"nil";nil;2', "\n"],
  ],
  ["COPY plan (name, price) FROM STDIN WITH CSV QUOTE ''''", ["'it''s',3\nplain,4"]],
  ["COPY plan (id, name) FROM STDIN", ["900\tgiven\n"]],
  [
    "COPY pair (a, b) FROM STDIN WHERE a > 1 AND pair.b < 9 AND random() >= 0 -- some",
    ["1\t1\n2\t2\n3\t9\n"],
  ],
  ["COPY pair FROM STDIN WHERE note <> 'no'", ["7\t7\tno\tnow\n8\t8\tyes\ttoday\n"]],
  ["COPY event (what) FROM STDIN", ["x\nx\n\\N\n"]],
  ["COPY doc (title) FROM STDIN (DELIMITER '|')", ["one\ntwo\n"]],
  ["COPY doc (title, revision) FROM STDIN (DELIMITER ',')", ["three,3\n"]],
  ["COPY price (amount) FROM STDIN", ["1\n200\n"]],
  ["COPY child (code) FROM STDIN", ["c\nd\n"]],
  ["COPY flag (name, enabled) FROM STDIN", []],
];

test("rows are what one database would make of them, and the same on every shard", async () => {
  const whole = await straight();
  const client = await proxy.client("app", { user: "postgres" });
  for (const [sql, data] of COPIES) {
    const expected = await copy(whole, sql, data);
    expect([sql, await copy(client, sql, data)]).toEqual([sql, expected]);
    await expectSame();
  }
  expect(await rowsOf(SHARDS[0] ?? "", GIVEN)).toEqual(await rowsOf("whole", GIVEN));
  await whole.end();
});

test("many rows, in batches, all or nothing, within a transaction", async () => {
  const client = await proxy.client("app", { user: "postgres" });
  const rows = Array.from({ length: 25_000 }, (_, at) => `${at}\t1\n`);
  expect(await copy(client, "COPY pair (a, b) FROM STDIN", rows)).toBe(25_000);
  expect(await expectSame()).toHaveLength(25_000);
  await client.query("TRUNCATE pair");
  const broken = copy(client, "COPY pair (a, b) FROM STDIN", [...rows, "0\t1\n"]);
  await expect(broken).rejects.toMatchObject({ code: "23505" });
  expect(await expectSame()).toEqual([]);
  await client.query("BEGIN");
  await copy(client, "COPY flag (name) FROM STDIN", ["a\n"]);
  await client.query("SAVEPOINT s");
  await expect(copy(client, "COPY flag (name) FROM STDIN", ["b\na\n"])).rejects.toMatchObject({
    code: "23505",
  });
  await client.query("ROLLBACK TO SAVEPOINT s");
  await copy(client, "COPY flag (name) FROM STDIN", ["c\n"]);
  await client.query("COMMIT");
  expect(await expectSame()).toHaveLength(2);
});

test("text that means the moment is read once, though every column is given", async () => {
  const client = await proxy.client("app", { user: "postgres" });
  expect(await copy(client, "COPY session FROM STDIN", ["a\tx\tnow\nb\ty\t2026-01-01\n"])).toBe(2);
  expect(await expectSame()).toHaveLength(2);
});

test("shards that prepare their transactions take it as well", async () => {
  await using prepared = await startProxy(config(true));
  const client = await prepared.client("app", { user: "postgres" });
  expect(await copy(client, "COPY flag (name) FROM STDIN", ["a\nb\n"])).toBe(2);
  expect(await expectSame()).toHaveLength(2);
});

const FAILING: readonly (readonly [string, string])[] = [
  ["COPY pair (a, b) FROM STDIN", "1\n"],
  ["COPY pair (a, b) FROM STDIN", "1\t2\t3\n"],
  ["COPY pair (a, b) FROM STDIN", "1\tx\n"],
  ["COPY pair (a, b) FROM STDIN", "1\t\\N\n"],
  ["COPY pair (a, b) FROM STDIN", "1\t1\n1\t1\n"],
  ["COPY session (key, expires) FROM STDIN WHERE random() >= 0", `${"x".repeat(41)}\tnow\n`],
  ["COPY pair (a, nothing) FROM STDIN", "1\t1\n"],
  ["COPY doc (title) FROM STDIN", "\\N\n"],
];

test("errors have PostgreSQL's codes, and nothing stays anywhere", async () => {
  const whole = await straight();
  const client = await proxy.client("app", { user: "postgres" });
  const codeOf = async (copying: Promise<unknown>) =>
    await copying.then(
      () => null,
      (error: { code?: string }) => error.code,
    );
  for (const [sql, data] of FAILING) {
    const expected = await codeOf(copy(whole, sql, [data]));
    expect([sql, await codeOf(copy(client, sql, [data]))]).toEqual([sql, expected]);
    expect(expected).toEqual(expect.any(String));
    expect((await client.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
  }
  const stream = client.query(copyStreams.from("COPY flag (name) FROM STDIN"));
  const failed = new Promise((resolve) => stream.on("error", resolve));
  stream.write("a\n");
  stream.destroy(new Error("no more"));
  expect(await failed).toBeTruthy();
  expect((await client.query("SELECT name FROM flag")).rows).toEqual([]);
  expect(await expectSame()).toEqual([]);
  await whole.end();
});
