import { readFileSync } from "node:fs";
import { shardOfText } from "../../../src/topology/hash.js";
import type { PostgresServer } from "../../support/postgres.js";
import { masked } from "./answer.js";

export const SHARDS = ["shard_0", "shard_1"] as const;
export const SIDES = ["plain", ...SHARDS] as const;

/** What stories find: `TENANTS` tenants, each with these; ids begin at 1 and go through the tenants in their order. */
export const TENANTS = 8;
export const OF_TENANT = { users: 3, projects: 2, tasks: 8, attachments: 2 } as const;
export const PLANS = 4;
export const FLAGS = 6;

/** The tenant's own ids. */
export function idsOf(table: keyof typeof OF_TENANT, tenant: number): readonly number[] {
  const count = OF_TENANT[table];
  return Array.from({ length: count }, (_, index) => (tenant - 1) * count + index + 1);
}

/** Numbers that are drawn begin here, so that they are told from those that statements give. */
const FIRST_DRAWN = 1_000_000;

function schemaSql(): string {
  const schema = readFileSync(new URL("../../demo/ordinary/schema.sql", import.meta.url), "utf8");
  const others = schema.replace(/^CREATE PUBLICATION.*$/m, "");
  return `DROP SCHEMA public CASCADE; CREATE SCHEMA public; ${others}`;
}

/** Makes the application's tables with their rows anew, everywhere. */
export async function fill(server: PostgresServer): Promise<void> {
  await Promise.all(
    SIDES.map(async (side) => {
      for (const { gid } of await server.sql(side, PREPARED))
        await server.sql(side, `ROLLBACK PREPARED '${gid}'`);
      // Tables of one transaction are locked together, and nobody sees half of them.
      await server.sql(
        side,
        `BEGIN; ${schemaSql()}; ${rowsOf(side).join(";\n")}; ${sequencesSql(side)}; COMMIT`,
      );
      // As autovacuum does where tables do not come and go by the second.
      await server.sql(side, CATALOGS);
    }),
  );
}

const CATALOGS = `VACUUM ANALYZE ${"class attribute type depend index constraint trigger attrdef sequence rewrite"
  .split(" ")
  .map((name) => `pg_catalog.pg_${name}`)
  .join(", ")}`;

const PREPARED = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()";

/** As they are behind a migration: in steps of as many as there are shards. */
function sequencesSql(side: (typeof SIDES)[number]): string {
  const shard = SHARDS.indexOf(side as (typeof SHARDS)[number]);
  const [start, step] = shard < 0 ? [FIRST_DRAWN, 1] : [FIRST_DRAWN + shard, SHARDS.length];
  return `DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT oid::regclass::text FROM pg_class WHERE relkind = 'S' LOOP
      EXECUTE format('ALTER SEQUENCE %s INCREMENT BY ${step} RESTART WITH ${start}', name);
    END LOOP; END $$`;
}

function rowsOf(side: (typeof SIDES)[number]): readonly string[] {
  const isHere = (tenant: number) =>
    side === "plain" || SHARDS.indexOf(side) === shardOfText(String(tenant), "bigint", 2);
  const count = (number: number) => Array.from({ length: number }, (_, index) => index + 1);
  const day = (number: number) => `'2026-01-0${(number % 9) + 1} 12:00:00+00'`;
  const sql = [
    ...count(PLANS).map(
      (id) => `INSERT INTO plans VALUES (${id}, 'plan ${id}', ${id}.50, ${day(id)})`,
    ),
    ...count(FLAGS).map((id) => {
      const values = `${id}, 'flag ${id}', ${id % 2 === 0}, '00000000-0000-0000-0000-00000000000${id}'`;
      return `INSERT INTO feature_flags VALUES (${values}, ${day(id)}, ${day(id)})`;
    }),
    ...count(3).map((id) => `INSERT INTO sessions VALUES ('session ${id}', 'data', ${day(id)})`),
  ];
  for (const tenant of count(TENANTS).filter(isHere)) {
    const at = day(tenant);
    const settings = `'{"theme": "t${tenant % 3}", "n": ${tenant}}'`;
    sql.push(
      `INSERT INTO tenants VALUES (${tenant}, 'tenant-${tenant}', ${(tenant % PLANS) + 1}, ${settings}, ${at})`,
      ...idsOf("users", tenant).map((id) => {
        const name = `user${id}@example.test', 'User ${id % 5}`;
        return `INSERT INTO users VALUES (${id}, ${tenant}, '${name}', ${id % 3 !== 0}, NULL, ${at}, ${at})`;
      }),
      ...idsOf("projects", tenant).map((id) => {
        const owner = id % 4 === 0 ? "NULL" : idsOf("users", tenant)[id % 3];
        return `INSERT INTO projects VALUES (${id}, ${tenant}, ${owner}, 'project ${id}', ${id % 3}, ${id % 5 === 0}, ${at})`;
      }),
      ...idsOf("tasks", tenant).map((id) => taskSql(id, tenant)),
      ...idsOf("attachments", tenant).map((id) => {
        const task = idsOf("tasks", tenant)[id % 8];
        return `INSERT INTO attachments VALUES (${id}, ${tenant}, ${task}, 'file ${id}', '\\x0${id % 10}ff')`;
      }),
      ...idsOf("projects", tenant).map((id) => {
        const user = idsOf("users", tenant)[id % 3];
        return `INSERT INTO project_members VALUES (${tenant}, ${id}, ${user}, 'owner')`;
      }),
    );
  }
  return sql;
}

