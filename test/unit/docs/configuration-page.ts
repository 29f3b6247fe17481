import { GENERAL_KEYS, type GeneralKey } from "../../../src/config/general-keys.js";
import { SLUICE_KEYS, type SluiceKey } from "../../../src/config/sluice-keys.js";

/** docs/configuration.md, out of the tables that the reader itself uses. */
export function configurationPage(): string {
  const general = Object.entries<GeneralKey>(GENERAL_KEYS);
  const used = general.filter(([, key]) => key.effect !== null);
  const unused = general.filter(([, key]) => key.effect === null);
  return `# Configuration

<!-- Written by test/unit/docs/configuration.test.ts out of the reader's own tables: \`npx vitest run -u test/unit/docs\`. -->

A node reads three files: \`pgdog.toml\` and \`users.toml\`, which are PgDog's under PgDog's key names, and
\`sluice.toml\`, for what those have no place for. \`sluice.toml\` is optional; without \`--sluice\` it is looked
for beside \`pgdog.toml\`. \`sluice configcheck\` reads all three and says what is wrong.

A mistake names file, line and key, and an unknown key is a mistake. A node that runs keeps its
configuration when \`RELOAD\` or SIGHUP meet a mistake. Durations are whole milliseconds; more than
2,147,483,647 counts as that.

## pgdog.toml, [general]

Each key can also be set as \`PGDOG_<KEY>\` in the environment, which counts where the file says nothing.
\`max_pool_size\` is another name of \`default_pool_size\`.

${table(
  ["key", "default", "what it does"],
  used.map(([name, key]) => [code(name), shown(key.initial), `${key.effect ?? ""}${choices(key)}`]),
)}

Read, checked, shown by \`SHOW CONFIG\`, and without effect so far. A node says so in its log when one of
them differs from its default. \`tls_client_required = true\` is refused, since it would be a promise not kept.

${unused.map(([name]) => code(name)).join(", ")}

## pgdog.toml, other sections

| section | keys |
|---|---|
| \`[[databases]]\` | \`name\`, \`host\`; \`port\` 5432, \`shard\` 0, \`role\` primary, \`database_name\` as \`name\`, \`user\`, \`password\`, \`pool_size\`, \`pooler_mode\`. Shards are numbered from 0 without gaps, one primary each |
| \`[[sharded_tables]]\` | \`database\`, \`column\`; \`name\` (absent: every table that has the column), \`schema\`, \`data_type\` bigint, uuid or varchar. Other hashers, mappings, centroids and lookups are refused: they would send rows elsewhere |
| \`[[omnisharded_tables]]\` | \`database\`, \`tables\`. Every table that no rule of \`[[sharded_tables]]\` matches is omnisharded anyway; a database with several shards and no rule of either kind is refused at start and by \`RELOAD\` |
| \`[rewrite]\` | \`shard_key\` rewrite (PgDog: error), error or ignore; \`split_inserts\` rewrite (PgDog: error) or error. An application that ran on one database needs both |
| \`[admin]\` | \`name\` admin, \`user\` admin, \`password\` (default: random for the life of the process; also \`PGDOG_ADMIN_PASSWORD\`). May stand in users.toml |
| \`[replication]\` | \`pg_dump_path\` pg_dump; it has to fit the source's version |

\`[[sharded_schemas]]\` and \`[[sharded_mappings]]\` are refused. The sections \`[tcp]\`, \`[memory]\`,
\`[replica_lag]\`, \`[[query_parsers]]\`, \`[[mirroring]]\`, \`[multi_tenant]\`, \`[[plugins]]\`, \`[otel]\` and
\`[vault]\` are accepted and have no effect yet.

## users.toml

\`[[users]]\`: \`name\`; one of \`database\`, \`databases\`, \`all_databases\`; \`password\` (of \`passwords\` the
first counts), \`server_user\` and \`server_password\` (default: what clients prove; empty: none), \`pool_size\`,
\`pooler_mode\`, \`schema_admin\` (whose connections do schema, copy and replication; default: the first user
of the database).

A switch exchanges the clusters under two names. What clients prove stays with the name; what we prove to
servers moves with the cluster. With \`cutover_save_config\` every node then writes both files, comments
kept where that is possible; \`pgdog.bak.toml\` and \`users.bak.toml\` stay as they were before the first cutover.

## sluice.toml

${table(
  ["section", "key", "default", "what it does"],
  Object.values<SluiceKey>(SLUICE_KEYS).map((row) => [
    code(`[${row.section}]`),
    code(row.key),
    shown(row.initial),
    `${row.effect}${choices(row)}`,
  ]),
)}

## Environment

| variable | what it does |
|---|---|
| \`TEMPORAL_ADDRESS\`, \`TEMPORAL_NAMESPACE\` | go before \`[temporal]\` of sluice.toml |
| \`TEMPORAL_API_KEY\` | authenticates by key, over TLS |
| \`TEMPORAL_TLS\` | \`true\`: TLS without a client certificate |
| \`TEMPORAL_TLS_CLIENT_CERT_PATH\`, \`TEMPORAL_TLS_CLIENT_KEY_PATH\`, \`TEMPORAL_TLS_SERVER_CA_CERT_PATH\`, \`TEMPORAL_TLS_SERVER_NAME\` | mutual TLS |
| \`PGDOG_<KEY>\`, \`PGDOG_ADMIN_PASSWORD\` | as above |
| \`SLUICE_LOG_LEVEL\` | trace, debug, info, warn, error; goes before \`log_level\` |

Tests and the demo also read \`SLUICE_POSTGRES_BIN\` (a folder with initdb, postgres, pg_dump and psql),
\`SLUICE_TEMPORAL_BIN\` (the \`temporal\` command) and \`SLUICE_CACHE_DIR\`.
`;
}

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(header), `|${"---|".repeat(header.length)}`, ...rows.map(line)].join("\n");
}

function code(text: string): string {
  return `\`${text}\``;
}

function shown(value: unknown): string {
  if (value === null) return "unset";
  if (value === "") return "empty";
  return code(typeof value === "string" ? value : JSON.stringify(value));
}

function choices({ type }: GeneralKey | SluiceKey): string {
  return typeof type === "string" ? "" : ` (${type.join(", ")})`;
}
