import { linkSync, rmSync, statSync } from "node:fs";
import { basename, dirname, extname, join } from "node:path";
import { ConfigNotSaved } from "./config-errors.js";
import type { Config } from "./model.js";
import { type ConfigFiles, type ConfigPaths, readConfigFiles, toConfig } from "./read-config.js";
import {
  finishSave,
  type Replacement,
  realpathOf,
  replaceFiles,
  syncFolder,
  writeDurably,
} from "./save-journal.js";
import { swapDatabases } from "./swap.js";
import { isSameLogin, sameServerSide, swappedPgdogTexts, usersTexts } from "./swap-text.js";
import { parseToml } from "./toml-file.js";

export interface SaveRequest extends ConfigPaths {
  /** What the files shall say: the configuration in force after the switch. */
  readonly config: Config;
  /** The two names whose clusters were exchanged. */
  readonly databases: readonly [string, string];
}

/**
 * Makes the files say what `config` says (`cutover_save_config`). It looks at what the files *say*, and
 * never at how often it ran, so a second run changes nothing, and one after a crash finishes the first.
 * pgdog.bak.toml and users.bak.toml keep the files as they were before the first cutover.
 * @throws ConfigNotSaved when the folder cannot be written, or when the files route the two names to
 *   other servers than both sides of the switch: somebody edited them
 * @throws ConfigInvalid when the files are broken
 */
export function saveConfig(request: SaveRequest): "saved" | "unchanged" {
  const { configPath } = request;
  try {
    finishSave(configPath);
    const files = readConfigFiles(request);
    const replacements = [newPgdog(files, request), newUsers(files, request)].filter(
      (one) => one !== null,
    );
    if (replacements.length === 0) return "unchanged";
    keepFirst(files.pgdog);
    keepFirst(files.users);
    replaceFiles(configPath, replacements);
    return "saved";
  } catch (cause) {
    if (!isFileSystemError(cause)) throw cause;
    throw new ConfigNotSaved(cause.message, { cause });
  }
}

function newPgdog(files: ConfigFiles, request: SaveRequest): Replacement | null {
  const { config, databases, env } = request;
  const [a, b] = databases;
  const current = toConfig(files, env);
  const wanted = routing(config, databases);
  if (routing(current, databases) === wanted) return null;
  if (routing(swapDatabases(current, a, b), databases) !== wanted)
    throw new ConfigNotSaved(
      `${files.pgdog.path} sends "${a}" and "${b}" to other servers than the switch did`,
    );
  const { path, text } = files.pgdog;
  const newText = swappedPgdogTexts(files.pgdog, a, b).find((one) => {
    const pgdog = parseToml(path, one);
    return routing(toConfig({ ...files, pgdog }, env), databases) === wanted;
  });
  if (newText === undefined) throw new ConfigNotSaved(`${path} could not be rewritten`);
  return { path, oldText: text, newText };
}

function newUsers(files: ConfigFiles, request: SaveRequest): Replacement | null {
  const { config, databases, env } = request;
  const current = toConfig(files, env).users;
  const desired = config.users.filter((user) => databases.includes(user.database));
  const reads = (users: Config["users"]) =>
    desired.every((user) =>
      users.some((one) => isSameLogin(one, user) && sameServerSide(one, user)),
    );
  if (reads(current)) return null;
  const { path, text } = files.users;
  const newText = usersTexts(files.users, current, desired).find((one) =>
    reads(toConfig({ ...files, users: parseToml(path, one) }, env).users),
  );
  if (newText === undefined) throw new ConfigNotSaved(`${path} could not be rewritten`);
  return { path, oldText: text, newText };
}

/** What a switch exchanges, in a form that can be compared. */
function routing(config: Config, names: readonly string[]): string {
  const rows = [
    ...config.databases
      .filter((one) => names.includes(one.name))
      .map((one) => [one.name, one.shard, one.role, one.host, one.port, one.databaseName]),
    ...config.shardedTables
      .filter((one) => names.includes(one.database))
      .map((one) => ["sharded", one.database, one.schema, one.name, one.column, one.dataType]),
    ...Object.entries(config.omnishardedTables)
      .filter(([name]) => names.includes(name))
      .map(([name, tables]) => ["omnisharded", name, [...tables].sort()]),
  ];
  return JSON.stringify(rows.map((row) => JSON.stringify(row)).sort());
}

/** Written under another name and linked: the backup is whole or not there, and never overwritten. */
function keepFirst(file: { readonly path: string; readonly text: string }): void {
  const path = realpathOf(file.path);
  const extension = extname(path);
  const backup = join(dirname(path), `${basename(path, extension)}.bak${extension}`);
  const draft = `${backup}.new`;
  const { mode, uid, gid } = statSync(path);
  writeDurably(draft, file.text, { mode, uid, gid });
  try {
    linkSync(draft, backup);
    syncFolder(dirname(backup));
  } catch (error) {
    if (!isFileSystemError(error) || error.code !== "EEXIST") throw error;
  } finally {
    rmSync(draft, { force: true });
  }
}

function isFileSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "syscall" in error;
}
