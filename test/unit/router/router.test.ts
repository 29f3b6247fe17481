import { beforeAll, describe, expect, test } from "vitest";
import type { ParameterValues } from "../../../src/router/key-value.js";
import type { Route } from "../../../src/router/route.js";
import { createRouter } from "../../../src/router/router.js";
import { loadParser } from "../../../src/sql/parser.js";
import { type KeyType, shardOfText } from "../../../src/topology/hash.js";
import { SHOP_FACTS, shop } from "./shop.js";

beforeAll(async () => {
  await loadParser();
});

/** Each text parameter as the client would bind it. */
export function texts(...values: readonly (string | null)[]): ParameterValues {
  return {
    values: values.map((value) => (value === null ? null : Buffer.from(value))),
    formats: [],
    typeOids: [],
  };
}

const shardOf = (key: string | number, type: KeyType = "bigint") =>
  shardOfText(String(key), type, 4);

/** The route in short: "1" one shard, "1w" a write, "any", "0,2" several, "all w", "first w". */
function brief(route: Route): string {
  switch (route.kind) {
    case "one":
      return `${route.shard}${route.isWrite ? "w" : ""}`;
    case "many": {
      const where = route.shards === "all" ? "all" : route.shards.join(",");
      return `${where}${route.isWrite ? " w" : ""}${route.rows === "first" ? " first" : ""}`;
    }
    case "refused":
      return `refused: ${route.reason}`;
    default:
      return route.kind;
  }
}

const one = (key: string | number, type?: KeyType) => `${shardOf(key, type)}`;
const write = (key: string | number, type?: KeyType) => `${shardOf(key, type)}w`;
const set = (...keys: number[]) =>
  [...new Set(keys.map((key) => shardOf(key)))].sort((a, b) => a - b).join(",");
const UUID = "f54c49c1-47f6-4ca1-a108-782286e447c3";

type Case = readonly [sql: string, expected: () => string, parameters?: ParameterValues];

