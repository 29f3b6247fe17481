import { beforeAll, describe, expect, test } from "vitest";
import { Catalog } from "../../../src/router/catalog.js";
import { createRouter } from "../../../src/router/router.js";
import { rowsInText } from "../../../src/router/row-source.js";
import { loadParser } from "../../../src/sql/parser.js";
import { SHOP_FACTS, shop } from "./shop.js";

beforeAll(async () => {
  await loadParser();
});

const database = shop({ splitInserts: "rewrite" });
const rows = (sql: string) => rowsInText(sql, new Catalog(database, SHOP_FACTS));

describe("rows that stand in the text of a bulk insert", () => {
  test("arrays of Django's bulk_create", () => {
    expect(
      rows(
        `INSERT INTO "orders" ("tenant_id", "note") SELECT * FROM UNNEST(('{1,2}'::int2[])::bigint[], ( E'{"a,\\\\"\\\\\\\\b",NULL}')::varchar(80)[]) ON CONFLICT DO NOTHING RETURNING "orders"."id"`,
      ),
    ).toEqual({
      sql:
        `INSERT INTO "orders" ("tenant_id", "note") VALUES (('1'::"int2")::"pg_catalog"."int8", 'a,"\\b'::"pg_catalog"."varchar"(80)), ` +
        `(('2'::"int2")::"pg_catalog"."int8", NULL::"pg_catalog"."varchar"(80)) ON CONFLICT DO NOTHING RETURNING "orders"."id"`,
      isOrdered: false,
    });
  });

  test("SQLAlchemy's insertmanyvalues", () => {
    expect(
      rows(
        "INSERT INTO orders (tenant_id, total) SELECT p0::BIGINT, p1::NUMERIC(8, 2) FROM (VALUES ($1::BIGINT, $2::NUMERIC(8, 2), 0), ($3::BIGINT, $4::NUMERIC(8, 2), 1)) AS imp_sen(p0, p1, sen_counter) ORDER BY sen_counter RETURNING orders.id, orders.id AS id__1",
      ),
    ).toEqual({
      sql:
        "INSERT INTO orders (tenant_id, total) VALUES (($1::BIGINT\n)::BIGINT, ( $2::NUMERIC(8, 2)\n)::NUMERIC(8, 2)), " +
        "(($3::BIGINT\n)::BIGINT, ( $4::NUMERIC(8, 2)\n)::NUMERIC(8, 2)) RETURNING orders.id, orders.id AS id__1",
      isOrdered: true,
    });
  });

  test.each([
    "INSERT INTO plans (id) SELECT * FROM UNNEST('{1}'::int[])",
    "INSERT INTO orders (tenant_id) SELECT * FROM UNNEST('{1}'::int[]) WHERE true",
    "INSERT INTO orders (tenant_id) SELECT * FROM UNNEST('{1}'::int[]) LIMIT 1",
    "INSERT INTO orders (tenant_id) SELECT * FROM UNNEST('{1}'::int[]) WITH ORDINALITY",
    "INSERT INTO orders (tenant_id, id) SELECT * FROM UNNEST('{1,2}'::int[], '{1}'::int[])",
    "INSERT INTO orders (tenant_id) SELECT * FROM UNNEST('{{1},{2}}'::int[])",
    "INSERT INTO orders (tenant_id) SELECT * FROM UNNEST($1::int[])",
    "INSERT INTO orders (tenant_id) SELECT p0 + 1 FROM (VALUES (1), (2)) AS v(p0)",
    "INSERT INTO orders (tenant_id) SELECT p0 FROM (VALUES (1, 2), (2, 1)) AS v(p0, n) ORDER BY n",
    "INSERT INTO orders (tenant_id) SELECT p0 FROM (VALUES (1, 1), (2, 2)) AS v(p0, n) ORDER BY n DESC",
    "INSERT INTO orders (tenant_id) SELECT p0 FROM (VALUES (1), (2)) AS v(p0), plans",
  ])("nothing else: %s", (sql) => {
    expect(rows(sql)).toBeNull();
  });

  test("are dealt out by their keys, in their places", () => {
    const router = createRouter(database, SHOP_FACTS);
    const route = router.route(
      "INSERT INTO orders (tenant_id, id) SELECT * FROM UNNEST('{1,2,3,1}'::bigint[], '{1,2,3,4}'::bigint[])",
      null,
    );
    const places = route.kind === "split" ? route.parts.flatMap((part) => part.rows) : [];
    expect([...places].sort()).toEqual([0, 1, 2, 3]);
    expect(
      router.route("INSERT INTO orders (tenant_id) SELECT * FROM UNNEST('{1,1}'::int[])", null),
    ).toMatchObject({ kind: "one", isWrite: true });
  });

  test("that are sorted have their ids drawn in that order", () => {
    const router = createRouter(database, SHOP_FACTS);
    const insert = (source: string, returning: string) =>
      router.route(`INSERT INTO users (tenant_id, name) ${source} ${returning}`, null);
    const sorted =
      "SELECT p0::BIGINT, p1::TEXT FROM (VALUES (1, 'a', 0), (2, 'b', 1), (3, 'c', 2)) AS v(p0, p1, n) ORDER BY n";
    expect(insert(sorted, "RETURNING id, id AS id__1")).toMatchObject({
      kind: "draw",
      plan: { draws: [{ count: 3 }] },
    });
    expect(insert(sorted, "").kind).toBe("split");
    expect(insert(sorted.replace(" ORDER BY n", ""), "RETURNING id").kind).toBe("split");
  });
});
