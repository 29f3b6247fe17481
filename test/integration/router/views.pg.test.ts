import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { agreedFacts } from "../../../src/router/agreed-facts.js";
import { createRouter, type Router } from "../../../src/router/router.js";
import {
  SCHEMA_FACTS_SQL,
  type SchemaFactsLists,
  schemaFacts,
} from "../../../src/router/schema-facts.js";
import { loadParser } from "../../../src/sql/parser.js";
import { shardOfText } from "../../../src/topology/hash.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { Shards, type StatementResult } from "../../support/shards.js";
import { shop } from "../../unit/router/shop.js";

/**
 * What stands before a table, under a rule that names a column only: read as what it selects from, or refused. On two
 * shards and on one database that has all rows.
 */

const DATABASES = ["whole", "s0", "s1"];
const SCHEMA = `
CREATE EXTENSION postgres_fdw;
CREATE TABLE orders (tenant_id bigint NOT NULL, id bigint, note text, PRIMARY KEY (tenant_id, id));
CREATE VIEW all_orders AS SELECT * FROM orders;
CREATE VIEW over_view AS SELECT tenant_id AS t, id, note FROM all_orders WHERE id > 2;
CREATE VIEW newest AS SELECT * FROM orders ORDER BY id DESC LIMIT 5;
CREATE VIEW over_newest AS SELECT * FROM newest;
CREATE VIEW ranked AS SELECT tenant_id, id, rank() OVER (ORDER BY id) AS rank FROM orders;
CREATE VIEW notes AS SELECT DISTINCT note FROM orders;
CREATE VIEW totals AS SELECT note, count(*) AS n FROM orders GROUP BY note;
CREATE VIEW barrier WITH (security_barrier) AS SELECT * FROM orders WHERE id > 3;
CREATE VIEW checked AS SELECT * FROM orders WHERE id < 100 WITH CASCADED CHECK OPTION;
CREATE VIEW doubled AS SELECT a.tenant_id, b.id FROM orders a JOIN orders b ON a.id = b.id;
CREATE MATERIALIZED VIEW stored AS SELECT * FROM orders;
CREATE MATERIALIZED VIEW stored_newest AS SELECT * FROM orders ORDER BY id DESC LIMIT 5;
CREATE TABLE parts (tenant_id bigint NOT NULL, id bigint) PARTITION BY RANGE (id);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (10) TO (100);
CREATE TABLE parent (tenant_id bigint NOT NULL, id bigint);
CREATE TABLE child (more text) INHERITS (parent);
CREATE TABLE mixed (tenant_id bigint NOT NULL, id bigint) PARTITION BY RANGE (id);
CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname 'whole');
CREATE FOREIGN TABLE far (tenant_id bigint, id bigint) SERVER elsewhere OPTIONS (table_name 'orders');
CREATE FOREIGN TABLE mixed_far PARTITION OF mixed FOR VALUES FROM (0) TO (10) SERVER elsewhere`;

let server: PostgresServer;
let whole: Shards;
let shards: Shards;
let router: Router;

beforeAll(async () => {
  server = await startPostgres();
  for (const name of DATABASES) {
    await server.createDatabase(name);
    await server.sql(name, SCHEMA);
    await server.sql(
      name,
      `CREATE USER MAPPING FOR postgres SERVER elsewhere OPTIONS (user 'postgres');
       ALTER SERVER elsewhere OPTIONS (ADD host '127.0.0.1', ADD port '${server.port}')`,
    );
  }
  for (let id = 1; id <= 20; id++) {
    const tenant = (id % 7) + 1;
    for (const name of ["whole", `s${shardOfText(String(tenant), "bigint", 2)}`])
      await server.sql(
        name,
        `INSERT INTO orders VALUES (${tenant}, ${id}, 'note ${id % 3}');
         INSERT INTO parts VALUES (${tenant}, ${id}); INSERT INTO parent VALUES (${tenant}, ${id});
         INSERT INTO child VALUES (${tenant}, ${id + 100}, 'x')`,
      );
  }
  for (const name of DATABASES)
    await server.sql(
      name,
      "REFRESH MATERIALIZED VIEW stored; REFRESH MATERIALIZED VIEW stored_newest",
    );
  await loadParser();
  const read = await Promise.all(["s0", "s1"].map((name) => server.sql(name, SCHEMA_FACTS_SQL)));
  const { lists, unlike } = agreedFacts(
    read.map(([row]) => JSON.parse(String(row?.facts)) as SchemaFactsLists),
  );
  expect(unlike).toEqual([]);
  const options = { shardCount: 2, splitInserts: "rewrite", omnishardedTables: [] } as const;
  const [rule] = shop().shardedTables.filter(({ name }) => name === null);
  router = createRouter(
    shop({ ...options, shardedTables: rule ? [rule] : [] }),
    schemaFacts(lists),
  );
  whole = await Shards.connect(server, ["whole"]);
  shards = await Shards.connect(server, ["s0", "s1"]);
});

