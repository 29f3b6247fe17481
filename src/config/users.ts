import { UNUSED_POOL_KEYS } from "./databases.js";
import { POOLER_MODES } from "./general-keys.js";
import type { UserConfig } from "./model.js";
import { MAX_INTEGER, readSections, type TableReader } from "./table-reader.js";
import type { TomlFile } from "./toml-file.js";

const UNUSED_USER_KEYS = [
  ...UNUSED_POOL_KEYS,
  "server_iam_region",
  "server_vault_path",
  "vault_path",
  "vault_refresh_percent",
  "cross_shard_disabled",
  "two_phase_commit",
  "two_phase_commit_auto",
  "replication_mode",
  "replication_sharding",
  "identity",
  "tls_client_certificate_required",
];

/**
 * One entry per user and database: lists and `all_databases` are spread out.
 * @param known names of [[databases]], in their order
 * @throws ConfigInvalid also when a database is unknown, or a user stands twice for one database
 */
export function readUsers(
  file: TomlFile,
  known: ReadonlySet<string>,
  warnings: string[],
): readonly UserConfig[] {
  const seen = new Set<string>();
  const users: UserConfig[] = [];
  for (const table of readSections(file, "users")) {
    const { databases, ...user } = readUser(table, known, warnings);
    for (const database of databases) {
      const key = JSON.stringify([user.name, database]);
      if (seen.has(key))
        throw table.wrong("name", `user "${user.name}" stands twice for database "${database}"`);
      seen.add(key);
      users.push({ ...user, database });
    }
  }
  return users;
}

function readUser(
  table: TableReader,
  known: ReadonlySet<string>,
  warnings: string[],
): Omit<UserConfig, "database"> & { readonly databases: readonly string[] } {
  const name = table.required("name");
  const databases = readUserDatabases(table, known);
  const passwords = table.strings("passwords") ?? [];
  const password = table.string("password") ?? passwords[0] ?? null;
  if (passwords.length > (table.has("password") ? 0 : 1))
    warnings.push(`[[users]] "${name}": only the first password is accepted yet`);
  if (table.string("password_hash") !== null)
    warnings.push(`[[users]] "${name}": password_hash is accepted and has no effect yet`);
  const serverAuth = table.string("server_auth") ?? "password";
  if (serverAuth !== "password")
    throw table.wrong("server_auth", `"${serverAuth}" is not supported yet`);
  const user = {
    name,
    databases,
    password,
    serverUser: table.string("server_user"),
    serverPassword: table.string("server_password"),
    poolSize: table.integer("pool_size", { min: 0, max: MAX_INTEGER }),
    poolerMode: table.oneOf("pooler_mode", POOLER_MODES),
    schemaAdmin: table.boolean("schema_admin") ?? false,
  };
  for (const key of table.accept(UNUSED_USER_KEYS))
    warnings.push(`[[users]] "${name}": ${key} is accepted and has no effect yet`);
  table.finish();
  return user;
}

function readUserDatabases(table: TableReader, known: ReadonlySet<string>): readonly string[] {
  const one = table.string("database");
  const several = table.strings("databases");
  const all = table.boolean("all_databases") ?? false;
  const ways = [one !== null, several !== null, all].filter(Boolean).length;
  if (ways !== 1)
    throw table.wrong(
      "database",
      "a user needs exactly one of database, databases and all_databases",
    );
  if (all) return [...known];
  for (const database of several ?? [one ?? ""])
    if (!known.has(database))
      throw table.wrong(
        several === null ? "database" : "databases",
        `no [[databases]] entry has the name "${database}"`,
      );
  return several ?? [one ?? ""];
}