function taskSql(id: number, tenant: number): string {
  const project = idsOf("projects", tenant)[id % 2];
  const assignee = id % 4 === 0 ? "NULL" : idsOf("users", tenant)[id % 3];
  const state = ["open", "doing", "done"][id % 3];
  const estimate = id % 5 === 0 ? "NULL" : `${id % 7}.25`;
  const at = `'2026-02-01 0${id % 10}:00:00+00'`;
  const uuid = `00000000-0000-0000-0001-${String(id).padStart(12, "0")}`;
  const author = idsOf("users", tenant)[(id + 1) % 3];
  return `INSERT INTO tasks VALUES (${id}, ${tenant}, ${project}, ${assignee}, '${state}', 'task ${id}', NULL, ${estimate},
      '2026-03-01'::date + ${id % 20}, ARRAY['l${id % 3}'], ${at}, ${at});
    INSERT INTO comments VALUES ('${uuid}', ${tenant}, ${id}, ${author}, 'comment ${id % 4}', ${at})`;
}

/** Rows as text, by the table's name. */
type Tables = ReadonlyMap<string, readonly string[]>;

const TABLES = `
  SELECT c.oid::regclass::text AS name FROM pg_class c
  WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace`;

export async function tablesOf(server: PostgresServer, database: string): Promise<Tables> {
  const names = (await server.sql(database, TABLES)).map(({ name }) => String(name));
  const parts = names.map(
    (name) => `SELECT '${name}' AS name, to_jsonb(t)::text AS row FROM ${name} t`,
  );
  const tables = new Map<string, string[]>(names.map((name) => [name, []]));
  for (const { name, row } of await server.sql(database, parts.join(" UNION ALL ")))
    tables.get(String(name))?.push(String(row));
  return tables;
}

/** Pairs of what one database has and what the shards have, where they are not the same. */
export function* tableDifferences(
  plain: Tables | undefined,
  [first, second]: readonly (Tables | undefined)[],
): Generator<readonly [expected: unknown, actual: unknown]> {
  const names = new Set([plain, first, second].flatMap((tables) => [...(tables?.keys() ?? [])]));
  for (const name of names) {
    const [whole, one, other] = [plain, first, second].map((tables) => tables?.get(name));
    const rows = (list: readonly string[] = []) => list.map(masked).sort();
    const isSharded = [whole, one, other].some((list) =>
      /"tenant_id"|"slug"/.test(list?.[0] ?? ""),
    );
    if (!whole || !one || !other)
      yield [
        { name, isThere: whole !== undefined },
        { one, other },
      ];
    else if (isSharded) {
      yield* unequal(name, rows(whole), rows([...one, ...other]));
      const misplaced = [one, other].flatMap((list, shard) =>
        list.filter((row) => shardOfText(keyOf(name, row), "bigint", 2) !== shard),
      );
      if (misplaced.length > 0) yield [`${name}: each row on its shard`, misplaced];
    } else {
      yield* unequal(name, rows(whole), rows(one));
      yield* unequal(`${name} on the second shard`, [...one].sort(), [...other].sort());
    }
  }
}

function keyOf(table: string, row: string): string {
  const values = JSON.parse(row) as Record<string, unknown>;
  return String(table === "tenants" ? values.id : values.tenant_id);
}

function* unequal(
  name: string,
  expected: readonly string[],
  actual: readonly string[],
): Generator<readonly [expected: unknown, actual: unknown]> {
  const missing = expected.filter((row) => !actual.includes(row));
  const odd = actual.filter((row) => !expected.includes(row));
  if (missing.length > 0 || odd.length > 0 || expected.length !== actual.length)
    yield [
      { name, missing },
      { name, odd, counts: [expected.length, actual.length] },
    ];
}
