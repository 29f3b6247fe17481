import { beforeAll, describe, expect, test } from "vitest";
import type { ParameterValues } from "../../../src/router/key-value.js";
import { REFUSALS, type RefusalKind } from "../../../src/router/refusal.js";
import { createRouter } from "../../../src/router/router.js";
import { loadParser } from "../../../src/sql/parser.js";
import type { Database } from "../../../src/topology/topology.js";
import { SHOP_FACTS, shop } from "./shop.js";

beforeAll(async () => {
  await loadParser();
});

const bound = (values: readonly (Buffer | null)[], more: Partial<ParameterValues> = {}) => ({
  values,
  formats: [],
  typeOids: [],
  ...more,
});

/** Over all four shards, and what a refusal says of it. */
const CASES: readonly (readonly [RefusalKind, string, Partial<Database>?])[] = [
  ["malformed", "SELEC 1"],
  ["tooComplex", `SELECT ${"NOT ".repeat(2_000)}true`],
  ["unknownTable", "SELECT * FROM newcomers"],
  ["unknownTable", "INSERT INTO newcomers VALUES (1)"],
  ["viewOverShards", "SELECT * FROM totals"],
  ["viewOverShards", "SELECT * FROM grand_totals"],
  ["viewOverShards", "SELECT * FROM newest"],
  ["viewOverShards", "SELECT * FROM newest WHERE tenant_id = 7"],
  ["crossShardJoin", "SELECT * FROM pairs"],
  ["crossShardOrder", "SELECT * FROM in_order"],
  ["viewWrite", "UPDATE open_tasks SET project = 'x' WHERE tenant_id = 7"],
  ["viewWrite", "DELETE FROM by_tenant WHERE tenant_id = 7"],
  ["viewWrite", "INSERT INTO ruled (tenant_id, id) VALUES (7, 1)"],
  ["missingKey", "INSERT INTO order_view (number) VALUES (1)"],
  ["keyUpdateShape", "UPDATE order_view SET tenant = 8 WHERE tenant = 7"],
  [
    "keyUpdateOnConflict",
    "INSERT INTO order_view (tenant) VALUES (1) ON CONFLICT (number) DO UPDATE SET tenant = 2",
  ],
  ["multipleStatements", "SELECT 1; SELECT 2"],
  ["unreadableKey", "SELECT * FROM orders WHERE tenant_id = 'x'"],
  ["unreadableKey", "SELECT * FROM orders WHERE tenant_id = 1.5"],
  ["unreadableKey", "SELECT * FROM codes WHERE code = E'a\\n'"],
  ["unreadableKey", "SELECT * FROM orders WHERE tenant_id = ANY('{{1},{2}}')"],
  ["computedKey", "INSERT INTO orders (tenant_id) VALUES (1 + 1)"],
  ["computedKey", "INSERT INTO orders (tenant_id) VALUES ((SELECT 1))"],
  ["computedKey", "INSERT INTO codes VALUES ('abc'::varchar(2))"],
  ["nullKey", "INSERT INTO orders (tenant_id) VALUES (NULL)"],
  ["nullKey", "INSERT INTO orders (tenant_id) SELECT NULL::bigint FROM plans"],
  ["missingKey", "INSERT INTO orders (id) VALUES (1)"],
  ["missingKey", "INSERT INTO orders DEFAULT VALUES"],
  ["missingKey", "INSERT INTO orders (id, tenant_id) VALUES (1, DEFAULT)"],
  ["missingKey", "EXPLAIN INSERT INTO members (name) VALUES ('a')"],
  ["drawnSelect", "INSERT INTO members (name) SELECT name FROM plans"],
  ["drawnShape", "INSERT INTO members (name, no) VALUES ('a', 1)"],
  ["drawnShape", "INSERT INTO members (name, no) OVERRIDING USER VALUE VALUES ('a', 1)"],
  ["drawnShape", "INSERT INTO members (name) VALUES ((ROW('a', 1)).*)"],
  ["drawnShape", "INSERT INTO members (name) (VALUES ('a'))"],
  ["explicitAlways", "INSERT INTO members (id, name) VALUES (DEFAULT, 'a'), (5, 'b')"],
  ["splitInsert", "INSERT INTO orders (tenant_id) VALUES (1), (2), (3)"],
  [
    "splitInsertWith",
    "WITH x AS (SELECT 1) INSERT INTO orders (tenant_id) VALUES (1), (2), (3)",
    { splitInserts: "rewrite" },
  ],
  ["insertSelect", "INSERT INTO orders (tenant_id) SELECT id FROM plans"],
  ["insertSelect", "INSERT INTO orders SELECT * FROM items"],
  ["insertColumns", "INSERT INTO orders SELECT tenant_id, p.* FROM plans p, settings s"],
  ["insertSelect", "INSERT INTO codes (code) SELECT tenant_id FROM orders"],
  ["crossShardAggregate", "INSERT INTO orders (tenant_id) SELECT tenant_id FROM items LIMIT 3"],
  ["keyUpdate", "UPDATE orders SET tenant_id = 2 WHERE tenant_id = 1"],
  [
    "keyUpdateShape",
    "UPDATE orders SET tenant_id = 2 WHERE tenant_id = 1 RETURNING $1::int",
    { shardKeyUpdates: "rewrite" },
  ],
  [
    "keyUpdateShape",
    "UPDATE orders SET (tenant_id, id) = (2, 3) WHERE tenant_id = 1",
    { shardKeyUpdates: "rewrite" },
  ],
  [
    "computedKey",
    "UPDATE orders SET tenant_id = tenant_id + 1 WHERE tenant_id = 1",
    { shardKeyUpdates: "rewrite" },
  ],
  [
    "nullKey",
    "UPDATE orders SET tenant_id = NULL WHERE tenant_id = 1",
    { shardKeyUpdates: "rewrite" },
  ],
  [
    "keyUpdateOnConflict",
    "INSERT INTO orders (tenant_id) VALUES (1) ON CONFLICT (id) DO UPDATE SET tenant_id = 2",
  ],
  ["crossShardJoin", "SELECT * FROM orders o JOIN items i ON i.order_id = o.id"],
  ["crossShardJoin", "SELECT * FROM orders o, items i WHERE o.tenant_id = 1 AND i.tenant_id = 2"],
  // A project's id is a task's project_id, and no other column's.
  ["crossShardJoin", "SELECT * FROM tasks t JOIN projects p ON p.id = t.id"],
  ["crossShardJoin", "SELECT * FROM tasks t JOIN projects p ON p.id = t.assignee_id"],
  ["crossShardJoin", "SELECT * FROM tasks t JOIN projects p ON p.id = t.project_id OR t.id = 1"],
  ["crossShardJoin", "SELECT * FROM tasks t LEFT JOIN projects p ON t.tenant_id = 7"],
  ["crossShardJoin", "SELECT * FROM stories s JOIN sprints p ON p.no = s.sprint_no"],
  ["crossShardJoin", "SELECT * FROM sprints a JOIN sprints b ON b.no = a.no"],
  // As they were when it was refreshed: the project may have moved since.
  ["crossShardJoin", "SELECT * FROM stored_tasks s JOIN projects p ON p.id = s.project_id"],
  // What ON says of the side that is kept, holds for the other's rows only.
  [
    "crossShardJoin",
    "SELECT * FROM orders o JOIN items i ON true LEFT JOIN tenants t ON t.id = o.tenant_id AND t.id = i.tenant_id",
  ],
  [
    "crossShardJoin",
    "SELECT * FROM orders o, items i WHERE NOT EXISTS (SELECT 1 FROM plans p WHERE o.tenant_id = i.tenant_id)",
  ],
  [
    "crossShardJoin",
    "SELECT * FROM orders o LEFT JOIN (items i CROSS JOIN users u) ON i.tenant_id = o.tenant_id LEFT JOIN tenants t ON t.id = o.tenant_id AND t.id = u.tenant_id",
  ],
  [
    "crossShardJoin",
    "SELECT * FROM (orders o LEFT JOIN items i ON i.tenant_id = o.tenant_id) LEFT JOIN (users u LEFT JOIN tenants t ON t.id = u.tenant_id) ON t.id IS NOT DISTINCT FROM i.tenant_id",
  ],
  // NULL NOT IN (nothing) is true, and NULL NOT IN (something) is not.
  ["crossShardSubquery", "SELECT * FROM tasks WHERE assignee_id NOT IN (SELECT id FROM users)"],
  ["crossShardSubquery", "SELECT NOT EXISTS (SELECT 1 FROM orders)"],
  ["crossShardSubquery", "SELECT EXISTS (SELECT 1 FROM orders OFFSET 10)"],
  ["outerJoin", "SELECT EXISTS (SELECT 1 FROM plans p LEFT JOIN orders o ON o.id = p.id)"],
  ["crossShardSubquery", "SELECT id IN (SELECT assignee_id FROM tasks) FROM users"],
  [
    "crossShardSubquery",
    "SELECT * FROM tasks WHERE project_id IN (SELECT id FROM projects ORDER BY id LIMIT 3)",
  ],
  ["crossShardSubquery", "SELECT * FROM tasks WHERE project_id = (SELECT max(id) FROM projects)"],
  [
    "crossShardSubquery",
    "SELECT * FROM plans WHERE id IN (SELECT tenant_id FROM by_tenant WHERE n > 1)",
  ],
  [
    "crossShardSubquery",
    "WITH RECURSIVE a AS (SELECT * FROM b), b AS (SELECT * FROM orders) SELECT * FROM a",
  ],
  ["crossShardSubquery", "SELECT sum(n) FROM (SELECT id, count(*) AS n FROM orders GROUP BY id) s"],
  ["crossShardSubquery", "SELECT count(*) FROM (SELECT DISTINCT id FROM orders) s"],
  ["crossShardSubquery", "SELECT * FROM (SELECT rank() OVER (ORDER BY id) FROM orders) s"],
  ["crossShardDistinct", "SELECT DISTINCT ON (tenant_id) id AS tenant_id FROM orders"],
  ["crossShardJoin", "SELECT * FROM orders o JOIN codes c ON c.code = o.tenant_id::text"],
  ["crossShardJoin", "SELECT * FROM orders o LEFT JOIN items i ON o.tenant_id = 1"],
  [
    "crossShardJoin",
    "SELECT * FROM orders o, items i LEFT JOIN tenants t ON o.tenant_id = i.tenant_id",
  ],
  ["outerJoin", "SELECT * FROM plans p LEFT JOIN orders o ON o.id = p.id"],
  ["crossShardJoin", "SELECT * FROM orders o FULL JOIN items i ON i.tenant_id = o.tenant_id"],
  ["crossShardSubquery", "SELECT * FROM plans WHERE id IN (SELECT id FROM orders)"],
  ["crossShardSubquery", "SELECT * FROM orders WHERE id IN (SELECT order_id FROM items)"],
  ["crossShardSubquery", "SELECT * FROM (SELECT * FROM orders LIMIT 1) s WHERE s.tenant_id = 1"],
  ["crossShardSetOperation", "SELECT id FROM orders UNION SELECT order_id FROM items"],
  [
    "crossShardSetOperation",
    "SELECT id FROM orders WHERE tenant_id = 1 UNION ALL SELECT id FROM orders WHERE tenant_id = 2",
  ],
  ["crossShardDistinct", "SELECT DISTINCT ON (id) id, tenant_id FROM orders"],
  ["crossShardWindow", "SELECT row_number() OVER (ORDER BY id) FROM orders"],
  ["crossShardWindow", "SELECT sum(id) OVER (PARTITION BY id) FROM orders"],
  ["crossShardHaving", "SELECT id FROM orders GROUP BY id HAVING sum(total) > 1"],
  ["crossShardHaving", "SELECT id FROM orders GROUP BY id HAVING count(*) > 1 OR id = 1"],
  [
    "crossShardHaving",
    "SELECT id FROM orders GROUP BY id HAVING count(*) > 1 AND (count(*) < 9 AND true)",
  ],
  [
    "crossShardHaving",
    "SELECT id FROM orders GROUP BY id HAVING count(*) FILTER (WHERE id > 1) > 1",
  ],
  ["crossShardHaving", "SELECT id FROM orders GROUP BY id HAVING count(*) > 1.5"],
  ["crossShardHaving", "SELECT id FROM orders GROUP BY id HAVING count(*) > -1"],
  ["crossShardHaving", "SELECT id FROM orders GROUP BY id HAVING count(DISTINCT total) > 1"],
  ["crossShardLock", "SELECT count(*) FROM orders FOR UPDATE"],
  ["crossShardAggregate", "SELECT avg(DISTINCT total) FROM orders"],
  ["crossShardAggregate", "SELECT avg(total) FILTER (WHERE id > 1) FROM orders"],
  ["crossShardAggregate", "SELECT round(avg(total), 2) FROM orders"],
  ["crossShardAggregate", "SELECT count(DISTINCT id) FROM orders"],
  ["crossShardAggregate", "SELECT sum(total) + 1 FROM orders"],
  ["crossShardAggregate", "SELECT sum(total)::int FROM orders"],
  ["crossShardAggregate", "SELECT array_agg(id) FROM orders"],
  ["crossShardAggregate", "SELECT coalesce(max(id), 0) FROM orders"],
  ["crossShardAggregate", "SELECT coalesce(sum(id), 1) FROM orders"],
  ["crossShardGroup", "SELECT count(*) FROM orders GROUP BY ROLLUP (id)"],
  ["crossShardGroup", "SELECT count(*), id FROM orders GROUP BY (id), GROUPING SETS ((id), ())"],
  ["crossShardGroup", "SELECT count(*) FROM orders GROUP BY DISTINCT id"],
  ["crossShardGroup", "SELECT max(total) AS order, count(*) FROM orders GROUP BY id"],
  ["crossShardAggregate", "SELECT lower(name) AS name, count(*) FROM users GROUP BY name"],
  ["crossShardOrder", "SELECT id FROM orders GROUP BY tenant_id, 1 ORDER BY max(total)"],
  ["crossShardOrder", "SELECT total, count(*) FROM orders GROUP BY total ORDER BY max(id) + 1"],
  [
    "crossShardOrder",
    "SELECT *, 1 AS total FROM orders o JOIN plans p USING (tenant_id) ORDER BY total",
  ],
  ["crossShardLimit", "SELECT id FROM orders LIMIT 1 + 1"],
  ["crossShardLimit", "SELECT id FROM orders ORDER BY id OFFSET 3 FETCH FIRST 2 ROWS ONLY"],
  ["crossShardLimit", "SELECT id FROM orders ORDER BY id FETCH FIRST 2 ROWS WITH TIES"],
  ["crossShardFunction", "SELECT ours(id) FROM orders"],
  ["crossShardFunction", "SELECT pg_advisory_lock(id) FROM orders"],
  ["crossShardFunction", "DELETE FROM orders WHERE ours(id)"],
  ["crossShardInto", "SELECT * INTO t FROM orders"],
  ["crossShardInto", "CREATE TABLE t AS SELECT * FROM orders"],
  ["omnishardedFunction", "UPDATE journal SET what = now()::text"],
  ["omnishardedFunction", "UPDATE journal SET what = CURRENT_TIMESTAMP::text"],
  ["omnishardedFunction", "UPDATE journal SET what = current_user"],
  ["omnishardedFunction", "DELETE FROM journal WHERE what IN (SELECT what FROM journal LIMIT 1)"],
  ["omnishardedFunction", "UPDATE plans SET id = random()"],
  ["omnishardedFunction", "INSERT INTO plan_view (id) VALUES (random())"],
  [
    "omnishardedDefault",
    "INSERT INTO journal (what) VALUES ('a') ON CONFLICT (what) DO UPDATE SET what = 'b'",
  ],
  ["omnishardedCall", "INSERT INTO plans (id) VALUES (ours(1))"],
  ["omnishardedCall", "DELETE FROM plans WHERE id = setval('s', 1)"],
  ["omnishardedAddress", "DELETE FROM plans WHERE ctid = '(0,1)'"],
  [
    "omnishardedKey",
    "INSERT INTO plans (id) VALUES (1) ON CONFLICT (name) DO UPDATE SET id = excluded.id",
  ],
  ["omnishardedKey", "INSERT INTO plans (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 2"],
  ["omnishardedCopy", "COPY settings (name) FROM STDIN (FORMAT binary)"],
  ["omnishardedCopy", "COPY settings (name) FROM STDIN (DEFAULT 'd')"],
  ["omnishardedCopy", "COPY touched FROM STDIN (FREEZE)"],
  ["omnishardedCopy", "COPY touched FROM STDIN (FORMAT csv, HEADER MATCH)"],
  ["omnishardedCopy", "COPY settings (name) FROM STDIN WHERE id > 1"],
  ["omnishardedCopy", "COPY plans FROM STDIN WHERE id IN (SELECT id FROM orders)"],
  ["omnishardedCall", "COPY plans FROM STDIN WHERE ours(id) > 1"],
  ["omnishardedUnguarded", "INSERT INTO watched VALUES (1)"],
  ["omnishardedTrigger", "UPDATE touched SET id = 2"],
  [
    "omnishardedFromSharded",
    "UPDATE plans SET name = (SELECT 'x' FROM orders WHERE tenant_id = plans.id)",
  ],
  ["omnishardedFromSharded", "UPDATE plans SET name = 'x' FROM orders WHERE orders.id = plans.id"],
  ["unknownFunction", "SELECT ours(1)"],
  ["unknownFunction", "SELECT nowhere_to_be_found(1)"],
  ["unknownFunction", "SELECT setval('s', 1)"],
  ["procedural", "DO $$ BEGIN DELETE FROM orders; END $$"],
  ["procedural", "CALL refresh()"],
  ["sqlPrepare", "PREPARE p AS SELECT 1"],
  ["sqlPrepare", "EXECUTE p"],
  ["cursor", "DECLARE c CURSOR FOR SELECT * FROM orders"],
  [
    "explain",
    "EXPLAIN INSERT INTO orders (tenant_id) VALUES (1), (2), (3)",
    { splitInserts: "rewrite" },
  ],
  ["copyFormat", "COPY orders TO STDOUT (FORMAT csv, HEADER)"],
  ["copyFormat", "COPY (SELECT id FROM orders ORDER BY id) TO STDOUT"],
  ["copyKey", "COPY orders (id, total) FROM STDIN"],
  ["copyFormat", "COPY orders (tenant_id) FROM STDIN (DEFAULT 'd')"],
  ["copyFormat", "COPY members (name) FROM STDIN (DEFAULT 'd')"],
  ["copyServer", "COPY orders FROM '/tmp/x'"],
  ["unsupported", "MERGE INTO orders USING plans ON true WHEN MATCHED THEN DELETE"],
  ["unsupported", "CREATE DATABASE x"],
  ["unsupported", "WITH x AS (DELETE FROM plans RETURNING *) SELECT * FROM x"],
];

