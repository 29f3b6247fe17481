import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createRouter, type Router } from "../../../src/router/router.js";
import { parseSchemaFacts, SCHEMA_FACTS_SQL } from "../../../src/router/schema-facts.js";
import { loadParser } from "../../../src/sql/parser.js";
import { shardOfText } from "../../../src/topology/hash.js";
import { cases } from "../../support/cases.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { Shards, type StatementResult } from "../../support/shards.js";
import { shop } from "../../unit/router/shop.js";
import { IDS, randomQuery, TASKS_SCHEMA } from "./random-query.js";

let server: PostgresServer;
let whole: Shards;
let shards: Shards;
let router: Router;

const DATABASES = ["whole", "s0", "s1"];

beforeAll(async () => {
  server = await startPostgres({ settings: { statement_timeout: "5s" } });
  for (const name of DATABASES) {
    await server.createDatabase(name);
    await server.sql(name, TASKS_SCHEMA);
  }
  for (const insert of rows()) {
    for (const [database, sql] of insert) await server.sql(database, sql);
  }
  for (const name of DATABASES) await server.sql(name, "REFRESH MATERIALIZED VIEW stored_tasks");
  await loadParser();
  const [facts] = await server.sql("s0", SCHEMA_FACTS_SQL);
  router = createRouter(shop({ shardCount: 2 }), parseSchemaFacts(String(facts?.facts)));
  whole = await Shards.connect(server, ["whole"]);
  shards = await Shards.connect(server, ["s0", "s1"]);
});

afterAll(async () => {
  await whole[Symbol.asyncDispose]();
  await shards[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

type Placed = readonly (readonly [database: string, sql: string])[];

/**
 * Rows refer to rows of their own shard, as foreign keys see to it, and now and then to another tenant's
 * there. Every id is on one shard only.
 */
function rows(): readonly Placed[] {
  const ids = Array.from({ length: IDS }, (_, id) => id);
  const shard = (tenant: number) => shardOfText(String(tenant), "bigint", 2);
  const tenants = ids.slice(1, 7);
  const tenantOf = (id: number) => tenants[(id * 5 + 2) % tenants.length] ?? 1;
  const beside = (tenant: number, id: number, spread: number) => {
    const near = ids.slice(1).filter((other) => shard(tenantOf(other)) === shard(tenant));
    return near[(id * spread) % near.length] ?? null;
  };
  const into = (table: string, tenant: number, values: readonly (number | null)[]): Placed => {
    const sql = `INSERT INTO ${table} VALUES (${values.map((value) => value ?? "NULL").join(", ")})`;
    return [
      ["whole", sql],
      [`s${shard(tenant)}`, sql],
    ];
  };
  const plans = ids.slice(0, 4).map((id) => `INSERT INTO plans VALUES (${id}, ${id % 3})`);
  return [
    ...plans.map((sql) => DATABASES.map((name) => [name, sql] as const)),
    ...tenants.map((id) => into("tenants", id, [id, id % 4])),
    ...ids.slice(1).map((id) => into("users", tenantOf(id), [id, tenantOf(id), id % 4])),
    ...ids.slice(1).map((id) => {
      const owner = id % 3 === 0 ? null : beside(tenantOf(id), id, 3);
      return into("projects", tenantOf(id), [id, tenantOf(id), owner]);
    }),
    ...[...ids.slice(1), ...ids.slice(1).map((id) => id + IDS)].map((id) => {
      const tenant = tenantOf(id);
      const assignee = id % 4 === 0 ? null : beside(tenant, id, 5);
      return into("tasks", tenant, [id, tenant, beside(tenant, id, 2), assignee, id % 3]);
    }),
    ...ids.slice(1).map((id) => {
      const tenant = tenantOf(id + 1);
      return into("comments", tenant, [
        id % 5,
        tenant,
        beside(tenant, id, 3),
        beside(tenant, id, 7),
      ]);
    }),
    ...ids.slice(1, 9).map((id) => {
      const tenant = tenantOf(id);
      return into("members", tenant, [tenant, beside(tenant, id, 1), beside(tenant, id, 4)]);
    }),
  ].filter((placed) => !placed.some(([, sql]) => seen(sql)));
}

const inserted = new Set<string>();

/** A pair twice is none of what the unique key allows. */
function seen(sql: string): boolean {
  if (!sql.includes("members") || !inserted.has(sql)) {
    inserted.add(sql);
    return false;
  }
  return true;
}

const UNSHARDED: Router = { route: () => ({ kind: "any" }) };
const bag = ({ rows: found }: StatementResult) => found.map((row) => JSON.stringify(row)).sort();

/** Runs a query on one database and over the shards; null: refused, or no answer to compare with. */
async function compared(sql: string, isOrdered: boolean): Promise<boolean> {
  const route = router.route(sql, { values: [], formats: [], typeOids: [] });
  (await import("node:fs")).appendFileSync("/tmp/wt/router-scratch/kinds", route.kind + " " + sql + "\n");
  if (route.kind === "refused") return false;
  const expected = await whole.run(UNSHARDED, sql);
  if (expected.error !== null) return false;
  const actual = await shards.run(router, sql);
  const where = `${sql}\n${JSON.stringify(route)}`;
  expect(actual.error, where).toBeNull();
  expect(isOrdered ? actual.rows : bag(actual), where).toEqual(
    isOrdered ? expected.rows : bag(expected),
  );
  return true;
}

test("what is answered is what one database answers, whatever the query", async () => {
  let answered = 0;
  let asked = 0;
  await fc.assert(
    fc.asyncProperty(randomQuery, async ({ sql, isOrdered }) => {
      asked += 1;
      if (await compared(sql, isOrdered)) answered += 1;
    }),
    { numRuns: cases(400) },
  );
  // Not by refusing.
  expect(answered).toBeGreaterThan(asked / 5);
});
