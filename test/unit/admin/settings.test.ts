import { describe, expect, it } from "vitest";
import {
  changeOf,
  configRows,
  SettingInvalid,
  SettingUnknown,
} from "../../../src/admin/settings.js";
import { parseConfig } from "../../../src/config/read-config.js";

const CONFIG = parseConfig(
  {
    pgdog: `
[general]
port = 7000
query_timeout = 1500
[[databases]]
name = "prod"
host = "127.0.0.1"
password = "server-secret"
[admin]
password = "admin-secret"
`,
    users: `
[[users]]
name = "app"
database = "prod"
password = "user-secret"
server_password = "server-secret"
`,
  },
  { TEMPORAL_API_KEY: "api-secret" },
);

describe("SHOW CONFIG", () => {
  const rows = configRows(CONFIG);
  const value = (name: string) => rows.find(([key]) => key === name)?.[1];

  it("lists [general], [rewrite] and sluice.toml by name", () => {
    expect(value("port")).toBe("7000");
    expect(value("query_timeout")).toBe("1500ms");
    expect(value("client_idle_timeout")).toBe("default");
    expect(value("rewrite_shard_key_updates")).toBe("rewrite");
    expect(value("sluice_temporal_address")).toBeDefined();
    const names = rows.map(([name]) => name);
    expect(names).toEqual([...names].sort());
  });

  it("shows no secret", () => {
    expect(JSON.stringify(rows)).not.toMatch(/-secret/);
  });
});

describe("SET", () => {
  it.each([
    ["checkout_timeout", "250", (config: typeof CONFIG) => config.general.checkoutTimeoutMs, 250],
    ["two_phase_commit", "on", (config: typeof CONFIG) => config.general.twoPhaseCommit, true],
    ["two_phase_commit", "Auto", (config: typeof CONFIG) => config.general.twoPhaseCommit, "auto"],
    ["auth_type", "MD5", (config: typeof CONFIG) => config.general.authType, "md5"],
    ["rewrite_split_inserts", "rewrite", (c: typeof CONFIG) => c.rewrite.splitInserts, "rewrite"],
    ["query_timeout", "9", (config: typeof CONFIG) => config.general.others.query_timeout, 9],
  ])("%s", (name, value, read, expected) => {
    const { edit } = changeOf(name, value);
    expect(edit).not.toBeNull();
    if (edit) expect(read(edit(CONFIG))).toBe(expected);
  });

  it("says when a key has no effect here", () => {
    expect(changeOf("ban_timeout", "1").notice).toContain("no effect");
    expect(changeOf("checkout_timeout", "1").notice).toBeNull();
  });

  it("takes what drivers set when they connect", () => {
    expect(changeOf("client_encoding", "UTF8")).toEqual({ edit: null, notice: null });
  });

  it.each([
    ["cutover_timeout", "1", "42704"],
    ["no_such_thing", "1", "42704"],
    ["checkout_timeout", "soon", "22023"],
    ["default_pool_size", "0", "22023"],
    ["two_phase_commit", "perhaps", "22023"],
    ["auth_type", "kerberos", "22023"],
    ["rewrite_split_inserts", "ignore", "22023"],
  ])("refuses %s = %s", (name, value, sqlState) => {
    try {
      changeOf(name, value);
      expect.unreachable();
    } catch (error) {
      const of = sqlState === "42704" ? SettingUnknown : SettingInvalid;
      expect(error).toBeInstanceOf(of);
      expect(error).toMatchObject({ sqlState });
    }
  });
});