describe("refused, with what to do instead", () => {
  for (const [kind, sql, changes] of CASES) {
    test(`${kind}: ${sql}`, () => {
      const route = createRouter(shop(changes), SHOP_FACTS).route(sql, bound([]));
      const { sqlState, hint } = REFUSALS[kind];
      expect(route).toMatchObject({ kind: "refused", sqlState, hint });
      expect(hint.length).toBeGreaterThan(20);
    });
  }

  test("every refusal has a case", () => {
    const covered = new Set<string>(CASES.map(([kind]) => kind));
    const apart = [
      "ambiguousTable",
      "unfitKey",
      "unlikeShards",
      "foreignTable",
      "columnAliases",
      "unknownColumns",
    ];
    expect(Object.keys(REFUSALS).filter((kind) => !covered.has(kind))).toEqual(apart);
  });

  test.each([
    ["bpchar", true, true],
    ["public.citext", true, true],
    ["text", false, true],
    ["numeric", true, true],
    ["public.town", true, false],
  ])(
    "a sharding key whose equality is wider than its bytes: %s",
    (type, isDeterministic, refuses) => {
      const rule = { name: "tenants", schema: null, column: "id", dataType: "varchar" } as const;
      const [tenants] = SHOP_FACTS.tables.get("tenants") ?? [];
      if (tenants === undefined) throw new Error("no tenants");
      const columns = tenants.columns.map((column) =>
        column.name === "id"
          ? { ...column, type, isDeterministic, baseType: type === "public.town" ? "text" : null }
          : column,
      );
      const tables = new Map([...SHOP_FACTS.tables, ["tenants", [{ ...tenants, columns }]]]);
      const router = createRouter(shop({ shardedTables: [rule] }), { ...SHOP_FACTS, tables });
      const { hint } = REFUSALS.unfitKey;
      for (const sql of [
        "SELECT FROM tenants WHERE id = 'a'",
        "INSERT INTO tenants VALUES ('a', 'b')",
        "COPY tenants FROM STDIN",
      ]) {
        const matcher = refuses
          ? { kind: "refused", hint }
          : { kind: expect.not.stringMatching("refused") };
        expect(router.route(sql, null)).toMatchObject(matcher);
      }
      // What puts it right is not refused.
      for (const sql of [
        "ALTER TABLE tenants ALTER id TYPE text",
        "CREATE UNIQUE INDEX ON tenants (name)",
      ])
        expect(router.route(sql, null).kind).not.toBe("refused");
    },
  );

  test("columns that are not known", () => {
    const route = createRouter(shop()).route("INSERT INTO tenants VALUES (1)", null);
    expect(route).toMatchObject({ kind: "refused", hint: REFUSALS.unknownColumns.hint });
  });

  test("column aliases", () => {
    const sql = "SELECT * FROM orders AS o (a, b) WHERE tenant_id = 1";
    const route = createRouter(shop(), SHOP_FACTS).route(sql, null);
    expect(route).toMatchObject({ kind: "refused", hint: REFUSALS.columnAliases.hint });
  });

  test.each([
    ["numeric", 1700],
    ["float8", 701],
    ["bytea", 17],
  ])("a binary key of type %s", (_name, oid) => {
    const router = createRouter(shop(), SHOP_FACTS);
    const parameters = bound([Buffer.alloc(8)], { formats: [1], typeOids: [oid] });
    const route = router.route("SELECT * FROM orders WHERE tenant_id = $1", parameters);
    expect(route).toMatchObject({ kind: "refused", hint: REFUSALS.unreadableKey.hint });
  });

  test.each([
    ["float8", 701, "refused"],
    ["bpchar", 1042, "refused"],
    ["numeric", 1700, "one"],
    ["int4", 23, "one"],
    ["text", 25, "one"],
  ])(
    "the text of a key declared as %s, under which the server may compare otherwise",
    (_name, oid, kind) => {
      const router = createRouter(shop(), SHOP_FACTS);
      const parameters = bound([Buffer.from("7")], { formats: [0], typeOids: [oid] });
      const sql = "SELECT * FROM orders WHERE tenant_id = $1";
      expect(router.route(sql, parameters).kind).toBe(kind);
    },
  );

  test("NULL for the key of a new row", () => {
    const sql = "INSERT INTO orders (tenant_id) VALUES ($1)";
    const route = createRouter(shop(), SHOP_FACTS).route(sql, bound([null]));
    expect(route).toMatchObject({ kind: "refused", sqlState: "23502" });
  });
});
