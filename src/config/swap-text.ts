import { stringify } from "smol-toml";
import { userCredentials } from "./credentials.js";
import type { UserConfig } from "./model.js";
import { TomlEdit } from "./toml-edit.js";
import type { TomlFile } from "./toml-file.js";

/** Where pgdog.toml names a database that a switch concerns. */
const NAMES: readonly (readonly [section: string, key: string])[] = [
  ["databases", "name"],
  ["sharded_tables", "database"],
  ["omnisharded_tables", "database"],
  ["query_parsers", "database"],
  ["mirroring", "source_db"],
  ["mirroring", "destination_db"],
];

type Row = Readonly<Record<string, unknown>>;

/**
 * pgdog.toml with the two names exchanged and `database_name` pinned, in the ways we know, best first:
 * edited in place, then written anew without comments. The caller checks which one reads as it shall.
 */
export function swappedPgdogTexts(file: TomlFile, a: string, b: string): readonly string[] {
  const swapped = (name: unknown) => (name === a ? b : name === b ? a : name);
  const edited = editNames(file, swapped);
  const root = Object.fromEntries(
    Object.entries(file.root).map(([section, value]) => {
      const keys = NAMES.filter(([name]) => name === section).map(([, key]) => key);
      if (keys.length === 0 || !Array.isArray(value)) return [section, value];
      return [section, value.map((row: Row) => renamed(row, { section, keys, swapped }))];
    }),
  );
  return [...(edited === null ? [] : [edited]), stringify(root)];
}

function editNames(file: TomlFile, swapped: (name: unknown) => unknown): string | null {
  const edit = new TomlEdit(file);
  for (const [section, key] of NAMES) {
    for (const [index, row] of rowsOf(file, section).entries()) {
      const name = row[key];
      const to = swapped(name);
      if (typeof name !== "string" || typeof to !== "string" || to === name) continue;
      if (!edit.set(section, index, [key, to])) return null;
      if (section !== "databases" || row.database_name !== undefined) continue;
      if (!edit.set(section, index, ["database_name", name])) return null;
    }
  }
  return edit.toString();
}

function renamed(
  row: Row,
  how: {
    readonly section: string;
    readonly keys: readonly string[];
    readonly swapped: (name: unknown) => unknown;
  },
): Row {
  const names = how.keys.map((key) => [key, how.swapped(row[key])] as const);
  const changes = names.filter(([key, name]) => name !== row[key]);
  if (changes.length === 0) return row;
  const pinned =
    how.section === "databases" ? { database_name: row.database_name ?? row.name } : {};
  return { ...row, ...pinned, ...Object.fromEntries(changes) };
}

/** users.toml with what we prove to servers as in `desired`; entries of other databases stay as they are. */
export function usersTexts(
  file: TomlFile,
  current: readonly UserConfig[],
  desired: readonly UserConfig[],
): readonly string[] {
  const edited = editUsers(file, current, desired);
  const rows = rowsOf(file, "users");
  const concerned = new Set(desired.map((user) => user.database));
  const isConcerned = (row: Row) =>
    row.all_databases === true ||
    (Array.isArray(row.databases) && row.databases.some((name) => concerned.has(String(name)))) ||
    concerned.has(String(row.database));
  const anew = rows.flatMap((row) =>
    isConcerned(row) ? splitRow(row, current, concerned) : [row],
  );
  const written = desired.map((user) => ({
    ...rowOf(rows, user),
    name: user.name,
    database: user.database,
    ...(user.password === null ? {} : { password: user.password }),
    ...serverKeys(user),
  }));
  const root = { ...file.root, users: [...anew, ...written] };
  return [...(edited === null ? [] : [edited]), stringify(root)];
}

function editUsers(
  file: TomlFile,
  current: readonly UserConfig[],
  desired: readonly UserConfig[],
): string | null {
  const edit = new TomlEdit(file);
  const rows = rowsOf(file, "users");
  for (const user of desired) {
    const now = current.find((one) => isSameLogin(one, user));
    if (!now) {
      const password = user.password === null ? {} : { password: user.password };
      edit.append("users", {
        name: user.name,
        database: user.database,
        ...password,
        ...serverKeys(user),
      });
      continue;
    }
    if (sameServerSide(now, user)) continue;
    const index = rows.findIndex((row) => row.name === user.name && row.database === user.database);
    if (index < 0) return null;
    for (const [key, value] of Object.entries(serverKeys(user))) {
      const isThere = rows[index]?.[key] !== undefined;
      if (key === "schema_admin" && value === false && !isThere) continue;
      if (!edit.set("users", index, [key, value])) return null;
    }
  }
  return edit.toString();
}

export function isSameLogin(one: UserConfig, other: UserConfig): boolean {
  return one.name === other.name && one.database === other.database;
}

/** What a switch may change about a user. */
export function sameServerSide(one: UserConfig, other: UserConfig): boolean {
  const [first, second] = [userCredentials(one), userCredentials(other)];
  return (
    first.user === second.user &&
    first.password === second.password &&
    one.schemaAdmin === other.schemaAdmin
  );
}

function serverKeys(user: UserConfig): Record<string, string | boolean> {
  const own = userCredentials(user);
  return {
    server_user: own.user,
    server_password: own.password ?? "",
    schema_admin: user.schemaAdmin,
  };
}

/** What is left of a row without the databases that a switch concerns. */
function splitRow(
  row: Row,
  current: readonly UserConfig[],
  concerned: ReadonlySet<string>,
): readonly Row[] {
  const { database: _one, databases: _several, all_databases: _all, ...rest } = row;
  const others = databasesOf(row, current).filter((name) => !concerned.has(name));
  return others.length === 0 ? [] : [{ ...rest, databases: others }];
}

function databasesOf(row: Row, current: readonly UserConfig[]): readonly string[] {
  if (row.all_databases === true)
    return current.filter((user) => user.name === row.name).map((user) => user.database);
  return Array.isArray(row.databases) ? row.databases.map(String) : [String(row.database)];
}

function rowOf(rows: readonly Row[], user: UserConfig): Row {
  const row = rows.find(
    (one) =>
      one.name === user.name &&
      (one.all_databases === true ||
        one.database === user.database ||
        (Array.isArray(one.databases) && one.databases.includes(user.database))),
  );
  const { databases: _several, all_databases: _all, ...rest } = row ?? {};
  return rest;
}

function rowsOf(file: TomlFile, section: string): readonly Row[] {
  const value = file.root[section];
  return Array.isArray(value) ? (value as readonly Row[]) : [];
}
