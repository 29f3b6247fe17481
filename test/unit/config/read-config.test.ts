import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { ConfigInvalid } from "../../../src/config/config-errors.js";
import { GENERAL_KEYS } from "../../../src/config/general-keys.js";
import { parseConfig, readConfig } from "../../../src/config/read-config.js";
import { PGDOG, USERS } from "./sample.js";

/** The error that these texts get. */
function refusal(
  texts: { readonly pgdog?: string; readonly users?: string; readonly sluice?: string },
  env: Record<string, string> = {},
): ConfigInvalid {
  try {
    parseConfig({ pgdog: PGDOG, users: USERS, ...texts }, env);
  } catch (error) {
    if (error instanceof ConfigInvalid) return error;
    throw error;
  }
  throw new Error("accepted");
}

describe("pgdog.toml and users.toml", () => {
  it("are read under PgDog's names, defaults filled in", () => {
    const config = parseConfig({ pgdog: PGDOG, users: USERS });
    expect(config.general).toMatchObject({
      host: "0.0.0.0",
      port: 7000,
      workers: 1,
      poolerMode: "transaction",
      authType: "scram",
      defaultPoolSize: 10,
      cutoverTrafficStopThresholdBytes: 1_000_000,
      cutoverSaveConfig: true,
    });
    expect(config.databases).toHaveLength(3);
    expect(config.databases[1]).toEqual({
      name: "prod_sharded",
      host: "10.0.0.2",
      port: 5432,
      shard: 0,
      role: "primary",
      databaseName: "shard_0",
      user: null,
      password: null,
      poolSize: null,
      poolerMode: null,
    });
    expect(config.databases[0]?.databaseName).toBe("prod");
    expect(config.shardedTables).toEqual([
      {
        database: "prod_sharded",
        name: null,
        schema: null,
        column: "tenant_id",
        dataType: "bigint",
      },
    ]);
    expect(config.omnishardedTables).toEqual({ prod_sharded: ["countries", "plans"] });
    expect(config.admin).toEqual({ name: "admin", user: "admin", password: "secret" });
    expect(config.rewrite).toEqual({ shardKey: "rewrite", splitInserts: "rewrite" });
  });

  it("knows all 108 keys of [general], and says which have no effect", () => {
    expect(Object.keys(GENERAL_KEYS)).toHaveLength(108);
    const lines = Object.entries(GENERAL_KEYS)
      .filter(([, key]) => key.initial !== null)
      .map(([name, key]) => `${name} = ${JSON.stringify(key.initial)}`);
    const config = parseConfig({ pgdog: `[general]\n${lines.join("\n")}`, users: "" });
    expect(config.warnings).toEqual([]);
    expect(config.general.others).toMatchObject({ query_cache_limit: 1_000, tls_verify: "prefer" });

    const changed = parseConfig({ pgdog: "[general]\nquery_cache_limit = 7", users: "" });
    expect(changed.warnings).toEqual([
      "[general] query_cache_limit is accepted and has no effect yet",
    ]);
  });

  it('reads PgDog\'s "off", the largest 64-bit number', () => {
    const pgdog =
      "[general]\nquery_timeout = 9223372036854775807\nidle_timeout = 9223372036854775807";
    const config = parseConfig({ pgdog, users: "" });
    // The longest that a timer of Node's can wait.
    expect(config.general.idleTimeoutMs).toBe(2_147_483_647);
  });

  it("takes PGDOG_ variables where the file says nothing", () => {
    const env = { PGDOG_PORT: "9999", PGDOG_CHECKOUT_TIMEOUT: "77", PGDOG_ADMIN_PASSWORD: "x" };
    const config = parseConfig({ pgdog: PGDOG, users: USERS }, env);
    expect(config.general.port).toBe(7000);
    expect(config.general.checkoutTimeoutMs).toBe(77);
    expect(config.admin.password).toBe("secret");
    expect(parseConfig({ pgdog: "", users: "" }, env).admin.password).toBe("x");
    expect(refusal({}, { PGDOG_CHECKOUT_TIMEOUT: "soon" }).message).toContain(
      "PGDOG_CHECKOUT_TIMEOUT",
    );
  });

  it("keeps a random admin password for the life of the process", () => {
    const first = parseConfig({ pgdog: "", users: "" }).admin.password;
    expect(first.length).toBeGreaterThan(20);
    expect(parseConfig({ pgdog: "", users: "" }).admin.password).toBe(first);
  });

  it("spreads users with several databases", () => {
    const users = `
[[users]]
name = "one"
databases = ["prod", "prod_sharded"]
password = "p"
[[users]]
name = "two"
all_databases = true
passwords = ["q", "r"]
`;
    const config = parseConfig({ pgdog: PGDOG, users });
    expect(config.users.map((user) => [user.name, user.database, user.password])).toEqual([
      ["one", "prod", "p"],
      ["one", "prod_sharded", "p"],
      ["two", "prod", "q"],
      ["two", "prod_sharded", "q"],
    ]);
    expect(config.warnings.join()).toContain("only the first password");
  });
});

