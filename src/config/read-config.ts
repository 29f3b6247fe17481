import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import {
  readDatabases,
  readOmnishardedTables,
  readShardedTables,
  refuseWithoutRules,
} from "./databases.js";
import { type Environment, overrideTemporal } from "./environment.js";
import { readGeneral } from "./general.js";
import type { Config } from "./model.js";
import { pathToRead } from "./save-journal.js";
import { readSluice, SLUICE_SECTIONS } from "./sluice-keys.js";
import { checkSections, readSection, readSections } from "./table-reader.js";
import { parseToml, readTomlFile, type TomlFile } from "./toml-file.js";
import { readUsers } from "./users.js";

export interface ConfigPaths {
  readonly configPath: string;
  readonly usersPath: string;
  /** null: `sluice.toml` beside the first, if there is one. */
  readonly sluicePath: string | null;
  readonly env: Environment;
}

export interface ConfigFiles {
  readonly pgdog: TomlFile;
  readonly users: TomlFile;
  readonly sluice: TomlFile;
}

const READ_SECTIONS = [
  "general",
  "databases",
  "sharded_tables",
  "omnisharded_tables",
  "rewrite",
  "admin",
  "replication",
];
/** Accepted, without effect so far. */
const UNUSED_SECTIONS = [
  "tcp",
  "memory",
  "replica_lag",
  "query_parsers",
  "mirroring",
  "multi_tenant",
  "plugins",
  "otel",
  "vault",
];
/** They decide where rows go: not to know them would send rows elsewhere. */
const REFUSED_SECTIONS = ["sharded_mappings", "sharded_schemas"];

/** Unless set, the admin password is random: one per process, so that a RELOAD does not change it. */
const RANDOM_ADMIN_PASSWORD = randomBytes(24).toString("base64url");

/**
 * Reads and checks all files. Writes nothing. A save that a crash cut between its two renames is seen
 * as complete.
 * @throws ConfigInvalid with file, line and key
 */
export function readConfig(paths: ConfigPaths): Config {
  return toConfig(readConfigFiles(paths), paths.env);
}

export function readConfigFiles(paths: ConfigPaths): ConfigFiles {
  const beside = join(dirname(paths.configPath), "sluice.toml");
  const sluicePath = paths.sluicePath ?? (existsSync(beside) ? beside : null);
  return {
    pgdog: readThrough(paths.configPath, paths.configPath),
    users: readThrough(paths.usersPath, paths.configPath),
    sluice: sluicePath === null ? parseToml("sluice.toml", "") : readTomlFile(sluicePath),
  };
}

function readThrough(path: string, configPath: string): TomlFile {
  // Named as the operator knows it, wherever the text stands.
  return { ...readTomlFile(pathToRead(path, configPath)), path };
}

/** The same for texts in memory; mistakes are reported under the usual file names. @testonly */
export function parseConfig(
  texts: { readonly pgdog: string; readonly users: string; readonly sluice?: string },
  env: Environment = {},
): Config {
  const files = {
    pgdog: parseToml("pgdog.toml", texts.pgdog),
    users: parseToml("users.toml", texts.users),
    sluice: parseToml("sluice.toml", texts.sluice ?? ""),
  };
  return toConfig(files, env);
}

export function toConfig({ pgdog, users, sluice }: ConfigFiles, env: Environment): Config {
  const warnings: string[] = [];
  refuseSections(pgdog);
  checkSections(pgdog, [...READ_SECTIONS, ...UNUSED_SECTIONS]);
  checkSections(users, ["users", "admin"]);
  checkSections(sluice, SLUICE_SECTIONS);
  for (const section of UNUSED_SECTIONS)
    if (pgdog.root[section] !== undefined)
      warnings.push(`${basename(pgdog.path)}: [${section}] is accepted and has no effect yet`);

  const general = readGeneral(readSection(pgdog, "general"), env, warnings);
  const databases = readDatabases(pgdog, warnings);
  const known = new Set(databases.map((database) => database.name));
  const sluiceConfig = readSluice(sluice, general.port);
  const shardedTables = readShardedTables(pgdog, known);
  const omnishardedTables = readOmnishardedTables(pgdog, known);
  const ruled = [...shardedTables.map((rule) => rule.database), ...Object.keys(omnishardedTables)];
  refuseWithoutRules(pgdog, new Set(ruled));
  const config = {
    general,
    databases,
    users: readUsers(users, known, warnings),
    shardedTables,
    omnishardedTables,
    admin: readAdmin(pgdog, users, env),
    rewrite: readRewrite(pgdog),
    pgDumpPath: readReplication(pgdog),
    sluice: { ...sluiceConfig, temporal: overrideTemporal(sluiceConfig.temporal, env) },
  };
  return { ...config, warnings };
}

function refuseSections(pgdog: TomlFile): void {
  for (const section of REFUSED_SECTIONS)
    for (const table of readSections(pgdog, section))
      throw table.wrong("", "is not supported yet: Sluice shards by PostgreSQL's hash only");
}

function readAdmin(pgdog: TomlFile, users: TomlFile, env: Environment): Config["admin"] {
  const read = (file: TomlFile) => {
    const table = readSection(file, "admin");
    const found = {
      name: table.string("name"),
      user: table.string("user"),
      password: table.string("password"),
    };
    table.finish();
    return found;
  };
  const [first, second] = [read(pgdog), read(users)];
  return {
    name: first.name ?? second.name ?? "admin",
    user: first.user ?? second.user ?? "admin",
    password:
      first.password ?? second.password ?? env.PGDOG_ADMIN_PASSWORD ?? RANDOM_ADMIN_PASSWORD,
  };
}

function readRewrite(pgdog: TomlFile): Config["rewrite"] {
  const table = readSection(pgdog, "rewrite");
  const rewrite: Config["rewrite"] = {
    shardKey: table.oneOf("shard_key", ["error", "rewrite", "ignore"]) ?? "rewrite",
    splitInserts: table.oneOf("split_inserts", ["error", "rewrite"]) ?? "rewrite",
  };
  table.accept(["enabled", "primary_key"]);
  table.finish();
  return rewrite;
}

function readReplication(pgdog: TomlFile): string {
  const table = readSection(pgdog, "replication");
  const path = table.string("pg_dump_path") ?? "pg_dump";
  table.finish();
  return path;
}
