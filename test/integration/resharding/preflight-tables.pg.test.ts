import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { shardOfText } from "../../../src/topology/hash.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import {
  ACCOUNTS,
  errorsOf,
  expectFinding,
  found,
  type PreflightOptions,
  planOf,
  preflightFixture,
  TENANT_RULE,
} from "../../support/preflight-fixture.js";

let server: PostgresServer;

beforeAll(async () => {
  // Some hundred databases are made here, and nothing depends on their surviving a crash.
  server = await startPostgres({ settings: { fsync: "off" } });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const fixture = (options: PreflightOptions = {}) => preflightFixture(server, options);
const check = async (options: PreflightOptions) => await (await fixture(options)).run();

describe("R10: the publication must mean all rows and all changes", () => {
  test("all operations", async () => {
    const result = await check({
      publication: "CREATE PUBLICATION moving FOR ALL TABLES WITH (publish = 'insert, update')",
    });
    expectFinding(result, "publication-operations", {
      severity: "error",
      evidence: /leaves out delete, truncate/,
      remedy: /SET \(publish/,
    });
  });

  test("no row filter", async () => {
    const result = await check({
      publication: "CREATE PUBLICATION moving FOR TABLE accounts WHERE (tenant_id > 5)",
    });
    expectFinding(result, "publication-filters", { severity: "error", evidence: /row filter/ });
  });

  test("no column list", async () => {
    const result = await check({
      publication: "CREATE PUBLICATION moving FOR TABLE accounts (tenant_id, id)",
    });
    expectFinding(result, "publication-filters", { severity: "error", evidence: /column list/ });
  });

  test("no table with rows left out, unless the policy lists it", async () => {
    const made = await fixture({
      source: `${ACCOUNTS}; CREATE TABLE forgotten (id int); INSERT INTO forgotten VALUES (1); CREATE TABLE empty (id int)`,
      publication: "CREATE PUBLICATION moving FOR TABLE accounts",
    });
    const result = await made.run();
    expectFinding(result, "tables-left-behind", {
      severity: "error",
      scope: /public\.forgotten/,
      evidence: /would stay behind/,
      remedy: /ADD TABLE "public"\."forgotten"/,
    });
    expect(found(result, "tables-left-behind")).toHaveLength(1);
    expect(errorsOf(await made.run({ leftBehind: ["public.forgotten"] }))).toEqual([]);
  });

  test("no unlogged table with rows", async () => {
    const result = await check({
      source: `${ACCOUNTS}; CREATE UNLOGGED TABLE quick (id int); INSERT INTO quick VALUES (1)`,
    });
    expectFinding(result, "tables-left-behind", {
      severity: "error",
      evidence: /unlogged/,
      remedy: /SET LOGGED/,
    });
  });

  test("no inheritance child left out", async () => {
    const result = await check({
      source: `${ACCOUNTS}; CREATE TABLE child () INHERITS (accounts)`,
      publication: "CREATE PUBLICATION moving FOR TABLE ONLY accounts",
    });
    expectFinding(result, "inheritance", { severity: "error", evidence: /public\.child/ });
  });
});

describe("R9: every table has a replica identity when it is published", () => {
  test("a primary key without the sharding key is noted, and is enough", async () => {
    const result = await check({
      source: "CREATE TABLE orders (id bigserial PRIMARY KEY, tenant_id bigint NOT NULL)",
    });
    expectFinding(result, "identity-has-sharding-key", {
      severity: "note",
      evidence: /\(id\) does not contain the sharding key tenant_id/,
    });
    expect(errorsOf(result)).toEqual([]);
    expect(planOf(result, "orders")).toMatchObject({ identity: "default", keyColumns: ["id"] });
  });

  const PAIR = `CREATE TABLE t (tenant_id bigint NOT NULL, a int NOT NULL, b int NOT NULL, c int);
    CREATE UNIQUE INDEX pair ON t (a, b);`;

  test.each([
    ["the unique index over NOT NULL columns", PAIR, "index", ["a", "b"]],
    [
      "the one that holds the sharding key, where there are two",
      `${PAIR} CREATE UNIQUE INDEX zz ON t (tenant_id, a, b)`,
      "index",
      ["tenant_id", "a", "b"],
    ],
    [
      "its primary key, under NOTHING",
      `${ACCOUNTS.replace("accounts", "t")}; ALTER TABLE t REPLICA IDENTITY NOTHING`,
      "index",
      ["tenant_id", "id"],
    ],
    [
      "whole rows, with no key at all",
      "CREATE TABLE t (tenant_id bigint NOT NULL, a int)",
      "full",
      null,
    ],
    [
      "whole rows, where the primary key is deferrable",
      "CREATE TABLE t (tenant_id bigint PRIMARY KEY DEFERRABLE)",
      "full",
      null,
    ],
    [
      "whole rows, where an index is partial",
      `${PAIR} DROP INDEX pair; CREATE UNIQUE INDEX ON t (a) WHERE b > 0`,
      "full",
      null,
    ],
    [
      "whole rows, where a column may be NULL",
      `${PAIR} DROP INDEX pair; CREATE UNIQUE INDEX ON t (a, c)`,
      "full",
      null,
    ],
    [
      "whole rows, where an index has an expression",
      `${PAIR} DROP INDEX pair; CREATE UNIQUE INDEX ON t (abs(a))`,
      "full",
      null,
    ],
    [
      "whole rows, where its index was dropped",
      `${PAIR} ALTER TABLE t REPLICA IDENTITY USING INDEX pair; DROP INDEX pair`,
      "full",
      null,
    ],
  ])("one without gets %s", async (_, source, identity, keyColumns) => {
    const made = await fixture({ source });
    const result = await made.run();
    expectFinding(result, "replica-identity", {
      severity: "note",
      evidence: identity === "full" ? /will set FULL .* whole old row/ : /USING INDEX .* old key/,
    });
    expect(errorsOf(result)).toEqual([]);
    expect(planOf(result, "t")).toMatchObject({ identity, keyColumns });
    const refused = await made.run({ replicaIdentity: "refuse" });
    expectFinding(refused, "replica-identity", {
      severity: "error",
      evidence: /replica_identity of sluice.toml is "refuse"/,
      remedy: /ALTER TABLE "public"."t" REPLICA IDENTITY/,
    });
    for (const { remedy } of found(refused, "replica-identity"))
      if (remedy.includes(" REPLICA IDENTITY ")) await server.sql(made.sources[0] ?? "", remedy);
    expect(errorsOf(await made.run({ replicaIdentity: "refuse" }))).toEqual([]);
  });

  test("R58: what other readers will see is said, and what fails until then", async () => {
    const result = await check({ source: "CREATE TABLE t (tenant_id bigint NOT NULL)" });
    expectFinding(result, "replica-identity", {
      severity: "note",
      evidence: /other reader .* whole old row .* publication "moving" makes fail now/,
    });
  });

  test("the source shards must agree on it", async () => {
    const made = await fixture({ sourceShards: 2 });
    expect(errorsOf(await made.run())).toEqual([]);
    await server.sql(made.sources[1] ?? "", "ALTER TABLE accounts REPLICA IDENTITY FULL");
    expectFinding(await made.run(), "replica-identity", {
      severity: "error",
      scope: /source\/1/,
      evidence: /is FULL, on source\/0 it is the primary key/,
    });
  });

  test("whole rows cannot be it from 18 on where a column is generated", async () => {
    const result = await check({
      source:
        "CREATE TABLE t (tenant_id bigint NOT NULL, d bigint GENERATED ALWAYS AS (tenant_id) STORED)",
    });
    if (server.major < 18) expect(errorsOf(result)).toEqual([]);
    else
      expectFinding(result, "replica-identity", {
        severity: "error",
        evidence: /column d is generated/,
      });
  });

  test("FULL without a key is allowed, with a warning", async () => {
    const result = await check({
      source: "CREATE TABLE t (id bigint); ALTER TABLE t REPLICA IDENTITY FULL",
    });
    expectFinding(result, "replica-identity", { severity: "warning", evidence: /row by row/ });
    expect(errorsOf(result)).toEqual([]);
  });
});

describe("the sharding key", () => {
  const rule = { ...TENANT_RULE, name: "accounts" };

  test("missing in a table that a rule names", async () => {
    const result = await check({
      source: "CREATE TABLE accounts (id bigint PRIMARY KEY)",
      rules: [rule],
    });
    expectFinding(result, "sharding-key", {
      severity: "error",
      evidence: /names column tenant_id, which the table does not have/,
    });
  });

  test("of a type that the rule does not mean", async () => {
    const result = await check({ rules: [{ ...rule, dataType: "uuid" }] });
    expectFinding(result, "sharding-key", {
      severity: "error",
      evidence: /is bigint; the rule's data_type uuid/,
    });
  });

  test("that may be NULL is no matter until a row has it", async () => {
    const made = await fixture({
      source: "CREATE TABLE accounts (id bigint PRIMARY KEY, tenant_id bigint)",
    });
    const result = await made.run();
    expectFinding(result, "sharding-key", {
      severity: "warning",
      evidence: /may be NULL, .* no row has it/,
      remedy: /SET NOT NULL/,
    });
    expect(errorsOf(result)).toEqual([]);
    await server.sql(made.sources[0] ?? "", "INSERT INTO accounts VALUES (1, NULL)");
    expectFinding(await made.run(), "sharding-key", {
      severity: "error",
      evidence: /rows have NULL as sharding key tenant_id/,
    });
  });

  test("of a rule that matches no table", async () => {
    const result = await check({ rules: [TENANT_RULE, { ...TENANT_RULE, name: "acounts" }] });
    expectFinding(result, "sharding-rules", {
      severity: "warning",
      evidence: /acounts .* matches no/,
    });
  });
});

describe("R33: unique constraints without the sharding key", () => {
  const source =
    "CREATE TABLE users (tenant_id bigint, id bigint, email text UNIQUE, PRIMARY KEY (tenant_id, id))";

  test("are said: each shard sees to its own, and the way back depends on them", async () => {
    const result = await check({ source });
    expectFinding(result, "unique-without-sharding-key", {
      severity: "warning",
      evidence:
        /users_email_key \(email\) .* each shard sees to its own, the proxy refuses nothing/,
    });
    expect(result.ok).toBe(true);
    expect(planOf(result, "users").rollbackDependsOn).toEqual(["users.users_email_key (email)"]);
  });

  test("are refused where the policy says so", async () => {
    const result = await check({ source, policy: { uniqueWithoutShardingKey: "refuse" } });
    expectFinding(result, "unique-without-sharding-key", {
      severity: "error",
      evidence: /users_email_key/,
      remedy: /unique_without_sharding_key = "warn"/,
    });
  });

  const PARENT = "CREATE TABLE p (id bigserial PRIMARY KEY, tenant_id bigint NOT NULL);";

  test.each([
    ["serial", "CREATE TABLE t (id serial PRIMARY KEY, tenant_id bigint NOT NULL)"],
    [
      "identity",
      "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id bigint NOT NULL)",
    ],
    [
      "identity of a partition's root",
      `CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY, day date, tenant_id bigint NOT NULL, PRIMARY KEY (id, day))
         PARTITION BY RANGE (day);
       CREATE TABLE t_1 PARTITION OF t DEFAULT`,
    ],
    [
      "a random uuid",
      "CREATE TABLE t (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id bigint NOT NULL)",
    ],
    [
      "a random uuid as text",
      "CREATE TABLE t (id text PRIMARY KEY DEFAULT gen_random_uuid()::text, tenant_id bigint NOT NULL)",
    ],
    ["a client's uuid", "CREATE TABLE t (id uuid PRIMARY KEY, tenant_id bigint NOT NULL)"],
    [
      "a row that is on one shard only",
      `${PARENT} CREATE TABLE t (p bigint PRIMARY KEY REFERENCES p, tenant_id bigint NOT NULL)`,
    ],
    [
      "such a row and more",
      `${PARENT} CREATE TABLE t (p bigint REFERENCES p, n int, tenant_id bigint NOT NULL, PRIMARY KEY (n, p))`,
    ],
  ])("are a note where %s keeps values apart", async (_, made) => {
    const result = await check({ source: made, policy: { uniqueWithoutShardingKey: "refuse" } });
    expectFinding(result, "unique-without-sharding-key", {
      severity: "note",
      evidence: /no two shards take the same/,
    });
    expect(errorsOf(result)).toEqual([]);
    for (const table of result.spec?.tables ?? [])
      expect(table.rollbackDependsOn ?? []).toEqual([]);
  });

  test.each([
    ["a plain number", "CREATE TABLE t (id bigint PRIMARY KEY, tenant_id bigint NOT NULL)"],
    [
      "a number made of a sequence's",
      "CREATE SEQUENCE s; CREATE TABLE t (id bigint PRIMARY KEY DEFAULT nextval('s') / 10, tenant_id bigint NOT NULL)",
    ],
    [
      "a uuid of a function of the application",
      `CREATE FUNCTION made() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid';
       CREATE TABLE t (id uuid PRIMARY KEY DEFAULT made(), tenant_id bigint NOT NULL)`,
    ],
    [
      "a reference into a table that is on every shard",
      `CREATE TABLE o (id serial PRIMARY KEY);
       CREATE TABLE t (o int PRIMARY KEY REFERENCES o, tenant_id bigint NOT NULL)`,
    ],
    [
      "references in a circle",
      `CREATE TABLE t (a int PRIMARY KEY, tenant_id bigint NOT NULL);
       ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES t`,
    ],
    [
      "an exclusion constraint",
      "CREATE TABLE t (tenant_id bigint PRIMARY KEY, r int4range, EXCLUDE USING gist (r WITH &&))",
    ],
  ])("are a warning with %s", async (_, made) => {
    const result = await check({ source: made });
    expectFinding(result, "unique-without-sharding-key", {
      severity: "warning",
      scope: /public\.t$/,
      evidence: /not ready/,
    });
    expect(planOf(result, "t").rollbackDependsOn).toHaveLength(1);
  });

  test("NULL is a value that two shards may take, where NULLS are NOT DISTINCT", async () => {
    if (server.major < 15) return;
    const table = (more: string) =>
      `CREATE TABLE t (tenant_id bigint PRIMARY KEY, u uuid ${more} UNIQUE NULLS NOT DISTINCT)`;
    for (const [more, severity] of [
      ["", "warning"],
      ["NOT NULL", "note"],
    ] as const)
      expectFinding(await check({ source: table(more) }), "unique-without-sharding-key", {
        severity,
        evidence: /t_u_key/,
      });
  });

  test("do not matter for omnisharded tables", async () => {
    expect(errorsOf(await check({ source, rules: [] }))).toEqual([]);
  });
});

describe("R13: omnisharded tables are equal on all source shards", () => {
  const source =
    "CREATE TABLE countries (id int PRIMARY KEY, name text); INSERT INTO countries VALUES (1, 'one')";

  test("equal ones pass, different ones are refused", async () => {
    const made = await fixture({ source, sourceShards: 2 });
    expect(errorsOf(await made.run())).toEqual([]);
    await server.sql(made.sources[1] ?? "", "UPDATE countries SET name = 'eins'");
    expectFinding(await made.run(), "omnisharded-equal", {
      severity: "error",
      evidence: /differs between source shards: .*hash/,
    });
  });
});

test("a table that is sharded on several source shards must stay so", async () => {
  const result = await check({ sourceShards: 2, rules: [], sourceRules: [TENANT_RULE] });
  expectFinding(result, "table-class", {
    severity: "error",
    evidence: /sharded by tenant_id in app and omnisharded/,
  });
});

test("R25: a table that a native subscription feeds is refused, on either side", async () => {
  const subscription =
    "CREATE SUBSCRIPTION feed CONNECTION 'host=127.0.0.1' PUBLICATION p WITH (connect = false); ";
  const feed =
    "INSERT INTO pg_subscription_rel VALUES ((SELECT oid FROM pg_subscription WHERE subname = 'feed' AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())), 'accounts'::regclass, 'r', '0/0')";
  const made = await fixture({ destination: ACCOUNTS });
  for (const database of [made.sources[0], made.destinations[1]])
    await server.sql(database ?? "", `SET allow_system_table_mods = on; ${subscription}${feed}`);
  const result = await made.run();
  expectFinding(result, "subscriptions", {
    severity: "error",
    scope: /source\/0/,
    evidence: /passes the gate/,
  });
  expectFinding(result, "subscriptions", {
    severity: "error",
    scope: /destination\/1/,
    evidence: /feeds this table/,
  });
  for (const database of [made.sources[0], made.destinations[1]])
    await server
      .sql(database ?? "", "ALTER SUBSCRIPTION feed SET (slot_name = NONE)")
      .then(() => server.sql(database ?? "", "DROP SUBSCRIPTION feed"));
});

test("what does not travel, or behaves otherwise, is listed", async () => {
  const result = await check({
    source: `${ACCOUNTS};
      CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
      CREATE TRIGGER audit AFTER INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION f();
      ALTER TABLE accounts ENABLE ALWAYS TRIGGER audit;
      CREATE RULE quiet AS ON DELETE TO accounts DO ALSO NOTHING;
      SELECT lo_create(0);
      CREATE ROLE app_${process.pid} LOGIN;
      ALTER TABLE accounts OWNER TO app_${process.pid};
      CREATE MATERIALIZED VIEW v AS SELECT 1 AS one;
      DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = ''8MB''', current_database()); END $$`,
  });
  expectFinding(result, "triggers", {
    severity: "warning",
    evidence: /audit is ENABLE ALWAYS/,
    remedy: /ENABLE TRIGGER "audit"/,
  });
  expectFinding(result, "rules", { severity: "warning", evidence: /rule quiet/ });
  expectFinding(result, "large-objects", { severity: "warning", evidence: /1 large objects/ });
  expectFinding(result, "table-owner", { severity: "warning", evidence: /may log in/ });
  expectFinding(result, "materialized-views", { severity: "warning", evidence: /own rows/ });
  expectFinding(result, "settings", { severity: "warning", evidence: /work_mem=8MB/ });
  expect(errorsOf(result)).toEqual([]);
});

test("foreign keys: out of the moving tables, from omnisharded to sharded, and beside the sharding key", async () => {
  const result = await check({
    source: `${ACCOUNTS};
      CREATE TABLE outside (id int PRIMARY KEY);
      CREATE TABLE notes (id int PRIMARY KEY, outside int REFERENCES outside, a bigint, b bigint, FOREIGN KEY (a, b) REFERENCES accounts);
      CREATE TABLE links (tenant_id bigint, id bigint, other bigint, friend bigint, PRIMARY KEY (tenant_id, id),
        CONSTRAINT good FOREIGN KEY (tenant_id, other) REFERENCES accounts,
        CONSTRAINT crossing FOREIGN KEY (other, friend) REFERENCES accounts)`,
    publication: "CREATE PUBLICATION moving FOR TABLE accounts, notes, links",
  });
  expectFinding(result, "foreign-keys", {
    severity: "error",
    evidence: /refers to public\.outside, which does not move/,
  });
  expectFinding(result, "foreign-keys", {
    severity: "error",
    evidence: /omnisharded table refers to sharded public\.accounts/,
  });
  expectFinding(result, "foreign-keys", {
    severity: "warning",
    evidence: /crossing .* does not contain the sharding keys/,
  });
  expect(found(result, "foreign-keys")).toHaveLength(3);
});

describe("foreign keys beside the sharding key", () => {
  const source = `CREATE TABLE p (id bigserial PRIMARY KEY, tenant_id bigint NOT NULL);
    CREATE TABLE c (id bigserial PRIMARY KEY, tenant_id bigint NOT NULL, p bigint REFERENCES p);
    INSERT INTO p (tenant_id) SELECT g FROM generate_series(1, 40) g;`;

  test("are a warning while rows of one sharding key refer to each other", async () => {
    const result = await check({
      source: `${source} INSERT INTO c (tenant_id, p) SELECT tenant_id, id FROM p`,
    });
    expectFinding(result, "foreign-keys", { severity: "warning", evidence: /all rows do so now/ });
    expect(result.ok).toBe(true);
  });

  test("are refused where rows that refer to each other come apart: the last phase of the schema would fail", async () => {
    const made = await fixture({
      source: `${source} INSERT INTO c (tenant_id, p) SELECT tenant_id + 1, id FROM p`,
    });
    expectFinding(await made.run(), "foreign-keys", {
      severity: "error",
      evidence: /c_p_fkey .* rows of another sharding key that go to another shard/,
      remedy: /SELECT \* FROM "public"."c" c JOIN "public"."p" p ON c."p" = p."id"/,
    });
    const [database = ""] = made.sources;
    await server.sql(
      database,
      "ALTER TABLE c DROP CONSTRAINT c_p_fkey; ALTER TABLE c ADD FOREIGN KEY (p) REFERENCES p NOT VALID",
    );
    expectFinding(await made.run(), "foreign-keys", {
      severity: "warning",
      evidence: /rows do otherwise now/,
    });
  });

  test("are a warning where other keys happen to be of the same shard", async () => {
    const here = Array.from({ length: 40 }, (_, key) => key + 1).filter(
      (key) => shardOfText(String(key), "bigint", 2) === shardOfText("1", "bigint", 2),
    );
    const result = await check({
      source: `${source} INSERT INTO c (tenant_id, p) SELECT 1, p.id FROM p WHERE tenant_id IN (${here.join(", ")})`,
    });
    expectFinding(result, "foreign-keys", { severity: "warning", evidence: /all rows do so now/ });
  });
});
