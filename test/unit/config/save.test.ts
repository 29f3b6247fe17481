import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { configHash } from "../../../src/config/config-hash.js";
import { userCredentials } from "../../../src/config/credentials.js";
import type { Config } from "../../../src/config/model.js";
import { type ConfigPaths, readConfig } from "../../../src/config/read-config.js";
import { saveConfig } from "../../../src/config/save.js";
import { swapDatabases } from "../../../src/config/swap.js";
import { PGDOG, USERS } from "./sample.js";

const NAMES = ["prod", "prod_sharded"] as const;
let folder: string;
let paths: ConfigPaths;
const at = (name: string) => join(folder, name);
const text = (name: string) => readFileSync(at(name), "utf8");
const write = (pgdog: string, users: string) => {
  writeFileSync(at("pgdog.toml"), pgdog);
  writeFileSync(at("users.toml"), users);
};
const save = (config: Config) => saveConfig({ ...paths, config, databases: NAMES });
const credentials = (config: Config) =>
  config.users
    .map((user) => [user.name, user.database, user.password, userCredentials(user)])
    .sort((one, other) => JSON.stringify(one).localeCompare(JSON.stringify(other)));

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sluice-save-"));
  paths = {
    configPath: at("pgdog.toml"),
    usersPath: at("users.toml"),
    sluicePath: null,
    env: {},
  };
  write(PGDOG, USERS);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe("cutover_save_config", () => {
  it("writes files that read as the configuration in force, comments kept", () => {
    chmodSync(at("users.toml"), 0o640);
    const swapped = swapDatabases(readConfig(paths), ...NAMES);
    expect(save(swapped)).toBe("saved");
    const read = readConfig(paths);
    expect(configHash(read)).toBe(configHash(swapped));
    expect(credentials(read)).toEqual(credentials(swapped));
    expect(text("pgdog.toml")).toContain("# our proxies");
    expect(text("pgdog.toml")).toContain('name = "prod_sharded" # the old one');
    expect(text("pgdog.toml")).toContain('database_name = "prod"');
    expect(text("users.toml")).toContain("# rotated");
    expect(statSync(at("users.toml")).mode & 0o777).toBe(0o640);
    expect(readdirSync(folder).sort()).toEqual([
      "pgdog.bak.toml",
      "pgdog.toml",
      "users.bak.toml",
      "users.toml",
    ]);
  });

  it("pins a physical name with its own entry, before the comment of the next", () => {
    write(PGDOG.replace('host = "10.0.0.1"\n\n', 'host = "10.0.0.1"\n\n# the new ones\n'), USERS);
    save(swapDatabases(readConfig(paths), ...NAMES));
    expect(text("pgdog.toml")).toContain(
      'host = "10.0.0.1"\ndatabase_name = "prod"\n\n# the new ones\n[[databases]]',
    );
  });

  it("keeps the ends of lines", () => {
    write(PGDOG.replaceAll("\n", "\r\n"), USERS.replaceAll("\n", "\r\n"));
    save(swapDatabases(readConfig(paths), ...NAMES));
    for (const name of ["pgdog.toml", "users.toml"])
      expect(text(name).replaceAll("\r\n", "")).not.toMatch(/[\r\n]/);
  });

  it("decides by what the files say: a second run changes nothing", () => {
    const swapped = swapDatabases(readConfig(paths), ...NAMES);
    save(swapped);
    const before = [text("pgdog.toml"), text("users.toml")];
    expect(save(swapped)).toBe("unchanged");
    expect([text("pgdog.toml"), text("users.toml")]).toEqual(before);
  });

  it("keeps the backups as they were before the first cutover (W-25)", () => {
    let config = readConfig(paths);
    for (let round = 0; round < 3; round++) {
      config = swapDatabases(config, ...NAMES);
      expect(save(config)).toBe("saved");
      expect(configHash(readConfig(paths))).toBe(configHash(config));
      expect(text("pgdog.bak.toml")).toBe(PGDOG);
      expect(text("users.bak.toml")).toBe(USERS);
    }
  });

  it("serialises anew what cannot be edited in place", () => {
    write(
      `databases = [
  { name = "prod", host = "a" },
  { name = "prod_sharded", host = "b", shard = 0 },
  { name = "prod_sharded", host = "c", shard = 1 },
]
general = { query_timeout = 9223372036854775807 }
[[sharded_tables]]
database = "prod_sharded"
column = "tenant_id"
`,
      `[[users]]
name = "app"
databases = ["prod", "prod_sharded"]
password = "p"
[[users]]
name = "owner"
database = "prod"
password = "o"
schema_admin = true
`,
    );
    const swapped = swapDatabases(readConfig(paths), ...NAMES);
    expect(save(swapped)).toBe("saved");
    expect(configHash(readConfig(paths))).toBe(configHash(swapped));
    expect(credentials(readConfig(paths))).toEqual(credentials(swapped));
    expect(save(swapDatabases(swapped, ...NAMES))).toBe("saved");
  });

  it("refuses files that somebody edited meanwhile", () => {
    const swapped = swapDatabases(readConfig(paths), ...NAMES);
    write(PGDOG.replace("10.0.0.1", "10.9.9.9"), USERS);
    expect(() => save(swapped)).toThrow(/sends "prod" and "prod_sharded" to other servers/);
    expect(existsSync(at("pgdog.bak.toml"))).toBe(false);
  });

  it.each([0, 1, 2])("a crash after %i renames leaves the swapped files to readers", (renames) => {
    const swapped = swapDatabases(readConfig(paths), ...NAMES);
    save(swapped);
    const saved = [text("pgdog.toml"), text("users.toml")];
    const journal = at(".pgdog.toml.saving");
    const blocked = at("users.toml.new");
    leaveAsAfterCrash(saved, renames);
    expect(existsSync(journal)).toBe(true);
    expect(configHash(readConfig(paths))).toBe(configHash(swapped));
    expect(credentials(readConfig(paths))).toEqual(credentials(swapped));
    expect(existsSync(blocked)).toBe(renames < 2);

    expect(save(swapped)).toBe("unchanged");
    expect([text("pgdog.toml"), text("users.toml")]).toEqual(saved);
    expect(existsSync(journal)).toBe(false);
    expect(existsSync(blocked)).toBe(false);
  });

  it("an edit by hand after such a crash wins", () => {
    const swapped = swapDatabases(readConfig(paths), ...NAMES);
    save(swapped);
    const saved = [text("pgdog.toml"), text("users.toml")];
    leaveAsAfterCrash(saved, 0);
    writeFileSync(at("pgdog.toml"), PGDOG.replace("7000", "7001"));
    expect(readConfig(paths).general.port).toBe(7001);
  });
});

/** Puts the folder into the state between two renames, out of what a whole save writes. */
function leaveAsAfterCrash(saved: readonly string[], renames: number): void {
  const names = ["pgdog.toml", "users.toml"];
  const old = [PGDOG, USERS];
  const files = names.map((name, index) => ({
    path: at(name),
    newPath: at(`${name}.new`),
    oldHash: sha256(old[index] ?? ""),
    newHash: sha256(saved[index] ?? ""),
  }));
  for (const [index, name] of names.entries()) {
    writeFileSync(at(name), old[index] ?? "");
    writeFileSync(at(`${name}.new`), saved[index] ?? "");
  }
  writeFileSync(at(".pgdog.toml.saving"), JSON.stringify({ files }));
  for (const name of names.slice(0, renames)) renameSync(at(`${name}.new`), at(name));
}

function sha256(of: string): string {
  return createHash("sha256").update(of).digest("hex");
}
