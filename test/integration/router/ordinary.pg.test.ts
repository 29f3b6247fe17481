import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRouter, type Router } from "../../../src/router/router.js";
import { parseSchemaFacts, SCHEMA_FACTS_SQL } from "../../../src/router/schema-facts.js";
import { loadParser } from "../../../src/sql/parser.js";
import { shardOfText } from "../../../src/topology/hash.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { Shards, type StatementResult } from "../../support/shards.js";
import { shop } from "../../unit/router/shop.js";

/** What frameworks write about the application that people have, over two shards and on one database. */

let server: PostgresServer;
let whole: Shards;
let shards: Shards;
let router: Router;

const USERS = 400;
const SHARDED = "users projects tasks comments project_members attachments audit_log".split(" ");

beforeAll(async () => {
  server = await startPostgres();
  await server.createDatabase("whole");
  const read = (name: string) =>
    readFileSync(new URL(`../../demo/ordinary/${name}`, import.meta.url), "utf8");
  await server.sql("whole", read("schema.sql"));
  const seed = read("seed.sql").replace("generate_series(1, 8000)", `generate_series(1, ${USERS})`);
  await server.sql("whole", seed);
  await server.sql("whole", "DROP PUBLICATION all_tables");
  const tenants = await server.sql("whole", "SELECT id FROM tenants");
  for (const shard of [0, 1]) {
    await server.sql("postgres", `CREATE DATABASE s${shard} TEMPLATE whole`);
    const others = tenants
      .map(({ id }) => String(id))
      .filter((id) => shardOfText(id, "bigint", 2) !== shard);
    const list = `IN (${others.join(", ")})`;
    const deletes = SHARDED.map((table) => `DELETE FROM ${table} WHERE tenant_id ${list}`);
    await server.sql(
      `s${shard}`,
      `SET session_replication_role = replica; ${deletes.join("; ")}; DELETE FROM tenants WHERE id ${list}`,
    );
  }
  await loadParser();
  const [facts] = await server.sql("s0", SCHEMA_FACTS_SQL);
  const database = shop({ shardCount: 2, omnishardedTables: [], splitInserts: "rewrite" });
  const rule = { schema: null, dataType: "bigint" } as const;
  const shardedTables = [
    { ...rule, name: "tenants", column: "id" },
    { ...rule, name: null, column: "tenant_id" },
  ];
  router = createRouter({ ...database, shardedTables }, parseSchemaFacts(String(facts?.facts)));
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

async function both(sql: string) {
  const expected = await whole.run(UNSHARDED, sql);
  const actual = await shards.run(router, sql);
  expect(actual.error).toBeNull();
  expect(actual.tag).toBe(expected.tag);
  return { expected, actual };
}

const READS = `
SELECT * FROM open_tasks WHERE tenant_id = 5
SELECT count(*) FROM open_tasks
SELECT o.project, count(*) FROM open_tasks o GROUP BY o.project
SELECT * FROM audit_log_new WHERE tenant_id = 5
SELECT id, title FROM tasks WHERE tenant_id = 5 AND state = 'open'
SELECT "tasks"."id", "tasks"."title" FROM "tasks" INNER JOIN "projects" ON ("tasks"."project_id" = "projects"."id") WHERE "projects"."name" = 'project 8'
SELECT COUNT(*) AS "__count" FROM "tasks" INNER JOIN "projects" ON ("tasks"."project_id" = "projects"."id")
SELECT COUNT(*) FROM (SELECT DISTINCT "tasks"."id" AS "col1" FROM "tasks" INNER JOIN "comments" ON ("tasks"."id" = "comments"."task_id")) subquery
SELECT 1 AS "a" FROM "tasks" WHERE "tasks"."title" = 'task 3' LIMIT 1
SELECT EXISTS(SELECT 1 AS "a" FROM "tasks" WHERE "tasks"."title" = 'task 3' LIMIT 1) AS "x"
SELECT EXISTS(SELECT 1 AS "a" FROM "tasks" WHERE "tasks"."title" = 'nothing' LIMIT 1) AS "x"
SELECT "projects"."id" FROM "projects" WHERE EXISTS(SELECT 1 AS "a" FROM "tasks" U0 WHERE U0."project_id" = ("projects"."id") LIMIT 1)
SELECT "projects"."id" FROM "projects" WHERE NOT (EXISTS(SELECT 1 AS "a" FROM "tasks" U1 WHERE (U1."id" % 70 = 0 AND U1."project_id" = ("projects"."id")) LIMIT 1))
SELECT * FROM tasks WHERE id IN (5, 6, 7)
SELECT * FROM tasks WHERE project_id IN (1, 2, 3)
SELECT * FROM tasks WHERE id = 5 FOR UPDATE
SELECT ("project_members"."project_id") AS "_prefetch_related_val_project_id", "users"."id", "users"."email" FROM "users" INNER JOIN "project_members" ON ("users"."id" = "project_members"."user_id") WHERE "project_members"."project_id" IN (1, 2)
SELECT "projects"."name", COUNT("tasks"."id") AS "n" FROM "projects" LEFT OUTER JOIN "tasks" ON ("projects"."id" = "tasks"."project_id") GROUP BY "projects"."name"
SELECT MAX(created_at) FROM tasks WHERE project_id = 4
SELECT count(*) FROM tasks WHERE assignee_id IS NULL
SELECT projects.id, (SELECT count(*) FROM tasks WHERE tasks.project_id = projects.id) AS n FROM projects
SELECT users.id, users.name, p.name FROM users LEFT OUTER JOIN tenants AS t ON t.id = users.tenant_id LEFT OUTER JOIN plans p ON p.id = t.plan_id WHERE users.email LIKE 'user1%'
SELECT id, row_number() OVER (PARTITION BY project_id ORDER BY id) FROM tasks
SELECT * FROM "tasks" "Task" LEFT JOIN "comments" "c" ON "c"."task_id"="Task"."id" WHERE "Task"."id" = 77
SELECT COUNT(DISTINCT("Task"."id")) AS "cnt" FROM "tasks" "Task" LEFT JOIN "comments" "c" ON "c"."task_id"="Task"."id"
select "tasks"."id", "d0"."data" from "tasks" left join lateral (select json_agg(c.body) as data from comments c where c.task_id = tasks.id) d0 on true
SELECT * FROM tasks WHERE title LIKE '%1%' AND project_id IN (SELECT p.id FROM projects p JOIN users u ON u.id = p.owner_id WHERE u.email LIKE 'user2%')
SELECT tenant_id, count(*), avg(estimate) FROM tasks GROUP BY tenant_id
SELECT avg(estimate) FROM tasks
SELECT min(due_on), max(created_at), min(state), max(state), min(title) FROM tasks
SELECT date_trunc('day', created_at) AS d, count(*) FROM tasks GROUP BY d
WITH recent AS (SELECT * FROM tasks WHERE created_at > now() - interval '1 day') SELECT r.*, p.name FROM recent r JOIN projects p ON p.id = r.project_id
SELECT * FROM tasks WHERE (project_id, assignee_id) IN (SELECT project_id, user_id FROM project_members)
SELECT t.id FROM tasks t LEFT JOIN project_members m ON m.project_id = t.project_id AND m.user_id = t.assignee_id WHERE m.role IS NULL
SELECT c.id, t.title, p.name FROM comments c JOIN tasks t ON t.id = c.task_id JOIN projects p ON p.id = t.project_id WHERE t.estimate > 3`;

const ORDERED = `
SELECT * FROM open_tasks ORDER BY id
SELECT * FROM tasks ORDER BY id LIMIT 21 OFFSET 20
SELECT * FROM tasks ORDER BY id DESC LIMIT 10
SELECT state, count(*) FROM tasks GROUP BY state ORDER BY state
SELECT state, title, id FROM tasks ORDER BY state DESC, id LIMIT 20
SELECT DISTINCT state FROM tasks ORDER BY state
SELECT count(*) AS n, avg(estimate) AS a, state FROM tasks GROUP BY state ORDER BY n, state
SELECT "tasks"."title", COUNT("tasks"."id") AS "n" FROM "tasks" GROUP BY "tasks"."title" HAVING COUNT("tasks"."id") > 5 ORDER BY "n" DESC, 1 LIMIT 10
SELECT DISTINCT "tasks"."title" FROM "tasks" ORDER BY "tasks"."title" ASC
SELECT DISTINCT "projects"."id", "projects"."name" FROM "projects" INNER JOIN "project_members" ON ("projects"."id" = "project_members"."project_id") ORDER BY "projects"."name" ASC
SELECT "projects"."id", "projects"."name", COUNT("tasks"."id") AS "n" FROM "projects" LEFT OUTER JOIN "tasks" ON ("projects"."id" = "tasks"."project_id") GROUP BY "projects"."id" ORDER BY "n" DESC, "projects"."id" LIMIT 5
SELECT t.id, t.slug FROM tenants t JOIN plans p ON p.id = t.plan_id WHERE p.name = 'plan 1' ORDER BY t.created_at DESC LIMIT 10
SELECT t.* FROM tasks t JOIN projects p ON p.id = t.project_id ORDER BY p.name, t.id LIMIT 30
SELECT DISTINCT "distinctAlias"."Task_id" AS "ids_Task_id" FROM (SELECT "Task"."id" AS "Task_id", "Task"."title" AS "Task_title", "c"."id" AS "c_id" FROM "tasks" "Task" LEFT JOIN "comments" "c" ON "c"."task_id"="Task"."id") "distinctAlias" ORDER BY "Task_id" ASC LIMIT 10`;

const WRITES = `
UPDATE "tasks" SET "title" = 'a' WHERE "tasks"."id" IN (SELECT U0."id" FROM "tasks" U0 INNER JOIN "projects" U1 ON (U0."project_id" = U1."id") WHERE U1."name" = 'project 8')
UPDATE tasks SET title = 'b' WHERE project_id IN (SELECT id FROM projects WHERE position % 20 = 0)
UPDATE tasks SET estimate = coalesce(estimate, 0) + 1 FROM projects WHERE tasks.project_id = projects.id AND projects.tenant_id = 17
UPDATE tasks SET title = 'c' WHERE id = 15
UPDATE open_users SET name = 'd' WHERE id % 7 = 0
DELETE FROM "comments" WHERE "comments"."task_id" IN (1, 2, 3)
DELETE FROM comments USING tasks WHERE comments.task_id = tasks.id AND tasks.title = 'task 9'
DELETE FROM comments WHERE task_id IN (SELECT id FROM tasks WHERE title = 'task 8')
DELETE FROM tasks WHERE id = 50
INSERT INTO project_members (tenant_id, project_id, user_id) SELECT p.tenant_id, p.id, u.id FROM projects p JOIN users u ON u.id = p.owner_id ON CONFLICT DO NOTHING`;

const lines = (text: string) => text.trim().split("\n");

describe("reads", () => {
  test.each(lines(READS))("%s", async (sql) => {
    const { expected, actual } = await both(sql);
    expect(bag(actual)).toEqual(bag(expected));
  });

  test.each(lines(ORDERED))("in order: %s", async (sql) => {
    const { expected, actual } = await both(sql);
    expect(actual.rows).toEqual(expected.rows);
  });

  test("one tenant's are asked of one shard", () => {
    const sql =
      "SELECT * FROM tasks t JOIN projects p ON p.id = t.project_id LEFT JOIN users u ON u.id = t.assignee_id WHERE t.tenant_id = 5";
    expect(router.route(sql, null)).toEqual({
      ...{ kind: "one", isWrite: false },
      shard: shardOfText("5", "bigint", 2),
    });
  });
});

test("writes", async () => {
  for (const name of ["whole", "s0", "s1"]) {
    await server.sql(name, "CREATE VIEW open_users AS SELECT id, name FROM users WHERE is_active");
  }
  const [facts] = await server.sql("s0", SCHEMA_FACTS_SQL);
  const known = parseSchemaFacts(String(facts?.facts));
  const shardedTables = [
    { schema: null, name: null, column: "tenant_id", dataType: "bigint" } as const,
  ];
  const changed = createRouter({ ...shop({ shardCount: 2 }), shardedTables }, known);
  for (const sql of lines(WRITES)) {
    const expected = await whole.run(UNSHARDED, sql);
    const actual = await shards.run(changed, sql);
    expect([sql, actual.error, actual.tag]).toEqual([sql, null, expected.tag]);
  }
  for (const table of SHARDED) {
    const columns =
      table === "users" || table === "tasks" ? "tenant_id, id, to_jsonb(t) - 'updated_at'" : "*";
    const { expected, actual } = await both(`SELECT ${columns} FROM ${table} t`);
    expect(bag(actual)).toEqual(bag(expected));
  }
});
