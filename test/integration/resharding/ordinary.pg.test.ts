import { afterAll, beforeAll, expect, test } from "vitest";
import { dropStream } from "../../../src/resharding/stream/drop-stream-step.js";
import { shardOfText } from "../../../src/topology/hash.js";
import { ordinary } from "../../demo/ordinary/application.js";
import { EngineCycle, type RunningStream } from "../../support/engine-cycle.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";

/**
 * The application that people have, as the engine moves it: what its schema is made of (deferrable foreign keys with
 * cascades, triggers, generated columns, partitions, enums, domains, indexes of all kinds) arrives and works.
 */

let server: PostgresServer;
let cycle: EngineCycle;
const SOURCE = "shop";
const SHARDS = ["shop_0", "shop_1"];
const application = ordinary(2_900);
/** What the application has not, and others have. */
const MORE = `
  CREATE TABLE cards (
    id bigserial PRIMARY KEY, tenant_id bigint NOT NULL REFERENCES tenants (id) ON DELETE CASCADE, pos int NOT NULL,
    note short_text, length int GENERATED ALWAYS AS (length(note)) STORED UNIQUE DEFERRABLE,
    UNIQUE (tenant_id, pos) DEFERRABLE INITIALLY DEFERRED);
  INSERT INTO cards (tenant_id, pos, note) SELECT 8 + g % 30, g, repeat('n', g) FROM generate_series(1, 150) g;
  INSERT INTO users (tenant_id, email, name) SELECT g, 'more' || g || '@example.test', 'more' FROM generate_series(8, 37) g;
  INSERT INTO projects (tenant_id, owner_id, name)
    SELECT tenant_id, id, 'more ' || n FROM users, generate_series(1, 4) n WHERE name = 'more';
  INSERT INTO tasks (tenant_id, project_id, assignee_id, title)
    SELECT tenant_id, id, owner_id, 'more' FROM projects, generate_series(1, 6) WHERE name LIKE 'more %';
  INSERT INTO comments (tenant_id, task_id, author_id, body) SELECT tenant_id, id, assignee_id, 'more' FROM tasks WHERE title = 'more';
  INSERT INTO project_members SELECT tenant_id, id, owner_id, 'more' FROM projects WHERE name LIKE 'more %';
  INSERT INTO attachments (tenant_id, task_id, file_name, content)
    SELECT tenant_id, id, 'more', decode(md5(id::text), 'hex') FROM tasks WHERE title = 'more';
  INSERT INTO audit_log (tenant_id, action, created_at)
    SELECT g, 'more', '2025-01-01' FROM generate_series(8, 37) g`;
const TABLES = [...application.tables, { table: "cards", shardingKey: "tenant_id" }];

beforeAll(async () => {
  server = await startPostgres({ settings: { fsync: "off" } });
  await server.sql("postgres", "CREATE ROLE app LOGIN");
  for (const database of [SOURCE, ...SHARDS]) await server.createDatabase(database);
  await application.seed(server, SOURCE);
  await server.sql(SOURCE, MORE);
  cycle = new EngineCycle({
    ...{ server, source: SOURCE, shards: SHARDS, id: "0d0d0d0d0d0d" },
    rules: [{ name: "tenants", column: "id" }],
  });
}, 60_000);
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

/** Two tenants of each shard. */
const PAIRS = SHARDS.map((_, shard) => {
  const there = Array.from({ length: 30 }, (__, tenant) => tenant + 8).filter(
    (tenant) => shardOfText(String(tenant), "bigint", SHARDS.length) === shard,
  );
  return [there[0] ?? 0, there[1] ?? 0] as const;
});

/** Every row with every column, generated ones too; a sharded table's over all shards. */
async function rowsOf(databases: readonly string[], table: string): Promise<string[]> {
  const lists = databases.map(
    async (database) =>
      await server.sql(database, `SELECT md5(t::text) AS row FROM ${table} t ORDER BY 1`),
  );
  return (await Promise.all(lists)).flat().map((row) => String(row.row));
}

async function expectSame(): Promise<void> {
  for (const { table, shardingKey } of [...TABLES, { table: "open_tasks", shardingKey: "" }]) {
    const source = await rowsOf([SOURCE], table);
    expect(source.length, table).toBeGreaterThan(0);
    if (shardingKey === null)
      for (const shard of SHARDS) expect(await rowsOf([shard], table), table).toEqual(source);
    else expect((await rowsOf(SHARDS, table)).sort(), table).toEqual(source.sort());
  }
}

/** What the schema says of every table, in words of PostgreSQL's. */
async function definitions(database: string): Promise<unknown[]> {
  return await server.sql(
    database,
    `SELECT c.relname AS of, 'column' AS kind, concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod),
            a.attnotnull, a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid)) AS text
       FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
       LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
      WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')
     UNION ALL SELECT conrelid::regclass::text, 'constraint', concat_ws(' ', conname, pg_get_constraintdef(oid), convalidated)
       FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conname <> 'sluice_placement'
     UNION ALL SELECT tablename, 'index', indexdef FROM pg_indexes WHERE schemaname = 'public'
     UNION ALL SELECT tgrelid::regclass::text, 'trigger', pg_get_triggerdef(oid) || tgenabled::text FROM pg_trigger
      WHERE NOT tgisinternal AND tgname NOT LIKE '%sluice%'
     UNION ALL SELECT c.relname, 'partition', pg_get_expr(c.relpartbound, c.oid) FROM pg_class c WHERE c.relispartition
      AND c.relkind = 'r'
     UNION ALL SELECT enumtypid::regtype::text, 'label', string_agg(enumlabel, ',' ORDER BY enumsortorder)
       FROM pg_enum GROUP BY 1
     ORDER BY 1, 2, 3`,
  );
}

