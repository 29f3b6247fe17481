import { beforeAll, describe, expect, test } from "vitest";
import type { Route } from "../../../src/router/route.js";
import { createRouter } from "../../../src/router/router.js";
import { type ColumnFacts, schemaFacts } from "../../../src/router/schema-facts.js";
import { loadParser } from "../../../src/sql/parser.js";
import { SHOP_FACTS, shop } from "./shop.js";

/** A sharding key that a statement leaves to its default: what is drawn, and what is sent then. */

beforeAll(async () => {
  await loadParser();
});

const column = (name: string, type: string, defaultSql: string | null): ColumnFacts => ({
  name,
  type,
  defaultSql,
  isGenerated: false,
  isIdentity: false,
  isNotNull: false,
  isAlways: false,
  isBytewise: true,
  isDeterministic: true,
});

const NEXTVAL = "nextval('public.tenants_id_seq'::regclass)";

/** tenants of the shop with a default for its key. */
function routerWith(defaultSql: string, type = "bigint") {
  const [tenants] = SHOP_FACTS.tables.get("tenants") ?? [];
  if (tenants === undefined) throw new Error("no tenants");
  const columns = [
    column("id", type, defaultSql),
    column("name", "text", null),
    column("plan", "integer", "1"),
  ];
  const tables = new Map([...SHOP_FACTS.tables, ["tenants", [{ ...tenants, columns }]]]);
  const rule = { name: "tenants", schema: null, column: "id", dataType: "varchar" } as const;
  const changes = type === "text" ? { shardedTables: [rule] } : {};
  return createRouter(shop({ shardCount: 2, ...changes }), { ...SHOP_FACTS, tables });
}

function planOf(route: Route) {
  if (route.kind !== "draw") throw new Error(`not drawn: ${JSON.stringify(route)}`);
  return route.plan;
}

/** With _ in the places of values. */
const shown = (route: Route) =>
  planOf(route)
    .text.map((piece) => piece ?? "_")
    .join("");

describe("where the values go", () => {
  const texts: readonly (readonly [string, string, number, number])[] = [
    [
      "INSERT INTO tenants (name) VALUES ('a')",
      `INSERT INTO tenants (name, "id") VALUES ('a', _)`,
      1,
      0,
    ],
    [
      "insert  into public . tenants as values(name /* ) */, plan)values($2,$1)returning id;",
      `insert  into public . tenants as values(name /* ) */, plan, "id")values($2,$1, _)returning id;`,
      1,
      1,
    ],
    [
      `/* insert into x */ INSERT INTO "tenants" -- (
        VALUES (DEFAULT, '(', 5), (7, 'b', DEFAULT) ON CONFLICT (id) DO NOTHING RETURNING *`,
      `/* insert into x */ INSERT INTO "tenants" -- (
        ("id", "name", "plan") VALUES ( _, '(', 5), (7, 'b', DEFAULT) ON CONFLICT (id) DO NOTHING RETURNING *`,
      1,
      2,
    ],
    [
      "INSERT INTO tenants (name, id) VALUES ('a', DEFAULT), (f(1, 2), DEFAULT -- it\n) RETURNING id",
      "INSERT INTO tenants (name, id) VALUES ('a', _), (f(1, 2), _) RETURNING id",
      2,
      2,
    ],
    ["INSERT INTO tenants DEFAULT VALUES", `INSERT INTO tenants ("id") VALUES (_)`, 1, 0],
    [
      "WITH insert AS (SELECT 1) INSERT INTO tenants (name) VALUES ('a') RETURNING id",
      `WITH insert AS (SELECT 1) INSERT INTO tenants (name, "id") VALUES ('a', _) RETURNING id`,
      1,
      1,
    ],
    [
      "WITH a AS (INSERT INTO orders (tenant_id) VALUES (1)), b AS (INSERT INTO tenants (name) VALUES ('a') RETURNING id) SELECT * FROM b",
      `WITH a AS (INSERT INTO orders (tenant_id) VALUES (1)), b AS (INSERT INTO tenants (name, "id") VALUES ('a', _) RETURNING id) SELECT * FROM b`,
      1,
      Infinity,
    ],
    [
      "INSERT INTO members (name) VALUES ('a')",
      `INSERT INTO members (name, "id") OVERRIDING SYSTEM VALUE VALUES ('a', _)`,
      1,
      0,
    ],
    [
      "INSERT INTO members (id, name) OVERRIDING USER VALUE VALUES (5, 'a')",
      "INSERT INTO members (id, name) OVERRIDING SYSTEM VALUE VALUES ( _, 'a')",
      1,
      0,
    ],
    [
      "INSERT INTO members (id, name) OVERRIDING SYSTEM VALUE VALUES (DEFAULT, 'a'), (5, 'b')",
      "INSERT INTO members (id, name) OVERRIDING SYSTEM VALUE VALUES ( _, 'a'), (5, 'b')",
      1,
      0,
    ],
  ];
  test.each(texts)("%s", (sql, text, count, mostRows) => {
    const route = routerWith(NEXTVAL).route(sql, null);
    const plan = planOf(route);
    expect(shown(route)).toBe(text);
    expect([plan.draws.map((draw) => draw.count), plan.mostRows]).toEqual([[count], mostRows]);
  });

  test("texts that share an analysis have their own places", () => {
    const router = routerWith(NEXTVAL);
    for (const name of ["'a'", "'a longer one'", "$$ , ( $$"]) {
      const sql = `/* ${name} */ INSERT INTO tenants (name) VALUES (${name}), ('x')`;
      expect(shown(router.route(sql, null))).toBe(
        `/* ${name} */ INSERT INTO tenants (name, "id") VALUES (${name}, _), ('x', _)`,
      );
    }
  });

  test("what gives its key is not drawn for, nor what PostgreSQL refuses anyway", () => {
    const router = routerWith(NEXTVAL);
    for (const sql of [
      "INSERT INTO tenants (id, name) VALUES (1, 'a')",
      "INSERT INTO tenants VALUES (1)",
      "INSERT INTO members (id, name) VALUES (1, 'a')",
    ])
      expect([sql, router.route(sql, null).kind]).toEqual([sql, "one"]);
    for (const sql of [
      "INSERT INTO tenants (name) VALUES ('a', 1)",
      "INSERT INTO tenants (name, plan) VALUES ('a')",
      "INSERT INTO tenants (name) VALUES ('a'), ('b', 1)",
    ])
      expect([sql, router.route(sql, null)]).toEqual([sql, { kind: "any" }]);
  });
});

