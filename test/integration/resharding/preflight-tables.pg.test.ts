import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import {
  ACCOUNTS,
  errorsOf,
  expectFinding,
  found,
  type PreflightOptions,
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

describe("R9: the replica identity contains the sharding key", () => {
  test("a primary key without it is refused, and the remedy that is printed works", async () => {
    const made = await fixture({
      source: "CREATE TABLE orders (id bigint PRIMARY KEY, tenant_id bigint NOT NULL)",
      policy: { acceptUniqueWithoutShardingKey: true },
    });
    const result = await made.run();
    expectFinding(result, "identity-has-sharding-key", {
      severity: "error",
      evidence: /\(id\) does not contain the sharding key tenant_id/,
      remedy: /CREATE UNIQUE INDEX CONCURRENTLY .* ALTER TABLE .* REPLICA IDENTITY USING INDEX/,
    });
    for (const statement of (found(result, "identity-has-sharding-key")[0]?.remedy ?? "").split(
      /(?<=;) /,
    ))
      await server.sql(made.sources[0] ?? "", statement);
    expect(errorsOf(await made.run())).toEqual([]);
  });

  test("an index that has it already is proposed", async () => {
    const result = await check({
      source:
        "CREATE TABLE orders (id bigint PRIMARY KEY, tenant_id bigint NOT NULL, UNIQUE (tenant_id, id))",
    });
    expectFinding(result, "identity-has-sharding-key", {
      severity: "error",
      evidence: /sharding key/,
      remedy: /USING INDEX "orders_tenant_id_id_key"/,
    });
  });

  test.each([
    ["no key at all", "CREATE TABLE t (id bigint)", /no replica identity/],
    [
      "a deferrable primary key",
      "CREATE TABLE t (id bigint PRIMARY KEY DEFERRABLE)",
      /no replica identity/,
    ],
    [
      "NOTHING",
      "CREATE TABLE t (id bigint PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY NOTHING",
      /NOTHING/,
    ],
  ])("%s is refused", async (_, source, evidence) => {
    const result = await check({ source });
    expectFinding(result, "replica-identity", {
      severity: "error",
      evidence,
      remedy: /REPLICA IDENTITY/,
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

  test("that may be NULL", async () => {
    const result = await check({
      source:
        "CREATE TABLE accounts (id bigint, tenant_id bigint); ALTER TABLE accounts REPLICA IDENTITY FULL",
    });
    expectFinding(result, "sharding-key", {
      severity: "error",
      evidence: /may be NULL/,
      remedy: /SET NOT NULL/,
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

  test("are listed and refused: rollback would not be guaranteed", async () => {
    const result = await check({ source });
    expectFinding(result, "unique-without-sharding-key", {
      severity: "error",
      evidence: /users_email_key .* rollback is not guaranteed/,
      remedy: /accept_unique_without_sharding_key/,
    });
  });

  test("are a warning with consent", async () => {
    const result = await check({ source, policy: { acceptUniqueWithoutShardingKey: true } });
    expectFinding(result, "unique-without-sharding-key", {
      severity: "warning",
      evidence: /users_email_key/,
    });
    expect(result.ok).toBe(true);
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