describe("mistakes name file, line and key", () => {
  const cases: readonly {
    readonly what: string;
    readonly pgdog?: string;
    readonly users?: string;
    readonly sluice?: string;
    readonly place: readonly [file: string, line: number | null, key: string | null];
    readonly says: string;
  }[] = [
    {
      what: "broken TOML",
      pgdog: '[general]\nport = 1\nhost = "open\n',
      place: ["pgdog.toml", 3, "host"],
      says: "Invalid TOML document",
    },
    {
      what: "a wrong type",
      pgdog: "[general]\n\n# ports\nport = '6432'",
      place: ["pgdog.toml", 4, "[general] port"],
      says: 'must be an integer, not "6432"',
    },
    {
      what: "an unknown key",
      pgdog: "[general]\npoolermode = 'session'",
      place: ["pgdog.toml", 2, "[general] poolermode"],
      says: 'is not a known key; did you mean "pooler_mode"?',
    },
    {
      what: "an unknown section",
      pgdog: "[general]\n[[database]]\nname = 'x'",
      place: ["pgdog.toml", 2, "database"],
      says: 'did you mean "databases"?',
    },
    {
      what: "a value out of range",
      pgdog: "[general]\nport = 70000",
      place: ["pgdog.toml", 2, "[general] port"],
      says: "must be from 1 to 65535, not 70000",
    },
    {
      what: "a value that is none of the choices",
      pgdog: "[general]\nauth_type = 'kerberos'",
      place: ["pgdog.toml", 2, "[general] auth_type"],
      says: "must be one of scram, md5, plain, trust",
    },
    {
      what: "the second of two entries",
      pgdog: "[[databases]]\nname='a'\nhost='h'\n\n[[databases]]\nname='b'\nhost=5",
      place: ["pgdog.toml", 7, "[[databases]] host"],
      says: "must be a string",
    },
    {
      what: "a duplicate shard",
      pgdog:
        "[[databases]]\nname='a'\nhost='h'\nshard=0\n[[databases]]\nname='a'\nhost='i'\nshard=0",
      place: ["pgdog.toml", 8, "[[databases]] shard"],
      says: "second primary for shard 0",
    },
    {
      what: "a missing shard",
      pgdog: "[[databases]]\nname='a'\nhost='h'\n[[databases]]\nname='a'\nhost='i'\nshard=2",
      place: ["pgdog.toml", 7, "[[databases]] shard"],
      says: "no shard 1",
    },
    {
      what: "several shards and no rule",
      pgdog: "[[databases]]\nname='a'\nhost='h'\n[[databases]]\nname='a'\nhost='i'\nshard=1",
      place: ["pgdog.toml", 7, "[[databases]] shard"],
      says: "no rule for its tables",
    },
    {
      what: "a sharded table of an unknown database",
      pgdog: "[[sharded_tables]]\ndatabase='a'\ncolumn='id'",
      place: ["pgdog.toml", 2, "[[sharded_tables]] database"],
      says: 'no [[databases]] entry has the name "a"',
    },
    {
      what: "a sharding function that we do not have",
      pgdog:
        "[[databases]]\nname='a'\nhost='h'\n[[sharded_tables]]\ndatabase='a'\ncolumn='id'\nhasher='sha1'",
      place: ["pgdog.toml", 7, "[[sharded_tables]] hasher"],
      says: "must be one of postgres",
    },
    {
      what: "sharded schemas",
      pgdog: "[[databases]]\nname='a'\nhost='h'\n[[sharded_schemas]]\ndatabase='a'\nshard=0",
      place: ["pgdog.toml", 4, "[[sharded_schemas]] "],
      says: "not supported yet",
    },
    {
      what: "a user of an unknown database",
      users: "[[users]]\nname='u'\ndatabase='prud'",
      place: ["users.toml", 3, "[[users]] database"],
      says: 'no [[databases]] entry has the name "prud"',
    },
    {
      what: "a user twice",
      users: "[[users]]\nname='u'\ndatabase='prod'\n[[users]]\nname='u'\nall_databases=true",
      place: ["users.toml", 5, "[[users]] name"],
      says: "stands twice",
    },
    {
      what: "a user without a database",
      users: "[[users]]\nname='u'",
      place: ["users.toml", 1, "[[users]] database"],
      says: "exactly one of",
    },
    {
      what: "a key of sluice.toml",
      sluice: "[switch]\npause_cap = 5",
      place: ["sluice.toml", 2, "[switch] pause_cap"],
      says: 'did you mean "pause_cap_ms"?',
    },
  ];
  it.each(cases)("$what", ({ place, says, ...texts }) => {
    const { what: _what, ...files } = texts;
    const error = refusal({ ...(files.pgdog === undefined ? {} : { users: "" }), ...files });
    expect(error.message).toContain(says);
    const [file, line, key] = place;
    expect(error.place).toEqual({ file, line, key });
    expect(error.code).toBe("SLUICE_CONFIG_INVALID");
    expect(error.sqlState).toBe("F0000");
  });

  it("a file that is not there", () => {
    const folder = mkdtempSync(join(tmpdir(), "sluice-config-"));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const configPath = join(folder, "pgdog.toml");
    const read = () =>
      readConfig({ configPath, usersPath: join(folder, "users.toml"), sluicePath: null, env: {} });
    expect(read).toThrow(/pgdog\.toml: ENOENT/);
    writeFileSync(configPath, "");
    expect(read).toThrow(/users\.toml: ENOENT/);
  });

  it("never shows a long string: it may be a password in the wrong place", () => {
    const error = refusal({ pgdog: `[general]\nport = "${"hunter2".repeat(5)}"`, users: "" });
    expect(error.message).not.toContain("hunter2");
  });

  it("clients' TLS that would be promised and not given", () => {
    const error = refusal({ pgdog: "[general]\ntls_client_required = true", users: "" });
    expect(error.place.line).toBe(2);
  });
});

describe("sluice.toml and the environment", () => {
  it("has defaults, and the usual Temporal variables go first", () => {
    const config = parseConfig({ pgdog: PGDOG, users: USERS });
    expect(config.sluice.temporal).toEqual({ address: "127.0.0.1:7233", namespace: "default" });
    expect(config.sluice.nodeId).toMatch(/:7000$/);
    const sluice = `
[node]
id = "n1"
[temporal]
address = "temporal:7233"
[copy]
left_behind = ["public.audit"]
`;
    const env = { TEMPORAL_ADDRESS: "elsewhere:1", TEMPORAL_API_KEY: "k" };
    const other = parseConfig({ pgdog: PGDOG, users: USERS, sluice }, env);
    expect(other.sluice).toMatchObject({ nodeId: "n1", leftBehind: ["public.audit"] });
    expect(other.sluice.temporal).toEqual({
      address: "elsewhere:1",
      namespace: "default",
      apiKey: "k",
      tls: {},
    });
  });
});
