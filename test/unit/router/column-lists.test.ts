import { beforeAll, describe, expect, test } from "vitest";
import { createRouter } from "../../../src/router/router.js";
import { loadParser } from "../../../src/sql/parser.js";
import { SHOP_FACTS, shop } from "./shop.js";

/** What a statement leaves out and PostgreSQL would fill in by the columns as they are by then (R53). */

beforeAll(async () => {
  await loadParser();
});

const written = (sql: string) => createRouter(shop(), SHOP_FACTS).written(sql);
const orders = (SHOP_FACTS.tables.get("orders")?.[0]?.columns ?? []).map(({ name }) => name);
const listed = (count: number) =>
  `(${orders
    .slice(0, count)
    .map((name) => `"${name}"`)
    .join(", ")}) `;

describe("the list of columns is written in", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["INSERT INTO orders VALUES (1, 2)", `INSERT INTO orders ${listed(2)}VALUES (1, 2)`],
    ["insert into orders values ($1), ($2)", `insert into orders ${listed(1)}values ($1), ($2)`],
    [
      'INSERT INTO "public"."orders" AS o VALUES (1) RETURNING *',
      `INSERT INTO "public"."orders" AS o ${listed(1)}VALUES (1) RETURNING *`,
    ],
    [
      "/* app */ INSERT INTO orders OVERRIDING SYSTEM VALUE VALUES (1)",
      `/* app */ INSERT INTO orders ${listed(1)}OVERRIDING SYSTEM VALUE VALUES (1)`,
    ],
    ["INSERT INTO orders (SELECT 1, 2)", `INSERT INTO orders ${listed(2)}(SELECT 1, 2)`],
    [
      "INSERT INTO orders SELECT 1 UNION ALL SELECT 2",
      `INSERT INTO orders ${listed(1)}SELECT 1 UNION ALL SELECT 2`,
    ],
    ["INSERT INTO orders TABLE codes", `INSERT INTO orders ${listed(2)}TABLE codes`],
    [
      "INSERT INTO orders SELECT c.* FROM codes c",
      `INSERT INTO orders ${listed(2)}SELECT c.* FROM codes c`,
    ],
    [
      "WITH a AS (INSERT INTO orders VALUES (1) RETURNING 1) INSERT INTO orders VALUES (1, 2)",
      `WITH a AS (INSERT INTO orders ${listed(1)}VALUES (1) RETURNING 1) INSERT INTO orders ${listed(2)}VALUES (1, 2)`,
    ],
    ["EXPLAIN INSERT INTO orders VALUES (1)", `EXPLAIN INSERT INTO orders ${listed(1)}VALUES (1)`],
    ["COPY codes FROM STDIN", 'COPY codes ("code", "data") FROM STDIN'],
    ["COPY public.codes TO STDOUT", 'COPY public.codes ("code", "data") TO STDOUT'],
  ];
  for (const [sql, text] of cases)
    test(sql, () => {
      expect(written(sql)).toBe(text);
      // Once.
      expect(written(text)).toBe(text);
    });
});

describe("as it is", () => {
  const texts = [
    "INSERT INTO orders (tenant_id) VALUES (1)",
    "INSERT INTO orders(tenant_id) VALUES (1)",
    "INSERT INTO orders AS o (tenant_id) VALUES (1)",
    "INSERT INTO orders DEFAULT VALUES",
    "INSERT INTO elsewhere VALUES (1)",
    // PostgreSQL's mistakes to tell.
    "INSERT INTO orders VALUES (1), (1, 2)",
    "INSERT INTO codes VALUES (1, 2, 3, 4, 5, 6)",
    // As many values as nobody knows.
    "INSERT INTO orders VALUES ((ROW(1, 2)).*)",
    "WITH codes AS (SELECT 1, 2) INSERT INTO orders SELECT * FROM codes",
    "COPY codes (code) FROM STDIN",
    "COPY (SELECT 1) TO STDOUT",
    "COPY BINARY codes FROM STDIN",
    "SELECT 'insert into orders values (1)'",
    "DELETE FROM orders",
  ];
  for (const sql of texts) test(sql, () => expect(written(sql)).toBe(sql));
});

test("a table without its facts is left as it is", () => {
  const sql = "INSERT INTO orders VALUES (1)";
  expect(createRouter(shop()).written(sql)).toBe(sql);
});
