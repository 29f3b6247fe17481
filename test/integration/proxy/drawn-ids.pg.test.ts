import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  encodeBind,
  encodeDescribe,
  encodeExecute,
  encodeParseSql,
  SYNC,
} from "../../../src/wire/frontend.js";
import { answer, DrawnShop, failure, type Query, SHARDS } from "./drawn-shop.js";
import { RawClient } from "./raw-client.js";
import type { TestProxy } from "./support.js";

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

const INSERTS = [
  "INSERT INTO tenants (slug, plan_id) VALUES ('a', 2)",
  "INSERT INTO tenants (slug) VALUES ('b') RETURNING id, slug, plan_id",
  "insert into public.tenants as t (slug) values ('c') returning t.id",
  "INSERT INTO tenants (slug, id, plan_id) VALUES ('d', DEFAULT, DEFAULT) RETURNING *",
  "INSERT INTO tenants VALUES (DEFAULT, 'e') RETURNING *",
  "/* ( */ INSERT INTO \"tenants\" (slug /* id) */, plan_id) VALUES ('f (', 1 -- )\n) RETURNING id",
  "INSERT INTO tenants (slug) VALUES ('c') ON CONFLICT (slug) DO NOTHING RETURNING id",
  "INSERT INTO tenants (slug) VALUES ('g'), ('h'), ('i'), ('j'), ('k') RETURNING slug, id",
  "INSERT INTO tenants (id, slug) VALUES (1001, 'l'), (DEFAULT, 'm'), (1002, 'n'), (DEFAULT, 'o') RETURNING *",
  "INSERT INTO tenants (slug) VALUES ('p'), ('q') ON CONFLICT (id) DO UPDATE SET plan_id = 9 RETURNING id, plan_id",
  "WITH one AS (SELECT 'r' AS s) INSERT INTO tenants (slug) VALUES ((SELECT s FROM one)) RETURNING id",
  "WITH made AS (INSERT INTO tenants (slug) VALUES ('s') RETURNING id, slug) SELECT slug, id FROM made",
  "INSERT INTO tenants (slug) VALUES ('much longer than it may be')",
  "INSERT INTO tenants (plan_id) VALUES (3)",
  "INSERT INTO tenants (slug, plan_id) VALUES ('x')",
  "INSERT INTO tenants (slug) VALUES ('x', 1)",
  "INSERT INTO tenants DEFAULT VALUES",
  "INSERT INTO strict (name) VALUES ('a') RETURNING *",
  "INSERT INTO strict DEFAULT VALUES RETURNING *",
  "INSERT INTO strict (id, name) VALUES (DEFAULT, 'b'), (DEFAULT, 'c') RETURNING id",
  "INSERT INTO strict (id, name) VALUES (77, 'd')",
  "INSERT INTO strict (id, name) VALUES (DEFAULT, 'd'), (77, 'd')",
  "INSERT INTO strict (id, name) OVERRIDING SYSTEM VALUE VALUES (78, 'e'), (DEFAULT, 'f') RETURNING id",
  "INSERT INTO strict (id, name) OVERRIDING USER VALUE VALUES (79, 'g') RETURNING id",
  "INSERT INTO lax VALUES ('a') RETURNING *",
  "INSERT INTO lax VALUES ('b', 33), ('c', DEFAULT) RETURNING *",
  "INSERT INTO lax (name, id) OVERRIDING USER VALUE VALUES ('d', 44) RETURNING *",
  "INSERT INTO lax DEFAULT VALUES RETURNING *",
  "INSERT INTO crm.leads VALUES ('a'), ('b') RETURNING id, name",
  "INSERT INTO codes (note) VALUES ('a'), ('b') RETURNING *",
  "INSERT INTO visits VALUES (DEFAULT, 'a')",
  "INSERT INTO visits (note) VALUES ('b'), ('c') RETURNING *",
  "INSERT INTO tickets (note) VALUES ('a'), ('b') RETURNING *",
  "INSERT INTO scarce (note) VALUES ('a'), ('b') RETURNING *",
  "INSERT INTO scarce (note) VALUES ('c')",
  "INSERT INTO parts (at) VALUES ('2026-01-01') RETURNING *",
];

