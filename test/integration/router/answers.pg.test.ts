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
import { IDS, randomGroups, randomQuery, TASKS_SCHEMA } from "./random-query.js";

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
  for (const [database, sql] of rows().flat()) await server.sql(database, sql);
  const values = "state = (ARRAY['open', 'doing', 'done', NULL])[id % 4 + 1]::task_state, estimate";
  for (const name of DATABASES)
    await server.sql(name, `UPDATE tasks SET ${values} = nullif(id % 7, 3) * 0.75`);
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

/** Rows of each table but tenants and plans; ids begin at 1. */
const COUNTS = { users: IDS, projects: IDS, tasks: 2 * IDS, comments: IDS, members: IDS } as const;
type Table = keyof typeof COUNTS;
const TENANTS = [1, 2, 3, 4, 5, 6] as const;

/** Another for each table, so that rows of one id are on one shard by chance only. */
function tenantOf(table: Table, id: number): number {
  const step = { users: 1, projects: 5, tasks: 7, comments: 11, members: 13 }[table];
  return TENANTS[(id * step + (id >> 2) + step) % TENANTS.length] ?? 1;
}

const shardOf = (tenant: number) => shardOfText(String(tenant), "bigint", 2);

/** An id of the shard of a tenant, often another tenant's there, as a foreign key allows it. */
function beside(table: Table, tenant: number, chance: number): number {
  const ids = numbers(COUNTS[table]).filter(
    (id) => shardOf(tenantOf(table, id)) === shardOf(tenant),
  );
  return ids[chance % ids.length] ?? 0;
}

function numbers(count: number): readonly number[] {
  return Array.from({ length: count }, (_, index) => index + 1);
}

function rows(): readonly Placed[] {
  const of = (table: Table, values: (id: number, tenant: number) => readonly (number | null)[]) =>
    numbers(COUNTS[table]).map((id) =>
      into(table, tenantOf(table, id), values(id, tenantOf(table, id))),
    );
  const plans = [0, 1, 2, 3].map((id) => `INSERT INTO plans VALUES (${id}, ${id % 3})`);
  return [
    ...plans.map((sql) => DATABASES.map((name) => [name, sql] as const)),
    ...TENANTS.map((id) => into("tenants", id, [id, id % 4])),
    ...of("users", (id, tenant) => [id, tenant, id % 4]),
    ...of("projects", (id, tenant) => [
      id,
      tenant,
      id % 3 === 0 ? null : beside("users", tenant, id * 3),
    ]),
    ...of("tasks", (id, tenant) => [
      id,
      tenant,
      beside("projects", tenant, id * 2),
      id % 4 === 0 ? null : beside("users", tenant, id * 5),
      id % 3,
    ]),
    ...of("comments", (id, tenant) => [
      id % 5,
      tenant,
      beside("tasks", tenant, id * 3),
      beside("users", tenant, id * 7),
    ]),
    ...of("members", (id, tenant) => [
      tenant,
      beside("projects", tenant, id),
      beside("users", tenant, id * 4),
    ]),
  ];
}

function into(table: string, tenant: number, values: readonly (number | null)[]): Placed {
  const list = values.map((value) => value ?? "NULL").join(", ");
  const sql = `INSERT INTO ${table} VALUES (${list}) ON CONFLICT DO NOTHING`;
  return [
    ["whole", sql],
    [`s${shardOf(tenant)}`, sql],
  ];
}

const UNSHARDED: Pick<Router, "route"> = { route: () => ({ kind: "any" }) };
const bag = ({ rows: found }: StatementResult) => found.map((row) => JSON.stringify(row)).sort();

/** Numerics that are equal, as ORDER BY takes them: 1.50 and 1.5 are a tie. */
const asOrdered = ({ rows: found }: StatementResult) =>
  found.map((row) =>
    row.map((text) =>
      text !== null && /^-?\d+\.\d+$/.test(text) ? text.replace(/\.?0+$/, "") : text,
    ),
  );

/** Runs a query on one database and over the shards; null: refused, or no answer to compare with. */
async function compared(sql: string, isOrdered: boolean): Promise<boolean> {
  const route = router.route(sql, { values: [], formats: [], typeOids: [] });
  if (route.kind === "refused") return false;
  const expected = await whole.run(UNSHARDED, sql);
  if (expected.error !== null) return false;
  const actual = await shards.run(router, sql);
  const where = `${sql}\n${JSON.stringify(route)}`;
  expect(actual.error, where).toBeNull();
  if (isOrdered) expect(asOrdered(actual), where).toEqual(asOrdered(expected));
  // Which of several tied rows LIMIT leaves out is chance.
  if (!isOrdered || !/\bLIMIT\b/.test(sql)) expect(bag(actual), where).toEqual(bag(expected));
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

test("groups that span shards are what one database makes of them", async () => {
  await fc.assert(
    fc.asyncProperty(randomGroups, async ({ sql, isOrdered }) => {
      // Each is answered.
      expect([sql, await compared(sql, isOrdered)]).toEqual([sql, true]);
    }),
    { numRuns: cases(200) },
  );
});