const CASES: Readonly<Record<string, readonly Case[]>> = {
  "one key": [
    ["SELECT * FROM orders WHERE tenant_id = 7", () => one(7)],
    ["select * from orders where 7 = tenant_id and id > 3", () => one(7)],
    ["SELECT * FROM orders WHERE tenant_id = '7'", () => one(7)],
    ["SELECT * FROM orders WHERE tenant_id = '7'::bigint", () => one(7)],
    ["SELECT * FROM orders WHERE tenant_id = CAST('7' AS int8)", () => one(7)],
    ["SELECT * FROM orders WHERE tenant_id = -7", () => one(-7)],
    ["SELECT * FROM orders WHERE tenant_id = - 7", () => one(-7)],
    [
      "SELECT * FROM orders WHERE tenant_id = 9223372036854775807",
      () => one("9223372036854775807"),
    ],
    ["SELECT * FROM orders WHERE tenant_id = $1", () => one(7), texts("7")],
    [
      "SELECT * FROM orders WHERE tenant_id = $2::bigint AND id = $1",
      () => one(8),
      texts("1", "8"),
    ],
    ["SELECT * FROM public.orders o WHERE o.tenant_id = 7", () => one(7)],
    ['SELECT * FROM "orders" WHERE public."orders"."tenant_id" = 7', () => one(7)],
    ["SELECT * FROM ONLY orders WHERE tenant_id IS NOT DISTINCT FROM 7", () => one(7)],
    ["SELECT * FROM orders WHERE (tenant_id, id) = (7, 1)", () => one(7)],
    [
      "/* trace 1 */ SELECT 'é', * FROM orders WHERE name = 'ü' AND tenant_id = 7 -- end",
      () => one(7),
    ],
    [`SELECT * FROM sessions WHERE id = '${UUID}'`, () => one(UUID, "uuid")],
    [`SELECT * FROM sessions WHERE id = '${UUID}'::uuid`, () => one(UUID, "uuid")],
    ["SELECT * FROM codes WHERE code = 'it''s'", () => one("it's", "varchar")],
    ["SELECT * FROM codes WHERE code = $$it's$$::text", () => one("it's", "varchar")],
    ["SELECT * FROM orders WHERE tenant_id = 7 FOR UPDATE", () => write(7)],
    ["SELECT *, ours(id) FROM orders WHERE tenant_id = 7", () => write(7)],
    [
      "SELECT count(DISTINCT id), avg(total) FROM orders WHERE tenant_id = 7 HAVING count(*) > 1",
      () => one(7),
    ],
    ["SELECT EXISTS (SELECT FROM orders WHERE tenant_id = 7)", () => one(7)],
    ["EXPLAIN SELECT * FROM orders WHERE tenant_id = 7", () => one(7)],
    ["SELECT * FROM orders WHERE tenant_id = NULL", () => "0"],
    ["SELECT * FROM orders WHERE tenant_id = $1", () => "0", texts(null)],
    ["SELECT * FROM orders WHERE tenant_id = $1", () => "any"],
    ["UPDATE orders SET total = 1 WHERE tenant_id = 7 RETURNING *", () => write(7)],
    ["DELETE FROM orders WHERE tenant_id = $1 AND id = $2", () => write(7), texts("7", "1")],
  ],
  "several keys": [
    ["SELECT * FROM orders WHERE tenant_id IN (1, 2, 3)", () => set(1, 2, 3)],
    ["SELECT * FROM orders WHERE tenant_id IN (1, 1)", () => one(1)],
    ["SELECT * FROM orders WHERE tenant_id IN ($1, $2, NULL)", () => set(1, 2), texts("1", "2")],
    ["SELECT * FROM orders WHERE tenant_id = ANY($1)", () => set(1, 2), texts("{1,2}")],
    ["SELECT * FROM orders WHERE tenant_id = ANY('{1,2}'::bigint[])", () => set(1, 2)],
    ["SELECT * FROM orders WHERE tenant_id = ANY(ARRAY[1, 2])", () => set(1, 2)],
    ["SELECT * FROM orders WHERE tenant_id = 1 OR tenant_id = 2", () => set(1, 2)],
    [
      "SELECT * FROM orders WHERE (tenant_id = 1 AND id = 5) OR (id = 4 AND tenant_id = 2)",
      () => set(1, 2),
    ],
    ["SELECT * FROM orders WHERE (tenant_id, id) IN ((1, 5), (2, 6))", () => set(1, 2)],
    ["SELECT * FROM orders WHERE tenant_id = 1 OR id = 2", () => "all"],
    ["SELECT * FROM orders WHERE NOT tenant_id = 1", () => "all"],
    ["SELECT * FROM orders WHERE tenant_id <> 1", () => "all"],
    ["SELECT * FROM orders WHERE tenant_id + 0 = 1", () => "all"],
    ["SELECT * FROM orders WHERE tenant_id NOT IN (1, 2)", () => "all"],
    ["SELECT * FROM orders WHERE tenant_id BETWEEN 1 AND 2", () => "all"],
    ["SELECT * FROM orders", () => "all"],
    ["DELETE FROM orders WHERE tenant_id IN (1, 2)", () => `${set(1, 2)} w`],
    ["UPDATE orders SET total = 0 WHERE id = 5", () => "all w"],
    ["DELETE FROM orders", () => "all w"],
    ["EXPLAIN SELECT * FROM orders", () => "all"],
  ],
  joins: [
    [
      "SELECT * FROM orders o JOIN items i ON i.tenant_id = o.tenant_id WHERE o.tenant_id = 7",
      () => one(7),
    ],
    ["SELECT * FROM orders o, items i WHERE i.tenant_id = 7 AND o.tenant_id = 7", () => one(7)],
    ["SELECT * FROM orders o JOIN tenants t ON t.id = o.tenant_id WHERE t.id = 7", () => one(7)],
    ["SELECT * FROM orders JOIN items USING (tenant_id) WHERE tenant_id = 7", () => one(7)],
    [
      "SELECT * FROM orders o LEFT JOIN items i ON i.tenant_id = o.tenant_id WHERE o.tenant_id = 7",
      () => one(7),
    ],
    ["SELECT * FROM orders o JOIN items i ON i.tenant_id = o.tenant_id", () => "all"],
    ["SELECT * FROM orders o JOIN plans p ON p.id = o.id WHERE o.tenant_id = 7", () => one(7)],
    ["SELECT * FROM orders o LEFT JOIN plans p ON p.id = o.id", () => "all"],
    ["SELECT * FROM plans p LEFT JOIN orders o ON o.tenant_id = 7", () => one(7)],
    [
      "UPDATE orders o SET total = 1 FROM items i WHERE i.tenant_id = o.tenant_id AND o.tenant_id = 7",
      () => write(7),
    ],
    ["DELETE FROM orders o USING items i WHERE i.tenant_id = o.tenant_id", () => "all w"],
  ],
  views: [
    ["SELECT * FROM order_view WHERE tenant = 7", () => one(7)],
    ["SELECT * FROM order_view AS v (a, b) WHERE v.b = 7", () => one(7)],
    ["SELECT * FROM view_view WHERE t = $1", () => one(7), texts("7")],
    ["SELECT * FROM seven", () => one(7)],
    ["SELECT * FROM seven WHERE tenant_id = 7 OR id = 3", () => one(7)],
    ["SELECT * FROM order_view", () => "all"],
    ["SELECT count(*), max(number) FROM view_view", () => "all"],
    ["SELECT * FROM open_tasks WHERE tenant_id = 7 ORDER BY id LIMIT 3", () => one(7)],
    ["SELECT count(*) FROM open_tasks", () => "all"],
    ["SELECT * FROM open_tasks o JOIN comments c ON c.task_id = o.id", () => "all"],
    ["SELECT * FROM open_tasks o LEFT JOIN plans p ON p.id = o.id", () => "all"],
    ["SELECT * FROM by_tenant ORDER BY tenant_id LIMIT 2", () => "all"],
    ["SELECT * FROM by_tenant b JOIN tenants t ON t.id = b.tenant_id", () => "all"],
    ["SELECT n FROM by_tenant WHERE tenant_id IN (1, 2, 3)", () => set(1, 2, 3)],
    ["SELECT * FROM in_order ORDER BY id", () => "all"],
    ["SELECT count(*) FROM in_order", () => "all"],
    ["SELECT * FROM stored_tasks s JOIN tenants t ON t.id = s.tenant_id", () => "all"],
    ["SELECT * FROM plan_view", () => "any"],
    ["WITH newest AS (SELECT 1) SELECT * FROM newest", () => "any"],
    ["SELECT * FROM tenants_old WHERE id = 7", () => one(7)],
    ["UPDATE order_view SET number = 1 WHERE tenant = 7", () => write(7)],
    ["UPDATE view_view SET number = 1 FROM items i WHERE i.tenant_id = t", () => "all w"],
    ["DELETE FROM view_view WHERE number = 1", () => "all w"],
    ["INSERT INTO order_view VALUES (1, 7)", () => write(7)],
    ["INSERT INTO order_view VALUES (1, 7), (2, 7) RETURNING number", () => write(7)],
    [
      "INSERT INTO order_view (number, tenant) SELECT 1, 7 FROM UNNEST('{1}'::int[])",
      () => write(7),
    ],
    ["INSERT INTO view_view (t, number) VALUES (7, 1) RETURNING t", () => write(7)],
    [
      "INSERT INTO order_view (number, tenant) SELECT order_id, tenant_id FROM items",
      () => "all w",
    ],
  ],
  "joins by foreign keys": [
    ["SELECT * FROM tasks t JOIN projects p ON p.id = t.project_id", () => "all"],
    [
      "SELECT * FROM tasks t, projects p WHERE t.project_id = p.id AND t.tenant_id = 7",
      () => one(7),
    ],
    [
      "SELECT * FROM tasks t JOIN projects p ON p.id = project_id WHERE p.tenant_id = 7",
      () => one(7),
    ],
    [
      "SELECT t.* FROM tasks t LEFT JOIN users u ON u.id = t.assignee_id ORDER BY t.id",
      () => "all",
    ],
    [
      "SELECT * FROM users u LEFT JOIN tasks t ON u.id = t.assignee_id AND t.title = ''",
      () => "all",
    ],
    ["SELECT * FROM tasks t RIGHT JOIN users u ON u.id = t.assignee_id", () => "all"],
    [
      "SELECT * FROM tasks t LEFT JOIN projects p ON p.id = t.project_id AND p.tenant_id = 7",
      () => "all",
    ],
    [
      "SELECT count(*) FROM comments c JOIN tasks t ON c.task_id = t.id JOIN projects p ON t.project_id = p.id",
      () => "all",
    ],
    ["SELECT * FROM comments a JOIN comments b ON a.task_id = b.task_id", () => "all"],
    ["SELECT * FROM tasks a JOIN tasks b USING (id)", () => "all"],
    [
      "SELECT p.name, count(t.id) FROM projects p LEFT JOIN tasks t ON t.project_id = p.id GROUP BY p.name",
      () => "all",
    ],
    [
      "SELECT t.project_id, avg(t.id) FROM tasks t GROUP BY t.project_id HAVING count(*) > 1",
      () => "all",
    ],
    ["SELECT count(DISTINCT t.project_id) FROM tasks t", () => "all"],
    ["SELECT DISTINCT p.* FROM projects p JOIN memberships m ON m.project_id = p.id", () => "all"],
    [
      "SELECT u.* FROM users u JOIN memberships m ON m.user_id = u.id JOIN projects p ON p.id = m.project_id",
      () => "all",
    ],
    [
      "SELECT * FROM tasks WHERE project_id IN (SELECT id FROM projects WHERE name = 'x')",
      () => "all",
    ],
    [
      "SELECT * FROM tasks WHERE tenant_id = 7 AND (title = '' OR project_id IN (SELECT id FROM projects))",
      () => one(7),
    ],
    ["SELECT * FROM tasks WHERE NOT id IN (SELECT task_id FROM comments)", () => "all"],
    [
      "SELECT * FROM projects p WHERE EXISTS (SELECT 1 AS a FROM tasks t WHERE t.project_id = p.id LIMIT 1)",
      () => "all",
    ],
    [
      "SELECT id, (SELECT count(*) FROM tasks t WHERE t.project_id = p.id) AS n FROM projects p",
      () => "all",
    ],
    [
      "SELECT * FROM projects p LEFT JOIN LATERAL (SELECT id FROM tasks t WHERE t.project_id = p.id ORDER BY id LIMIT 1) x ON true",
      () => "all",
    ],
    [
      "SELECT * FROM stories s JOIN sprints p ON p.tenant_id = s.tenant_id AND p.no = s.sprint_no",
      () => "all",
    ],
    ["UPDATE tasks SET title = '' FROM projects p WHERE p.id = project_id", () => "all w"],
    [
      "DELETE FROM tasks t USING projects p WHERE p.id = t.project_id AND p.tenant_id = 7",
      () => write(7),
    ],
    [
      "DELETE FROM comments WHERE task_id IN (SELECT id FROM tasks WHERE title = 'x')",
      () => "all w",
    ],
    [
      "INSERT INTO comments (tenant_id, task_id) SELECT t.tenant_id, t.id FROM tasks t JOIN projects p ON p.id = t.project_id",
      () => "all w",
    ],
  ],
  "subqueries and WITH": [
    ["WITH x AS (SELECT * FROM orders) SELECT * FROM x", () => "all"],
    ["WITH x AS (SELECT * FROM orders) SELECT * FROM x WHERE tenant_id = 7", () => one(7)],
    ["WITH x (t) AS (SELECT tenant_id FROM orders) SELECT * FROM x WHERE t = 7", () => one(7)],
    [
      "WITH x AS (SELECT tenant_id, sum(total) AS s FROM orders GROUP BY 1) SELECT max(s) FROM x",
      () => "all",
    ],
    ["WITH x AS (SELECT * FROM orders) SELECT * FROM x a JOIN x b USING (tenant_id)", () => "all"],
    [
      "SELECT s.total FROM (SELECT total, tenant_id FROM orders) s WHERE s.tenant_id = 7",
      () => one(7),
    ],
    ["SELECT count(*) FROM (SELECT DISTINCT tenant_id, id FROM orders) s", () => "all"],
    ["SELECT DISTINCT id FROM orders ORDER BY id LIMIT 3", () => "all"],
    ["SELECT EXISTS (SELECT 1 FROM orders WHERE id = 5 LIMIT 1) AS found", () => "all"],
    ["SELECT EXISTS (SELECT 1 FROM plans)", () => "any"],
    ["SELECT * FROM orders NATURAL JOIN plans ORDER BY total", () => "all"],
    ["SELECT * FROM orders NATURAL JOIN items WHERE tenant_id = 7", () => one(7)],
    ["SELECT nextval('s')", () => "0"],
    ["SELECT DISTINCT count(*) FROM orders GROUP BY tenant_id", () => "all"],
    [
      "SELECT * FROM orders o WHERE tenant_id = 7 AND EXISTS (SELECT 1 FROM items i WHERE i.tenant_id = o.tenant_id)",
      () => one(7),
    ],
    [
      "SELECT * FROM orders o WHERE EXISTS (SELECT 1 FROM items i WHERE i.tenant_id = o.tenant_id LIMIT 1)",
      () => "all",
    ],
    [
      "SELECT * FROM orders o WHERE NOT EXISTS (SELECT 1 FROM items i WHERE i.tenant_id = o.tenant_id AND i.tenant_id = 7)",
      () => "all",
    ],
    [
      "WITH x AS (SELECT * FROM orders WHERE tenant_id = 7) SELECT * FROM x JOIN items i ON i.tenant_id = 7",
      () => one(7),
    ],
    [
      "WITH x AS (DELETE FROM orders WHERE tenant_id = 7 RETURNING *) INSERT INTO items (tenant_id, qty) SELECT 7, 1 FROM x",
      () => write(7),
    ],
    [
      "WITH x AS (DELETE FROM orders WHERE tenant_id = 7 RETURNING *) SELECT * FROM x",
      () => write(7),
    ],
    ["SELECT * FROM (SELECT * FROM orders WHERE tenant_id = 7) s", () => one(7)],
    [
      "SELECT * FROM orders WHERE tenant_id = 7 UNION ALL SELECT * FROM orders WHERE tenant_id = 7",
      () => one(7),
    ],
    ["SELECT * FROM orders WHERE id IN (SELECT id FROM plans)", () => "all"],
    [
      "SELECT * FROM orders o WHERE EXISTS (SELECT 1 FROM (SELECT 1 AS tenant_id) d WHERE tenant_id = 7)",
      () => "all",
    ],
    [
      "SELECT * FROM orders o, LATERAL (SELECT * FROM items i WHERE i.tenant_id = o.tenant_id LIMIT 3) x",
      () => "all",
    ],
  ],
  insert: [
    ["INSERT INTO orders (id, tenant_id) VALUES (1, 7)", () => write(7)],
    ["INSERT INTO orders VALUES (7, 1)", () => write(7)],
    [
      "INSERT INTO orders (tenant_id, id) VALUES ($1, $2) RETURNING id",
      () => write(7),
      texts("7", "1"),
    ],
    ["INSERT INTO orders (tenant_id, id) VALUES (7, 1), (7, 2)", () => write(7)],
    [
      "INSERT INTO orders (tenant_id, id) VALUES (7, 1) ON CONFLICT (tenant_id, id) DO UPDATE SET total = 1",
      () => write(7),
    ],
    ["INSERT INTO orders AS o (tenant_id) VALUES (7) ON CONFLICT DO NOTHING", () => write(7)],
    ["INSERT INTO orders (tenant_id, id) SELECT 7, id FROM plans", () => write(7)],
    [
      "INSERT INTO orders (tenant_id, id) SELECT tenant_id, order_id FROM items WHERE tenant_id = 7",
      () => write(7),
    ],
    ["INSERT INTO orders (tenant_id, id) SELECT tenant_id, order_id FROM items", () => "all w"],
    [`INSERT INTO sessions (id) VALUES ('${UUID}')`, () => write(UUID, "uuid")],
    ["INSERT INTO codes VALUES ('abc', 'x')", () => write("abc", "varchar")],
  ],
  omnisharded: [
    ["SELECT * FROM plans WHERE id = 1", () => "any"],
    ["SELECT * FROM plans WHERE tenant_id = 1", () => "any"],
    ["SELECT 1", () => "any"],
    ["SELECT * FROM plan_view", () => "any"],
    ["SELECT now(), random()", () => "any"],
    ["SELECT * FROM pg_catalog.pg_class", () => "0"],
    ["SELECT 'orders'::regclass::oid", () => "0"],
    ["SELECT pg_backend_pid()", () => "any"],
    ["SELECT * FROM pg_class JOIN information_schema.tables ON true", () => "0"],
    ["SELECT * FROM plans FOR UPDATE", () => "0w"],
    ["SELECT pg_advisory_lock(1)", () => "0w"],
    ["SELECT set_config('a.b', 'x', true)", () => "all first"],
    ["INSERT INTO plans (id, name) VALUES (1, lower('A')) RETURNING *", () => "replayed"],
    ["INSERT INTO plans VALUES (1, 'x', 2), (3, $1, $2)", () => "replayed"],
    ["INSERT INTO plans (id, name) VALUES (1, 'x') ON CONFLICT DO NOTHING", () => "replayed"],
    [
      "INSERT INTO plans AS p (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET id = excluded.id, name = p.name || 'x'",
      () => "replayed",
    ],
    ["INSERT INTO plans (id) SELECT id FROM settings", () => "replayed"],
    ["INSERT INTO plans (id) VALUES (random())", () => "replayed"],
    ["INSERT INTO plans (name) VALUES (current_user)", () => "replayed"],
    ["INSERT INTO touched (id) VALUES (1)", () => "replayed"],
    ["INSERT INTO journal (what) VALUES ('x')", () => "replayed"],
    ["INSERT INTO plan_view (id) VALUES (1)", () => "all w first"],
    ["UPDATE plans SET name = 'x' WHERE id IN (SELECT id FROM settings)", () => "replayed"],
    ["UPDATE plans SET name = (SELECT max(total) FROM orders)", () => "computed"],
    [
      "DELETE FROM plans WHERE id NOT IN (SELECT id FROM orders o WHERE o.total > 1)",
      () => "computed",
    ],
    ["INSERT INTO plans (id) SELECT id FROM orders", () => "computed"],
    ["UPDATE plans SET id = 2", () => "all w first"],
    ["UPDATE journal SET what = 'x'", () => "all w first"],
    ["DELETE FROM plans WHERE id = $1", () => "replayed", texts("1")],
    ["DELETE FROM plans WHERE ctid IN (SELECT ctid FROM plans LIMIT 1)", () => "replayed"],
    ["DELETE FROM journal", () => "all w first"],
    ["INSERT INTO settings VALUES (1, 'n', '2026-01-01')", () => "replayed"],
    ["INSERT INTO settings (name) VALUES ('n')", () => "replayed"],
    ["COPY plans FROM STDIN", () => "copyIn"],
    ["COPY settings (name) FROM STDIN", () => "replayed"],
    ["COPY touched FROM STDIN", () => "replayed"],
    ["COPY journal FROM STDIN (FORMAT csv)", () => "replayed"],
    ["COPY journal FROM STDIN (FORMAT binary)", () => "copyIn"],
    ["COPY plans FROM STDIN WHERE random() < 0.5", () => "replayed"],
  ],
  utility: [
    ["CREATE TABLE t (a int)", () => "all w first"],
    ["TRUNCATE orders", () => "all w first"],
    ["GRANT SELECT ON orders TO bob", () => "all w first"],
    ["CREATE INDEX CONCURRENTLY i ON orders (id)", () => "all first"],
    ["VACUUM orders", () => "all first"],
    ["SHOW work_mem", () => "any"],
    ["LISTEN x", () => "0"],
    ["COPY orders FROM STDIN", () => "copyIn"],
    ["COPY orders TO STDOUT", () => "all"],
    ["COPY plans TO STDOUT", () => "any"],
    [
      "COPY (SELECT * FROM orders WHERE tenant_id = 7) TO STDOUT WITH (FORMAT csv, HEADER)",
      () => one(7),
    ],
    ["DECLARE c CURSOR FOR SELECT * FROM orders WHERE tenant_id = 7", () => one(7)],
    ["", () => "any"],
  ],
};

for (const [name, cases] of Object.entries(CASES)) {
  describe(name, () => {
    for (const [sql, expected, parameters] of cases) {
      test(sql, () => {
        const route = createRouter(shop(), SHOP_FACTS).route(sql, parameters ?? null);
        expect(brief(route)).toBe(expected());
      });
    }
  });
}