describe("an INSERT that leaves the sharding key to a default", () => {
  const protocols: readonly (readonly [string, (text: string, at: number) => Query])[] = [
    ["simple", (text) => text],
    ["extended", (text) => ({ text, values: [] })],
    ["prepared", (text, at) => ({ text, name: `s${at}`, values: [] })],
  ];
  test.each(protocols)("answers as one database would: %s", async (_name, query) => {
    await using whole = await shop.straight();
    const client = await proxy.client("app");
    for (const [at, text] of INSERTS.entries()) {
      const expected = await answer(whole, query(text, at));
      expect([text, await answer(client, query(text, at))]).toEqual([text, expected]);
    }
    expect(await shop.rowsOf(SHARDS)).toEqual(await shop.rowsOf(["whole"]));
  });

  test("every Bind of a prepared statement gets an id of its own, and sees no other parameter", async () => {
    const client = await proxy.client("app");
    const text = "INSERT INTO tenants (slug, plan_id) VALUES ($1, $2) RETURNING id, slug";
    const ids: string[] = [];
    for (let at = 0; at < 8; at++) {
      const values = [`named ${at}`, at];
      const { rows } = await client.query({ name: "put", text, values });
      expect(rows).toEqual([{ id: String(at + 1), slug: `named ${at}` }]);
      ids.push(String(rows[0]?.id));
    }
    expect(new Set(ids).size).toBe(8);
    // Two rows of one Bind, parameters in any order, one of them twice.
    const { rows } = await client.query(
      "INSERT INTO tenants (slug, plan_id) VALUES ($2, $3), ($1, $3) RETURNING slug, id, plan_id",
      ["one", "two", 5],
    );
    expect(rows).toEqual([
      { slug: "two", id: "9", plan_id: 5 },
      { slug: "one", id: "10", plan_id: 5 },
    ]);
    expect(await shop.rowsOf(SHARDS)).toHaveLength(10);
  });

  test("Describe says of parameters and columns what one database says", async () => {
    const text = "INSERT INTO tenants (slug, plan_id) VALUES ($1, $2), ($3, DEFAULT) RETURNING *";
    const said = await Promise.all(
      [shop.server.port, proxy.port].map(async (port, at) => {
        await using raw = await RawClient.connect(port, at === 0 ? "whole" : "app");
        const parsed = await raw.exchange([
          encodeParseSql("s", text, [1043]),
          encodeDescribe({ target: "statement", name: "s" }),
          SYNC,
        ]);
        const executed = await raw.exchange([
          ...[
            ["a", "1", "b"],
            ["c", "2", "d"],
          ].flatMap((values) => [
            encodeBind({
              portal: "",
              statement: "s",
              parameterFormats: [],
              parameters: values.map((value) => Buffer.from(value)),
              resultFormats: [1],
            }),
            encodeDescribe({ target: "portal", name: "" }),
            encodeExecute({ portal: "", maxRows: 0 }),
          ]),
          SYNC,
        ]);
        return [parsed, executed];
      }),
    );
    expect(said[1]).toEqual(said[0]);
  });

  test("JDBC's limit on the rows of an INSERT stops nothing", async () => {
    await using raw = await RawClient.connect(proxy.port, "app");
    const insert = (text: string, maxRows: number) => [
      encodeParseSql("", text, []),
      encodeBind({
        portal: "",
        statement: "",
        parameterFormats: [],
        parameters: [],
        resultFormats: [],
      }),
      encodeExecute({ portal: "", maxRows }),
      SYNC,
    ];
    const plain = await raw.exchange(insert("INSERT INTO tenants (slug) VALUES ('a')", 1));
    expect(plain.map(({ type }) => type).join("")).toBe("12CZ");
    const returning = "INSERT INTO tenants (slug) VALUES ('b'), ('c') RETURNING id";
    // As PostgreSQL: who gets as many rows as they asked for is not told that there are no more.
    expect((await raw.exchange(insert(returning, 2))).map(({ type }) => type).join("")).toBe(
      "12DDsZ",
    );
    const fewer = "INSERT INTO tenants (slug) VALUES ('d'), ('e') RETURNING id";
    expect((await raw.exchange(insert(fewer, 1))).map(({ type }) => type).join("")).toBe("12DsZ");
    expect(await shop.rowsOf(SHARDS)).toHaveLength(5);
  });

  const REFUSED: readonly (readonly [string, string])[] = [
    ["INSERT INTO tenants (slug) SELECT name FROM plans", "0A000"],
    ["INSERT INTO twice (no) VALUES (1)", "0A000"],
    ["EXPLAIN ANALYZE INSERT INTO tenants (slug) VALUES ('x')", "0A000"],
  ];
  test.each(REFUSED)("refused with a hint: %s", async (text, code) => {
    const client = await proxy.client("app");
    const error = await failure(client.query(text));
    expect([error.code, Boolean(error.hint)]).toEqual([code, true]);
    expect(await shop.rowsOf(SHARDS)).toEqual([]);
  });
});
