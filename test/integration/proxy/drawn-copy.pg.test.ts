import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type pg from "pg";
import copyStreams from "pg-copy-streams";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { COPY_DONE, encodeCopyData, encodeQuery } from "../../../src/wire/frontend.js";
import { DrawnShop, failure, SHARDS } from "./drawn-shop.js";
import { RawClient } from "./raw-client.js";
import type { TestProxy } from "./support.js";

/** COPY ... FROM STDIN that leaves the sharding key to its default. */

let shop: DrawnShop;
let proxy: TestProxy;

beforeAll(async () => {
  shop = await DrawnShop.start();
});

beforeEach(async () => {
  await shop.empty();
  proxy = await shop.proxy();
  return async () => {
    await proxy[Symbol.asyncDispose]();
  };
});

afterAll(async () => {
  await shop[Symbol.asyncDispose]();
});

async function copy(client: pg.Client, sql: string, data: readonly (string | Buffer)[]) {
  const stream = client.query(copyStreams.from(sql));
  await pipeline(Readable.from(data), stream);
  return stream.rowCount;
}

/** A binary stream of rows with one text each. */
function binary(...texts: readonly string[]): Buffer {
  const header = Buffer.concat([Buffer.from("PGCOPY\n\xff\r\n\0", "latin1"), Buffer.alloc(8)]);
  const rows = texts.map((text) => {
    const head = Buffer.alloc(6);
    head.writeInt16BE(1, 0);
    head.writeInt32BE(Buffer.byteLength(text), 2);
    return Buffer.concat([head, Buffer.from(text)]);
  });
  return Buffer.concat([header, ...rows, Buffer.from([0xff, 0xff])]);
}

const COPIES: readonly (readonly [string, readonly (string | Buffer)[]])[] = [
  ["COPY tenants (slug, plan_id) FROM STDIN", ["a\t1\nb\t2\n", "c", "\t", "3\nd\t4"]],
  ["COPY tenants (slug) FROM STDIN", ["e\r\nf\r\n\\.\r\n"]],
  [
    "COPY tenants (plan_id, slug) FROM STDIN (FORMAT csv, HEADER MATCH, DELIMITER ';', QUOTE '''')",
    ["plan_id;slug\n", "5;'g;'\n6;'h\n'''\n"],
  ],
  ["COPY tenants (slug) FROM STDIN (FORMAT csv, HEADER)", ["slug\n"]],
  ["COPY tenants (slug) FROM STDIN (HEADER)", ["slug\ni\n"]],
  ["COPY tenants (slug) FROM STDIN", []],
  ["COPY tenants (slug) FROM STDIN (FORMAT binary)", [binary("j", "k", "l", "m")]],
  ["COPY strict (name) FROM STDIN", ["a\nb\nc\n"]],
  ["COPY lax (name) FROM STDIN (FORMAT binary)", [binary("a", "b", "c", "d", "e")]],
  ["COPY crm.leads (name) FROM STDIN", ["a\nb\n"]],
  ["COPY codes (note) FROM STDIN (DELIMITER '''')", ["a\nb\nc\n"]],
  ["COPY codes (note) FROM STDIN (FORMAT csv, QUOTE '1', ESCAPE '0')", ["a\nb\nc\n"]],
  ["COPY visits (note) FROM STDIN (NULL '3')", ["a\n"]],
  ["COPY tickets (note) FROM STDIN", ["a\nb\nc\n"]],
  ["COPY parts (at) FROM STDIN", ["2026-01-01\n"]],
];

