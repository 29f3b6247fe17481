import { beforeAll, describe, expect, test } from "vitest";
import { createRouter } from "../../../src/router/router.js";
import { loadParser } from "../../../src/sql/parser.js";
import { SHOP_FACTS, shop } from "./shop.js";

beforeAll(async () => {
  await loadParser();
});

const router = createRouter(
  shop({ splitInserts: "rewrite", shardKeyUpdates: "rewrite" }),
  SHOP_FACTS,
);
const texts = (...values: string[]) => ({
  values: values.map((value) => Buffer.from(value)),
  formats: [],
  typeOids: [],
});

describe("UPDATE that assigns the sharding key", () => {
  test.each(["rewrite", "error"] as const)(
    "goes where its rows may be, and finds them at home (%s)",
    (shardKeyUpdates) => {
      const router = createRouter(shop({ shardKeyUpdates }), SHOP_FACTS);
      const home = router.route("SELECT * FROM orders WHERE tenant_id = 2", null);
      const shard = home.kind === "one" ? home.shard : -1;
      expect(
        router.route("UPDATE orders SET tenant_id = 2, total = 1 WHERE id = 5", null),
      ).toMatchObject({ kind: "many", shards: "all", isWrite: true, count: "sum", home: shard });
      expect(
        router.route("UPDATE orders SET tenant_id = $1 WHERE id = $2", texts("2", "5")),
      ).toMatchObject({ kind: "many", home: shard });
      // Nothing moves, so nothing that moving needs is asked for.
      expect(
        router.route("UPDATE tenants SET id = 2, name = 'x' WHERE id = 2 RETURNING id", null),
      ).toEqual({ kind: "one", shard, isWrite: true });
      expect(
        router.route("UPDATE orders SET tenant_id = 2 WHERE tenant_id IN (1, 2, 3, 4)", null),
      ).toMatchObject({ kind: "many", home: shard });
    },
  );
});

describe("LIMIT and OFFSET over several shards", () => {
  const limits = [
    ["SELECT id FROM orders LIMIT 5", null, 5, 0],
    [
      "SELECT id FROM orders LIMIT 5 OFFSET 10 -- end",
      "SELECT id FROM orders LIMIT ((5)::int8 + (10)::int8) OFFSET (0 * (10)::int8) -- end",
      5,
      10,
    ],
    [
      "SELECT id FROM orders OFFSET 10 ROWS LIMIT 5",
      "SELECT id FROM orders OFFSET (0 * (10)::int8) LIMIT ((5)::int8 + (10)::int8)",
      5,
      10,
    ],
    [
      "SELECT (SELECT id FROM plans LIMIT 1) FROM orders OFFSET 3",
      "SELECT (SELECT id FROM plans LIMIT 1) FROM orders OFFSET (0 * (3)::int8)",
      null,
      3,
    ],
    [
      "SELECT id, count(*) FROM orders GROUP BY id LIMIT 5",
      "SELECT id, count(*) FROM orders GROUP BY id LIMIT (NULL::int8 + (5)::int8)",
      5,
      0,
    ],
  ] as const;
  test.each(limits)("%s", (sql, rewrittenSql, limit, offset) => {
    expect(router.route(sql, null)).toMatchObject({ rewrittenSql, merge: { limit, offset } });
  });

  test("parameters, in either format", () => {
    const sql = "SELECT id FROM orders LIMIT $1::int OFFSET $2";
    const binary = {
      values: [Buffer.from([0, 0, 0, 7]), Buffer.from("3")],
      formats: [1, 0],
      typeOids: [],
    };
    for (const parameters of [texts("7", "3"), binary]) {
      expect(router.route(sql, parameters)).toMatchObject({
        rewrittenSql:
          "SELECT id FROM orders LIMIT (($1::int)::int8 + ($2)::int8) OFFSET (0 * ($2)::int8)",
        merge: { limit: 7, offset: 3 },
      });
    }
    expect(router.route(sql, null)).toEqual({ kind: "any" });
  });
});

test("the merge of a grouped and ordered SELECT", () => {
  const sql =
    'SELECT name AS n, nick, count(*), sum(id), min(id), max(id) FROM users GROUP BY 2, name ORDER BY 3 DESC, n NULLS FIRST, nick COLLATE "C", nick DESC NULLS LAST';
  expect(router.route(sql, null)).toMatchObject({
    merge: {
      aggregates: ["group", "group", "count", "sum", "min", "max"],
      orderBy: [
        { column: 2, isDescending: true, nullsFirst: true },
        { column: 0, isDescending: false, nullsFirst: true, isBytewise: true },
        { column: 1, isDescending: false, nullsFirst: false, isBytewise: true },
        { column: 1, isDescending: true, nullsFirst: false, isBytewise: false },
      ],
    },
  });
});

test("an INSERT is taken apart with its own parameters in each part", () => {
  const sql = `INSERT INTO orders (tenant_id, id, total) -- VALUES (9)
    VALUES ($1, 1, $3), ($2, (2), ')'), ($1, 3, $4) RETURNING id, $5::text;`;
  expect(router.route(sql, texts("1", "3", "a", "b", "c"))).toEqual({
    kind: "split",
    parts: [
      {
        shard: 0,
        sql: "INSERT INTO orders (tenant_id, id, total) -- VALUES (9)\n    VALUES ($1, 1, $2), ($1, 3, $3) RETURNING id, $4::text",
        parameters: [0, 2, 3, 4],
        rows: [0, 2],
      },
      {
        shard: 1,
        sql: "INSERT INTO orders (tenant_id, id, total) -- VALUES (9)\n    VALUES ($1, (2), ')') RETURNING id, $2::text",
        parameters: [1, 4],
        rows: [1],
      },
    ],
  });
});

test("an UPDATE of the key is a DELETE that gives the new row, and its INSERT", () => {
  const sql =
    'UPDATE ONLY orders AS o SET tenant_id = $1, "total" = (total + 1), id = id WHERE o.tenant_id = 1 AND id IN (2, 3);';
  expect(router.route(sql, texts("3"))).toEqual({
    kind: "moveRow",
    plan: {
      from: 0,
      to: 1,
      deleteSql:
        "DELETE FROM ONLY orders AS o\nWHERE  o.tenant_id = 1 AND id IN (2, 3)\nRETURNING CAST(($1\n) AS bigint), CAST((id\n) AS bigint), CAST(((total + 1)\n) AS numeric)",
      insertSql:
        'INSERT INTO "public"."orders" ("tenant_id", "id", "total") OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3)',
    },
  });
  expect(router.route(sql, texts("1"))).toEqual({ kind: "one", shard: 0, isWrite: true });
});

test("a COPY knows where the key is", () => {
  const cases = [
    ["COPY orders FROM STDIN", 0, "text"],
    ["COPY orders (id, total, tenant_id) FROM STDIN (FORMAT csv, DELIMITER ';')", 2, "csv"],
    ["COPY orders (id, tenant_id) FROM STDIN BINARY", 1, "binary"],
    ["COPY plans FROM STDIN", -1, "text"],
  ] as const;
  for (const [sql, keyColumn, format] of cases) {
    expect(router.route(sql, null)).toMatchObject({ plan: { keyColumn, format } });
  }
});