afterAll(async () => {
  await whole[Symbol.asyncDispose]();
  await shards[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const UNSHARDED: Pick<Router, "route"> = { route: () => ({ kind: "any" }) };
const bag = ({ rows }: StatementResult) => rows.map((row) => JSON.stringify(row)).sort();

/** "right", or "refused"; anything else fails. */
async function verdict(sql: string): Promise<string> {
  const route = router.route(sql, { values: [], formats: [], typeOids: [] });
  if (route.kind === "refused") return "refused";
  const expected = await whole.run(UNSHARDED, sql);
  const actual = await shards.run(router, sql);
  const where = `${sql}\n${JSON.stringify(route)}`;
  expect(actual.error?.sqlState ?? null, where).toBe(expected.error?.sqlState ?? null);
  expect(bag(actual), where).toEqual(bag(expected));
  expect(actual.tag, where).toBe(expected.tag);
  return "right";
}

describe("reads", () => {
  const cases: readonly (readonly [string, "right" | "refused"])[] = [
    ["SELECT * FROM all_orders", "right"],
    ["SELECT * FROM over_view WHERE t = 3", "right"],
    ["SELECT count(*) FROM over_view", "right"],
    ["SELECT * FROM over_view ORDER BY id DESC LIMIT 5", "right"],
    ["SELECT * FROM newest", "refused"],
    ["SELECT * FROM over_newest", "refused"],
    ["SELECT count(*) FROM over_newest", "refused"],
    ["SELECT * FROM ranked", "refused"],
    ["SELECT * FROM notes", "refused"],
    ["SELECT * FROM totals", "refused"],
    ["SELECT * FROM barrier", "right"],
    ["SELECT * FROM checked WHERE tenant_id = 3", "right"],
    ["SELECT * FROM doubled", "refused"],
    ["SELECT * FROM stored", "right"],
    ["SELECT count(*) FROM stored", "right"],
    ["SELECT * FROM stored_newest", "refused"],
    ["SELECT * FROM parts", "right"],
    ["SELECT * FROM parts_low", "right"],
    ["SELECT * FROM parts_high WHERE tenant_id = 3", "right"],
    ["SELECT * FROM parent", "right"],
    ["SELECT * FROM ONLY parent", "right"],
    ["SELECT * FROM child", "right"],
    ["SELECT * FROM far", "refused"],
    ["SELECT * FROM mixed", "refused"],
    ["SELECT o.id FROM orders o JOIN far USING (tenant_id) WHERE o.tenant_id = 3", "refused"],
  ];
  for (const [sql, said] of cases) test(sql, async () => expect(await verdict(sql)).toBe(said));
});

describe("writes", () => {
  const cases: readonly (readonly [string, "right" | "refused"])[] = [
    ["INSERT INTO all_orders VALUES (3, 30, 'new'), (4, 31, 'new')", "right"],
    ["INSERT INTO over_view VALUES (3, 32, 'new'), (4, 33, 'new')", "right"],
    ["UPDATE over_view SET note = 'changed' WHERE id = 30", "right"],
    ["DELETE FROM over_view WHERE t = 3 AND id = 32", "right"],
    ["UPDATE barrier SET note = 'b' WHERE note = 'new'", "right"],
    ["DELETE FROM barrier WHERE id = 33", "right"],
    ["INSERT INTO checked VALUES (3, 50, 'ok'), (4, 51, 'ok')", "right"],
    ["INSERT INTO checked VALUES (3, 500, 'no'), (4, 501, 'no')", "right"],
    ["UPDATE checked SET id = id + 100", "right"],
    ["UPDATE newest SET note = 'x'", "refused"],
    ["INSERT INTO totals VALUES ('x', 1)", "refused"],
    ["DELETE FROM doubled", "refused"],
    ["INSERT INTO parts VALUES (3, 41), (4, 42)", "right"],
    ["INSERT INTO parts_low VALUES (3, 7), (4, 8)", "right"],
    ["INSERT INTO parts_low VALUES (3, 70)", "right"],
    ["UPDATE parts_high SET id = id WHERE tenant_id = 3", "right"],
    ["DELETE FROM parts_low WHERE id = 7", "right"],
    ["INSERT INTO child VALUES (3, 200, 'y'), (4, 201, 'y')", "right"],
    ["UPDATE parent SET id = id + 1000 WHERE id > 100", "right"],
    ["DELETE FROM ONLY parent WHERE tenant_id = 4", "right"],
    ["INSERT INTO far VALUES (3, 900)", "refused"],
    ["DELETE FROM far", "refused"],
    ["TRUNCATE parts_low", "right"],
  ];
  for (const [sql, said] of cases) test(sql, async () => expect(await verdict(sql)).toBe(said));

  test("and every table has the same rows as one database", async () => {
    for (const table of ["orders", "parts", "parts_low", "parts_high", "parent", "child"])
      expect([table, await verdict(`SELECT * FROM ${table}`)]).toEqual([table, "right"]);
  });
});
