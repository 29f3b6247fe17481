import { spawnSync } from "node:child_process";
import { join } from "node:path";
import type pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { startProxy, type TestProxy, testConfig } from "./support.js";

let server: PostgresServer;
let proxy: TestProxy;
let client: pg.Client;

const SCHEMA = `
  CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
  CREATE DOMAIN short AS text CHECK (length(VALUE) < 9);
  CREATE TYPE pair AS (a int, m mood);
  CREATE TABLE tenant (tenant_id bigint PRIMARY KEY, m mood, ms mood[], p pair, s short);
  CREATE TABLE place (id int PRIMARY KEY, m mood);
  CREATE VIEW classes AS SELECT oid, relname FROM pg_class`;

beforeAll(async () => {
  server = await startPostgres();
  for (const name of ["wide_0", "wide_1"]) {
    await server.createDatabase(name);
    // The same names, other numbers.
    if (name === "wide_1")
      await server.sql(name, "CREATE TABLE before (a int, b text); DROP TABLE before");
    await server.sql(name, SCHEMA);
  }
  proxy = await startProxy(
    testConfig({
      databases: [
        {
          name: "wide",
          shards: [
            { server, database: "wide_0" },
            { server, database: "wide_1" },
          ],
        },
      ],
      shardedTables: [
        { database: "wide", name: null, schema: null, column: "tenant_id", dataType: "bigint" },
      ],
      general: { defaultPoolSize: 3 },
    }),
  );
  client = await proxy.client("wide");
  for (const id of [1, 3])
    await client.query(
      `INSERT INTO tenant VALUES (${id}, 'ok', '{sad,happy}', ROW(1, 'sad')::pair, 'x')`,
    );
});

afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

async function onFirst(sql: string): Promise<Record<string, unknown>> {
  return (await server.sql("wide_0", sql))[0] as Record<string, unknown>;
}

test("an oid just seen is found again, whatever ran in between", async () => {
  for (const seen of [
    "SELECT oid FROM pg_class WHERE relname = 'tenant'",
    "SELECT 'tenant'::regclass::oid AS oid",
    "SELECT to_regclass('tenant')::oid AS oid",
    "SELECT oid FROM classes WHERE relname = 'tenant'",
  ])
    for (let round = 0; round < 6; round++) {
      const isOpen = round % 2 === 1;
      if (isOpen) await client.query("BEGIN");
      await client.query("SELECT m FROM tenant WHERE tenant_id = 3");
      const { oid } = (await client.query(seen)).rows[0] as { oid: number };
      const again = await client.query("SELECT count(*)::int AS n FROM pg_class WHERE oid = $1", [
        oid,
      ]);
      expect(again.rows, seen).toEqual([{ n: 1 }]);
      if (isOpen) await client.query("COMMIT");
    }
});

test("results of every shard are described by the first one's numbers", async () => {
  const types = await onFirst(
    `SELECT 'mood'::regtype::oid::int AS m, 'mood[]'::regtype::oid::int AS ms, 'pair'::regtype::oid::int AS p,
            'tenant'::regclass::oid::int AS t`,
  );
  const columns = "m, ms, p";
  for (const sql of [
    `SELECT ${columns} FROM tenant WHERE tenant_id = 1`,
    `SELECT ${columns} FROM tenant WHERE tenant_id = 3`,
    `SELECT ${columns} FROM tenant`,
    `SELECT ${columns} FROM tenant ORDER BY tenant_id DESC LIMIT 1`,
  ])
    for (const values of [undefined, []])
      for (let round = 0; round < 3; round++) {
        const { fields } = await client.query(sql, values);
        expect(
          fields.map(({ dataTypeID }) => dataTypeID),
          sql,
        ).toEqual([types.m, types.ms, types.p]);
        expect(fields[0]?.tableID).toBe(types.t);
      }
});

test("parameters are typed by the first one's numbers", async () => {
  const { m } = await onFirst("SELECT 'mood'::regtype::oid::int AS m");
  const { RawClient } = await import("./raw-client.js");
  const { encodeParseSql, encodeBind, encodeExecute, encodeDescribe, SYNC } = await import(
    "../../../src/wire/frontend.js"
  );
  await using raw = await RawClient.connect(proxy.port, "wide");
  for (const key of [1, 3]) {
    const sql = `SELECT m FROM tenant WHERE tenant_id = ${key} AND m = $1`;
    const answer = await raw.exchange([
      encodeParseSql("", sql, [m as number]),
      encodeDescribe({ target: "statement", name: "" }),
      encodeBind({
        ...{ portal: "", statement: "", parameterFormats: [], resultFormats: [] },
        parameters: [Buffer.from("ok")],
      }),
      encodeExecute({ portal: "", maxRows: 0 }),
      SYNC,
    ]);
    expect(answer.map(({ type }) => type).join("")).toBe("1tT2DCZ");
    const described = answer.find(({ type }) => type === "t");
    expect(described?.body).toBe(`0001${(m as number).toString(16).padStart(8, "0")}`);
  }
});

test("psql's \\d and \\d+ show the table each time", async () => {
  for (let round = 0; round < 6; round++) {
    const shown = spawnSync(
      join(server.binDir, "psql"),
      ["-X", "-d", proxy.url("wide"), "-c", "\\d+ tenant", "-c", "\\dT+ mood", "-c", "\\d place"],
      { encoding: "utf8" },
    );
    expect(shown.stderr).toBe("");
    expect(shown.stdout).toMatch(/tenant_pkey/);
    expect(shown.stdout).toMatch(/happy/);
    expect(shown.stdout).toMatch(/place_pkey/);
  }
});
