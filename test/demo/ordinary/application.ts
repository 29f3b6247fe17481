import { readFileSync } from "node:fs";
import { type Application, type ComparedTable, countRows } from "../../support/application.js";

const SHARDED: readonly ComparedTable[] = [
  { table: "tenants", shardingKey: "id" },
  ...["users", "projects", "tasks", "comments", "project_members", "attachments", "audit_log"].map(
    (table) => ({ table, shardingKey: "tenant_id" }),
  ),
];
const EVERYWHERE = ["plans", "feature_flags", "schema_migrations", "sessions"];
const TABLES: readonly ComparedTable[] = [
  ...SHARDED,
  ...EVERYWHERE.map((table) => ({ table, shardingKey: null })),
];
/** What seed.sql says; most other rows follow from the users. */
const USERS = 8_000;
const ROWS_BESIDE = 2_645;
const ROWS_PER_USER = 17.75;

export const LOAD_FILE = new URL("./load.sql", import.meta.url);

/**
 * The application that people have, as its files say.
 * @param rows about so many, for tests; without it what the files say
 */
export function ordinary(rows?: number): Application {
  const users =
    rows === undefined ? USERS : Math.max(40, Math.round((rows - ROWS_BESIDE) / ROWS_PER_USER));
  return {
    publication: "all_tables",
    tables: TABLES,
    shardedTables: [{ name: "tenants", column: "id" }, { column: "tenant_id" }],
    sentinel: {
      insert: (tenant, id) =>
        `INSERT INTO audit_log (tenant_id, action) VALUES (${tenant}, '${id}')`,
      from: (id) => `FROM audit_log WHERE action = '${id}'`,
    },
    seed: async (server, database) => {
      const query = async (text: string) => await server.sql(database, text);
      await query(read("schema.sql"));
      await query(withUsers(read("seed.sql"), users));
      await query(GRANTS);
      return await countRows(query, TABLES);
    },
  };
}

/** Roles are the demo's own: the schema says nothing of them. */
const GRANTS = `
  GRANT USAGE ON SCHEMA public TO app;
  GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app;
  GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO app`;

function read(name: string): string {
  return readFileSync(new URL(`./${name}`, import.meta.url), "utf8");
}

function withUsers(seed: string, users: number): string {
  const all = `FROM generate_series(1, ${USERS}) g;`;
  if (seed.split(all).length !== 2) throw new Error("seed.sql makes its users in another way");
  return seed.replace(all, `FROM generate_series(1, ${users}) g;`);
}