describe("with the values", () => {
  test("constants, dealt out to the shards of their keys whatever split_inserts says", () => {
    const router = routerWith(NEXTVAL);
    const sql = "INSERT INTO tenants (name) VALUES ($1), ($2), ($3) RETURNING id";
    const plan = planOf(router.route(sql, null));
    const drawn = router.routeDrawn(plan, ["1", "3", "2"], null);
    expect(drawn.sql).toBe(
      `INSERT INTO tenants (name, "id") VALUES ($1, '1'), ($2, '3'), ($3, '2') RETURNING id`,
    );
    const head = `INSERT INTO tenants (name, "id") VALUES`;
    expect(drawn.route).toEqual({
      kind: "split",
      parts: [
        {
          shard: 0,
          sql: `${head} ($1, '1'), ($2, '2') RETURNING id`,
          parameters: [0, 2],
          rows: [0, 2],
        },
        { shard: 1, sql: `${head} ($1, '3') RETURNING id`, parameters: [1], rows: [1] },
      ],
    });
  });

  test("a default of NULL is refused as any NULL is", () => {
    const router = routerWith("NULL::bigint");
    const plan = planOf(router.route("INSERT INTO tenants (name) VALUES ('a')", null));
    const { sql, route } = router.routeDrawn(plan, [null], null);
    expect(sql).toBe(`INSERT INTO tenants (name, "id") VALUES ('a', NULL)`);
    expect(route).toMatchObject({ kind: "refused", sqlState: "23502" });
  });

  test("no value is more than a constant", () => {
    const router = routerWith("'x'::text", "text");
    const plan = planOf(router.route("INSERT INTO tenants (name) VALUES ('a')", null));
    expect(router.routeDrawn(plan, ["it's \\ $1 --"], null).sql).toBe(
      `INSERT INTO tenants (name, "id") VALUES ('a', 'it''s \\ $1 --')`,
    );
  });
});

describe("where a default is asked for", () => {
  const bindings: readonly (readonly [string, string])[] = [
    [NEXTVAL, "nowhere"],
    ["gen_random_uuid()", "nowhere"],
    ["public.uuid_generate_v4()", "nowhere"],
    ["1", "nowhere"],
    ["lower('A')", "nowhere"],
    ["now()", "transaction"],
    ["CURRENT_USER", "transaction"],
    ["(current_setting('app.tenant'::text))::bigint", "transaction"],
    ["ours()", "counter"],
    [`((EXTRACT(epoch FROM now()))::bigint + ${NEXTVAL})`, "counter"],
    ["public.nextval('x')", "counter"],
    ["unheard_of()", "counter"],
    ["lower((ours() || CURRENT_USER))", "counter"],
  ];
  test.each(bindings)("%s: %s", (defaultSql, binding) => {
    const plan = planOf(
      routerWith(defaultSql).route("INSERT INTO tenants (name) VALUES ('a')", null),
    );
    expect(plan.draws).toEqual([
      { key: { sql: `CAST((${defaultSql}\n) AS bigint)`, binding }, count: 1 },
    ]);
  });
});

test("COPY without the key gets its column before the client's", () => {
  const route = routerWith(NEXTVAL).route(
    'COPY tenants /* ( */ ("name", plan) FROM STDIN (FORMAT csv, HEADER)',
    null,
  );
  expect(route).toMatchObject({
    kind: "copyIn",
    plan: {
      keyColumn: -1,
      keyType: "bigint",
      drawn: {
        columns: ["id", "name", "plan"],
        key: { binding: "nowhere" },
        sql: 'COPY tenants /* ( */ ("id", "name", plan) FROM STDIN (FORMAT csv, HEADER)',
      },
    },
  });
  expect(
    createRouter(
      shop(),
      schemaFacts({
        tables: [],
        functions: [],
        enums: {},
        isBytewise: true,
        hasLooseCollations: false,
        hasGuardFunctions: false,
      }),
    ).route("COPY plans FROM STDIN", null),
  ).toMatchObject({ plan: { drawn: null } });
});

test("options of COPY are read from each text", () => {
  const router = createRouter(shop(), SHOP_FACTS);
  const delimiters = [",", ";"].map((delimiter) => {
    const route = router.route(`COPY orders FROM STDIN (DELIMITER '${delimiter}')`, null);
    return route.kind === "copyIn" ? route.plan.delimiter : null;
  });
  expect(delimiters).toEqual([",", ";"]);
});
