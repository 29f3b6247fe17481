// Which programs of PostgreSQL this machine has outside our own cache.
import { accessSync, constants, existsSync, readdirSync, realpathSync } from "node:fs";
import { delimiter, join } from "node:path";

export const POSTGRES_PROGRAMS = ["postgres", "initdb", "pg_ctl", "pg_dump", "psql", "pgbench"];

/** Folders that hold nothing but PostgreSQL: all versions, and what lets Debian choose one. */
export const POSTGRES_FOLDERS = [
  "/usr/lib/postgresql",
  "/usr/share/postgresql-common",
  ...namesIn("/usr")
    .filter((name) => name.startsWith("pgsql-"))
    .map((name) => join("/usr", name)),
  ...["/opt/homebrew/opt", "/usr/local/opt"].flatMap((parent) =>
    namesIn(parent)
      .filter((name) => name.startsWith("postgresql") || name === "libpq")
      .map((name) => join(parent, name)),
  ),
  "/Applications/Postgres.app",
].filter((folder) => existsSync(folder));

/** @returns {string[]} real paths of the programs that can be run */
export function installedPrograms() {
  const folders = [
    ...(process.env.PATH ?? "").split(delimiter).filter((folder) => folder !== ""),
    ...POSTGRES_FOLDERS.flatMap((folder) => [
      join(folder, "bin"),
      ...namesIn(folder).map((name) => join(folder, name, "bin")),
    ]),
  ];
  const found = folders.flatMap((folder) =>
    POSTGRES_PROGRAMS.map((name) => join(folder, name)).filter(canRun),
  );
  return [...new Set(found.map((path) => realpathSync(path)))];
}

function canRun(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function namesIn(folder) {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