describe("COPY that leaves the sharding key to a default", () => {
  test("gives every row what one database would", async () => {
    await using whole = await shop.straight();
    const client = await proxy.client("app");
    for (const [sql, data] of COPIES) {
      const expected = await copy(whole, sql, data);
      expect([sql, await copy(client, sql, data)]).toEqual([sql, expected]);
    }
    expect(await shop.rowsOf(SHARDS)).toEqual(await shop.rowsOf(["whole"]));
  });

  test("uuids, each its own", async () => {
    const client = await proxy.client("app");
    for (const [format, data] of [
      ["text", "a\nb\nc\n"],
      ["csv", "a\nb\nc\n"],
      ["binary", binary("a", "b", "c")],
    ] as const)
      await copy(client, `COPY docs (title) FROM STDIN (FORMAT ${format})`, [data]);
    await client.query("INSERT INTO docs (title) VALUES ('d'), ('e')");
    expect(await shop.rowsOf(SHARDS)).toHaveLength(11);
  });

  test("many rows, in batches, no id lost: over one connection a shard", async () => {
    await using narrow = await shop.proxy(1);
    const client = await narrow.client("app");
    const rows = Array.from({ length: 25_000 }, (_, at) => `${at}\t${at % 7}\n`);
    expect(await copy(client, "COPY tenants (slug, plan_id) FROM STDIN", rows)).toBe(25_000);
    const { rows: found } = await client.query(
      "SELECT count(*) AS n, min(id) AS least, max(id) AS most, sum(plan_id) AS plans FROM tenants",
    );
    const plans = rows.reduce((sum, _, at) => sum + (at % 7), 0);
    expect(found).toEqual([{ n: "25000", least: "1", most: "25000", plans: String(plans) }]);
  });

  test("in a transaction that has locked the sequence, with it or not at all", async () => {
    const client = await proxy.client("app");
    await client.query("INSERT INTO tenants (slug) VALUES ('before')");
    await client.query("BEGIN");
    await client.query("TRUNCATE tenants RESTART IDENTITY");
    await copy(client, "COPY tenants (slug) FROM STDIN", ["a\nb\n"]);
    await client.query("ROLLBACK");
    expect(await shop.rowsOf(SHARDS)).toEqual(["tenants (1,before,1)"]);
  });

  const FAILING: readonly (readonly [string, string])[] = [
    ["COPY tenants (slug, plan_id) FROM STDIN", "a\t1\nb\n"],
    ["COPY tenants (slug, plan_id) FROM STDIN", "a\t1\nb\t2\t3\n"],
    ["COPY tenants (slug, plan_id) FROM STDIN", "a\t1\nb\tx\n"],
    ["COPY tenants (slug) FROM STDIN", "a\n\\N\n"],
    ["COPY tenants (slugs) FROM STDIN", "a\n"],
    ["COPY scarce (note) FROM STDIN", "a\nb\nc\n"],
    ["COPY tickets (note) FROM STDIN", "a\nbad\n"],
  ];
  test.each(FAILING)("%s: %j fails as on one database, and nothing stays", async (sql, data) => {
    await using whole = await shop.straight();
    const client = await proxy.client("app");
    const expected = await failure(copy(whole, sql, [data]));
    const actual = await failure(copy(client, sql, [data]));
    expect([actual.code, actual.message]).toEqual([expected.code, expected.message]);
    expect(await shop.rowsOf(SHARDS)).toEqual([]);
    expect((await client.query("SELECT n::int FROM counters")).rows).toEqual([{ n: 500 }]);
  });

  test("the client gives it up", async () => {
    const client = await proxy.client("app");
    const stream = client.query(copyStreams.from("COPY tenants (slug) FROM STDIN"));
    stream.write("a\nb\n");
    const failed = new Promise((resolve) => stream.once("error", resolve));
    stream.destroy(new Error("no more"));
    expect(String(await failed)).toMatch(/COPY from stdin failed|no more/);
    await copy(client, "COPY tenants (slug) FROM STDIN", ["c\n"]);
    expect(await shop.rowsOf(SHARDS)).toHaveLength(1);
  });

  test("what the servers say of the copy knows nothing of the column that was put in", async () => {
    const said = await Promise.all(
      [shop.server.port, proxy.port].map(async (port, at) => {
        await using raw = await RawClient.connect(port, at === 0 ? "whole" : "app");
        const sql = "COPY tenants (slug, plan_id) FROM STDIN";
        const opened = await raw.exchange([encodeQuery(sql)], "G");
        const rows = ["a\t1\nb\t", "2\n", "c\t3\n"].map((text) =>
          encodeCopyData([Buffer.from(text)]),
        );
        return [[...opened], await raw.exchange([...rows, COPY_DONE])];
      }),
    );
    expect(said[1]).toEqual(said[0]);
    expect(said[0]?.flat().map(({ type }) => type)).toEqual(["G", "C", "Z"]);
  });
});
