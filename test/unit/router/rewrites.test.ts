import { beforeAll, describe, expect, test } from "vitest";
import { heldRows } from "../../../src/router/move-row.js";
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
      const moves = shardKeyUpdates === "rewrite";
      const found = (shards: unknown) =>
        moves
          ? { kind: "moveRow", plan: { shards, to: shard } }
          : { kind: "many", shards, isWrite: true, count: "sum", home: { shard } };
      const routed = (sql: string, ...values: string[]) =>
        router.route(sql, values.length > 0 ? texts(...values) : null);
      expect(routed("UPDATE orders SET tenant_id = 2, total = 1 WHERE id = 5")).toMatchObject(
        found("all"),
      );
      expect(routed("UPDATE orders SET tenant_id = $1 WHERE id = $2", "2", "5")).toMatchObject(
        found("all"),
      );
      // Nothing moves, so nothing that moving needs is asked for.
      expect(routed("UPDATE tenants SET id = 2, name = 'x' WHERE id = 2 RETURNING id")).toEqual({
        kind: "one",
        shard,
        isWrite: true,
      });
      expect(
        routed("UPDATE orders SET tenant_id = 2 WHERE tenant_id IN (1, 2, 3, 4)"),
      ).toMatchObject(found([0, 1, 2, 3]));
      // What cannot be moved may still stay.
      expect(
        routed("UPDATE orders o SET tenant_id = 2 FROM plans WHERE plans.id = o.id"),
      ).toMatchObject({ kind: "many", home: { shard, refusal: { kind: "refused" } } });
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
    'UPDATE ONLY orders AS o SET tenant_id = $1, "total" = (total + 1), id = id WHERE o.tenant_id = 1 AND id IN (2, $2) RETURNING o.id;';
  expect(router.route(sql, texts("3", "3"))).toEqual({
    kind: "moveRow",
    plan: {
      table: "orders",
      shards: [0],
      to: 1,
      hasReturning: true,
      before: null,
      columns: "id,tenant_id,total",
      take: {
        sql: expect.stringContaining(
          "DELETE FROM ONLY orders AS o\nWHERE ( o.tenant_id = 1 AND id IN (2, $1) \n)\nRETURNING CAST(($2\n) AS bigint), CAST((id\n) AS bigint), CAST(((total + 1)\n) AS numeric), (SELECT ",
        ),
        parameters: [1, 0],
      },
      insertSql:
        'INSERT INTO "public"."orders" AS "o" ("tenant_id", "id", "total") OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3) RETURNING o.id',
    },
  });
  expect(router.route(sql, texts("1", "3"))).toEqual({ kind: "one", shard: 0, isWrite: true });
});

test("rows that others may refer to are locked before they are taken out, and those looked for", () => {
  const route = router.route(
    "UPDATE tenants SET id = 3, name = $1 WHERE name = $2",
    texts("a", "b"),
  );
  expect(route).toMatchObject({ kind: "moveRow", plan: { shards: "all", to: 1 } });
  if (route.kind !== "moveRow") return;
  const { before, take } = route.plan;
  const place = '"tenants".tableoid::pg_catalog.text || "tenants".ctid::pg_catalog.text';
  expect(before?.lock).toEqual({
    sql: `SELECT ${place} FROM tenants\nWHERE ( name = $1\n) FOR UPDATE`,
    parameters: [1],
  });
  expect(before?.referring?.sql).toMatch(
    /^SELECT 'members' WHERE EXISTS .*\("sluice_r|sluice_r\."tenant_id"\)/s,
  );
  expect(before?.touch?.sql).toBe(
    `UPDATE tenants\nSET "id" = "tenants"."id" WHERE ( name = $1\n) RETURNING ${place}`,
  );
  expect(heldRows(take.sql, ["1(0,1)", "1(0,2)"])).toContain(
    `AND ${place} = ANY ('{"1(0,1)","1(0,2)"}'::pg_catalog.text[])`,
  );
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