/** What a request, a sign-up and an administrator do, on the tenants `a` and `b` of one database. */
function work(a: number, b: number, mark: string): string {
  return `
    BEGIN;
    INSERT INTO projects (tenant_id, owner_id, name) VALUES (${a}, 900000 + ${a}, '${mark} first');
    INSERT INTO users (id, tenant_id, email, name) VALUES (900000 + ${a}, ${a}, '${mark}${a}@example.test', 'late')
      ON CONFLICT (id) DO NOTHING;
    COMMIT;
    INSERT INTO audit_log (tenant_id, action, created_at) VALUES (${a}, '${mark}', '2025-03-01'), (${b}, '${mark}', now());
    UPDATE audit_log SET created_at = created_at + interval '3 years' WHERE tenant_id = ${b} AND created_at < '2026-01-01';
    UPDATE tasks SET state = 'done', labels = labels || '${mark}'::text WHERE tenant_id = ${a} AND id % 3 = 0;
    UPDATE users SET name = name || '!' WHERE tenant_id = ${b};
    INSERT INTO attachments (tenant_id, task_id, file_name, content)
      SELECT tenant_id, id, '${mark}', '\\x0102' FROM tasks WHERE tenant_id = ${a} LIMIT 3;
    UPDATE attachments SET content = content || '\\xff' WHERE tenant_id = ${b};
    UPDATE project_members SET role = '${mark}' WHERE tenant_id = ${a};
    UPDATE cards SET pos = pos + 1;
    UPDATE cards SET pos = 1000 - pos WHERE tenant_id = ${a};
    INSERT INTO comments (tenant_id, task_id, author_id, body)
      SELECT tenant_id, id, assignee_id, (SELECT string_agg(md5(g::text), '') FROM generate_series(1, 200) g) FROM tasks WHERE tenant_id = ${b} LIMIT 5;
    UPDATE comments SET created_at = now() WHERE tenant_id = ${b};
    DELETE FROM tasks WHERE tenant_id = ${b} AND id % 5 = 0;
    DELETE FROM projects WHERE id = (SELECT max(id) FROM projects WHERE tenant_id = ${a} AND name NOT LIKE '%first');
    UPDATE projects SET owner_id = NULL WHERE tenant_id = ${b}`;
}

/** Omnisharded tables as the proxy would write them: the same on every shard. */
const LOOKUPS = `
  INSERT INTO plans (id, name, created_at) VALUES (77, 'seventy-seven', '2026-02-02') ON CONFLICT DO NOTHING;
  UPDATE sessions SET session_data = 'seen' WHERE session_key < '8';
  DELETE FROM schema_migrations WHERE version < '2021'`;

async function switched(
  serving: "source" | "destination",
  stream: number,
  running: RunningStream,
): Promise<RunningStream> {
  const { next, attempt } = await cycle.prepare(serving, stream);
  expect(await attempt()).toMatchObject({ outcome: "committed", reason: "" });
  await running.stop();
  await dropStream(cycle.context(), { ref: cycle.ref, stream });
  return next;
}

async function workOnSource(mark: string): Promise<void> {
  for (const [a, b] of PAIRS) await server.sql(SOURCE, work(a, b, mark));
  await server.sql(SOURCE, LOOKUPS);
}

test("all of it arrives, works on shards, goes back and there again", async () => {
  await cycle.copy();
  await workOnSource("behind");
  const first = await cycle.catchUp();
  await workOnSource("live");
  const there = await switched("destination", 0, first);
  await expectSame();
  const defined = await definitions(SOURCE);
  for (const shard of SHARDS) expect(await definitions(shard)).toEqual(defined);

  for (const [index, shard] of SHARDS.entries()) {
    const [a, b] = PAIRS[index] ?? [0, 0];
    await server.sql(shard, work(a, b, "sharded"));
    await server.sql(shard, LOOKUPS);
    // What belongs to the schema is done by the shard: the trigger, the domain, the keys that wait.
    const [touched] = await server.sql(
      shard,
      `UPDATE users SET name = 'touched' WHERE id = 900000 + ${a} RETURNING updated_at = now() AS now`,
    );
    expect(touched).toEqual({ now: true });
    for (const refused of [
      `UPDATE users SET name = repeat('x', 201) WHERE tenant_id = ${a}`,
      `INSERT INTO projects (tenant_id, name) VALUES (${a}, 'x'), (${a}, 'x')`,
      `INSERT INTO tasks (tenant_id, project_id, title) VALUES (${a}, -1, 'x')`,
      `INSERT INTO audit_log (tenant_id, action, created_at) VALUES (${a}, 'x', '1999-01-01')`,
      `UPDATE cards SET pos = 1 WHERE tenant_id = ${a}`,
    ])
      await expect(server.sql(shard, refused), refused).rejects.toThrow();
  }
  const back = await switched("source", 1, there);
  await expectSame();

  await workOnSource("back");
  const again = await switched("destination", 2, back);
  await expectSame();
  await again.stop();
}, 240_000);
