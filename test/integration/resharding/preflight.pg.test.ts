import { createServer, type Server, Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectSql } from "../../../src/backend/sql-client.js";
import type { Cluster, EngineContext } from "../../../src/resharding/context.js";
import type { PreflightResult } from "../../../src/resharding/model/activities.js";
import type { Check, MigrationRef, TablePlan } from "../../../src/resharding/model/migration.js";
import { ensureControlSchema } from "../../../src/resharding/steps/control-schema.js";
import { preflight } from "../../../src/resharding/steps/preflight.js";
import { engineContext } from "../../support/engine.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";

let server: PostgresServer;
let serial = 0;

beforeAll(async () => {
  // Some hundred databases are made here, and nothing depends on their surviving a crash.
  server = await startPostgres({ settings: { fsync: "off" } });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const TENANT_RULE = { name: null, schema: null, column: "tenant_id", dataType: "bigint" } as const;
const ACCOUNTS = `CREATE TABLE accounts (tenant_id bigint NOT NULL, id bigint NOT NULL, name text,
  PRIMARY KEY (tenant_id, id))`;
const PUBLICATION = "CREATE PUBLICATION moving FOR ALL TABLES";

interface Options {
  /** Statements on every source shard. */
  readonly source?: string;
  /** Statements on every destination shard. */
  readonly destination?: string;
  readonly sourceShards?: number;
  readonly destinationShards?: number;
  readonly publication?: string;
  readonly rules?: Cluster["shardedTables"];
  readonly sourceRules?: Cluster["shardedTables"];
  readonly policy?: Partial<EngineContext["policy"]>;
  readonly user?: string;
}

interface Fixture {
  readonly ref: MigrationRef;
  readonly sources: readonly string[];
  readonly destinations: readonly string[];
  readonly clusters: readonly [Cluster, Cluster];
  run(policy?: Partial<EngineContext["policy"]>): Promise<PreflightResult>;
}

async function fixture(options: Options = {}): Promise<Fixture> {
  serial += 1;
  const databases = (side: string, count: number) =>
    Array.from({ length: count }, (_, shard) => `${side}_${serial}_${shard}`);
  const sources = databases("source", options.sourceShards ?? 1);
  const destinations = databases("destination", options.destinationShards ?? 2);
  for (const name of [...sources, ...destinations]) await server.createDatabase(name);
  for (const name of sources) {
    await server.sql(name, options.source ?? ACCOUNTS);
    await server.sql(name, options.publication ?? PUBLICATION);
  }
  for (const name of destinations) await server.sql(name, options.destination ?? "");
  const cluster = (name: string, shards: readonly string[], rules: Cluster["shardedTables"]) => ({
    name,
    shards: shards.map((shard) => ({
      ...server.address(shard),
      user: options.user ?? "postgres",
    })),
    shardedTables: rules,
    omnishardedTables: [],
  });
  const rules = options.rules ?? [TENANT_RULE];
  const clusters = [
    cluster("app", sources, options.sourceRules ?? rules),
    cluster("app_sharded", destinations, rules),
  ] as const;
  const ref: MigrationRef = {
    id: serial.toString(16).padStart(12, "0"),
    source: "app",
    destination: "app_sharded",
    publication: "moving",
  };
  return {
    ref,
    sources,
    destinations,
    clusters: [clusters[0], clusters[1]],
    run: (policy) => preflight(engineContext(clusters, { ...options.policy, ...policy }), ref),
  };
}

async function check(options: Options): Promise<PreflightResult> {
  return await (await fixture(options)).run();
}

function found(result: PreflightResult, id: string): readonly Check[] {
  const checks = result.checks.filter((one) => one.id === id);
  expect(checks, `check ${id} is told`).not.toEqual([]);
  return checks;
}

function expectFinding(
  result: PreflightResult,
  id: string,
  expected: { severity: "warning" | "error"; evidence: RegExp; remedy?: RegExp; scope?: RegExp },
): void {
  expect(found(result, id)).toContainEqual({
    id,
    severity: expected.severity,
    scope: expect.stringMatching(expected.scope ?? /./),
    evidence: expect.stringMatching(expected.evidence),
    remedy: expect.stringMatching(expected.remedy ?? /^/),
  });
  if (expected.severity === "error") expect(result.ok).toBe(false);
}

function errorsOf(result: PreflightResult): readonly string[] {
  return result.checks
    .filter(({ severity }) => severity === "error")
    .map(({ id, scope, evidence }) => `${id} ${scope}: ${evidence}`);
}

function plan(result: PreflightResult, name: string): TablePlan {
  const table = result.spec?.tables.find((one) => one.name === name);
  if (!table) throw new Error(`no plan for ${name}`);
  return table;
}

describe("a database that is fit to move", () => {
  const SCHEMA = `
    CREATE TYPE mood AS ENUM ('sad', 'happy');
    CREATE DOMAIN amount AS numeric(10, 2);
    CREATE TYPE pair AS (a int, b int);
    ${ACCOUNTS};
    CREATE TABLE orders (tenant_id bigint NOT NULL, id uuid NOT NULL, serial serial, moods mood[], mood mood,
      total amount, tags text[], both_ pair, legacy json, kind regclass, doubled int GENERATED ALWAYS AS (2) STORED,
      FOREIGN KEY (tenant_id) REFERENCES countries_dummy);
    `.replace(/,\s*FOREIGN KEY[^;]*\)/, ")");
  const MORE = `
    CREATE UNIQUE INDEX orders_key ON orders (id, tenant_id);
    ALTER TABLE orders REPLICA IDENTITY USING INDEX orders_key;
    CREATE TABLE countries (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code text UNIQUE);
    CREATE SEQUENCE tickets;
    CREATE TABLE log (tenant_id bigint NOT NULL, ticket bigint DEFAULT nextval('tickets'));
    ALTER TABLE log REPLICA IDENTITY FULL;
    CREATE TABLE events (tenant_id bigint NOT NULL, id bigint NOT NULL, at date NOT NULL,
      PRIMARY KEY (tenant_id, id, at)) PARTITION BY RANGE (at);
    CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
    CREATE TABLE events_2 PARTITION OF events DEFAULT PARTITION BY LIST (id);
    CREATE TABLE events_2_a PARTITION OF events_2 DEFAULT;
    CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE, other int NOT NULL);
    ALTER TABLE deferred REPLICA IDENTITY FULL`;

  let made: Fixture;
  let result: PreflightResult;
  beforeAll(async () => {
    made = await fixture({ source: SCHEMA + MORE });
    result = await made.run();
  });

  test("passes, tells every check by name, and changes nothing", async () => {
    expect(errorsOf(result)).toEqual([]);
    expect(result.ok).toBe(true);
    const ids = new Set(result.checks.map(({ id }) => id));
    expect(ids.size).toBeGreaterThanOrEqual(34);
    for (const database of [...made.sources, ...made.destinations]) {
      const left = await server.sql(
        database,
        `SELECT nspname AS name FROM pg_namespace WHERE nspname LIKE 'sluice%'
         UNION ALL SELECT pubname FROM pg_publication WHERE pubname LIKE 'sluice%'
         UNION ALL SELECT roname FROM pg_replication_origin`,
      );
      expect(left).toEqual([]);
    }
  });

  test("tables are the leaves, classed by the destination's rules", () => {
    const tables = result.spec?.tables.map(({ name, kind, partitionRoot }) => ({
      name,
      kind,
      partitionRoot,
    }));
    const sharded = { kind: "sharded", partitionRoot: null };
    expect(tables).toEqual([
      { name: "accounts", ...sharded },
      { name: "countries", kind: "omnisharded", partitionRoot: null },
      { name: "deferred", kind: "omnisharded", partitionRoot: null },
      { name: "events_1", kind: "sharded", partitionRoot: "events" },
      { name: "events_2_a", kind: "sharded", partitionRoot: "events" },
      { name: "log", ...sharded },
      { name: "orders", ...sharded },
    ]);
    expect(result.spec).toMatchObject({
      source: { shardCount: 1 },
      destination: { shardCount: 2 },
    });
  });

  test("R5: key ranges are cut only over unique, NOT NULL, not deferrable keys of int and uuid", () => {
    expect(plan(result, "accounts")).toMatchObject({
      identity: "default",
      keyColumns: ["tenant_id", "id"],
      rangeColumn: "tenant_id",
      rangeType: "int",
      otherUnique: false,
    });
    expect(plan(result, "orders")).toMatchObject({
      identity: "index",
      keyColumns: ["id", "tenant_id"],
      rangeColumn: "id",
      rangeType: "uuid",
    });
    const none = { keyColumns: null, rangeColumn: null, rangeType: null };
    expect(plan(result, "log")).toMatchObject({ identity: "full", ...none });
    expect(plan(result, "deferred")).toMatchObject({
      identity: "full",
      otherUnique: true,
      ...none,
    });
    expect(plan(result, "countries").otherUnique).toBe(true);
  });

  test("columns are in order without generated ones; binary and hashes only where they mean the same", () => {
    const columns = plan(result, "orders").columns.map(
      ({ name, type, binarySafe, hashAsText, inIdentity }) =>
        [name, type, binarySafe, hashAsText, inIdentity] as const,
    );
    expect(columns).toEqual([
      ["tenant_id", "bigint", true, false, true],
      ["id", "uuid", true, false, true],
      ["serial", "integer", true, false, false],
      ["moods", "public.mood[]", false, false, false],
      ["mood", "public.mood", true, false, false],
      ["total", "public.amount", true, false, false],
      ["tags", "text[]", true, false, false],
      ["both_", "public.pair", false, false, false],
      ["legacy", "json", true, true, false],
      ["kind", "regclass", false, false, false],
    ]);
  });

  test("sequences of serial and identity columns and of defaults are found", () => {
    expect(
      result.spec?.sequences.map(({ name, tableName, column }) => [name, tableName, column]),
    ).toEqual([
      ["countries_id_seq", "countries", "id"],
      ["orders_serial_seq", "orders", "serial"],
      ["tickets", "log", "ticket"],
    ]);
  });
});

test("the schema as SCHEMA_SYNC leaves it on the destination is no obstacle", async () => {
  const result = await check({ destination: ACCOUNTS });
  expect(errorsOf(result)).toEqual([]);
});

test("an unknown database is a finding, not an exception", async () => {
  const { clusters, ref } = await fixture();
  const result = await preflight(engineContext(clusters), { ...ref, destination: "nowhere" });
  expect(result.spec).toBeNull();
  expectFinding(result, "databases", {
    severity: "error",
    evidence: /"nowhere" is not configured/,
  });
});

test("a server that does not answer is a finding, and the other checks still run", async () => {
  const { clusters, ref } = await fixture();
  const [source, destination] = clusters;
  const dead = { ...server.address("postgres"), port: 1 };
  const result = await preflight(
    engineContext([source, { ...destination, shards: [dead, ...destination.shards.slice(1)] }]),
    ref,
  );
  expect(result.spec).toBeNull();
  expectFinding(result, "servers", {
    severity: "error",
    evidence: /cannot reach/,
    scope: /destination\/0/,
  });
  expect(found(result, "wal-level")).toMatchObject([{ severity: "ok" }]);
});

test("an unknown publication is a finding", async () => {
  const result = await check({ publication: "CREATE PUBLICATION another FOR ALL TABLES" });
  expectFinding(result, "publication", { severity: "error", evidence: /"moving" does not exist/ });
  expect(result.spec).toBeNull();
});

test("source shards must publish the same tables", async () => {
  const made = await fixture({
    sourceShards: 2,
    publication: "CREATE PUBLICATION moving FOR TABLE accounts",
  });
  await server.sql(
    made.sources[1] ?? "",
    "CREATE TABLE extra (id int PRIMARY KEY); ALTER PUBLICATION moving ADD TABLE extra",
  );
  expectFinding(await made.run(), "publication", {
    severity: "error",
    evidence: /public\.extra is in the publication here but not on source\/0/,
    remedy: /DROP TABLE "public"\."extra"/,
  });
});

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

describe("the destination", () => {
  test("with rows is refused, with rows of this very migration it is not", async () => {
    const made = await fixture({ destination: `${ACCOUNTS}; INSERT INTO accounts VALUES (1, 1)` });
    const result = await made.run();
    expectFinding(result, "destination-empty", {
      severity: "error",
      scope: /destination\/0.*public\.accounts/,
      evidence: /has rows/,
      remedy: /TRUNCATE "public"\."accounts"/,
    });
    for (const database of made.destinations) {
      await using client = await connectSql(server.address(database), { applicationName: "test" });
      await ensureControlSchema(client);
      await client.query(
        "INSERT INTO sluice.migration VALUES ($1, 'app', 'app_sharded', 'moving', 'destination', 0, 1, '{}')",
        [made.ref.id],
      );
    }
    expect(errorsOf(await made.run())).toEqual([]);
  });

  test("with other columns is refused", async () => {
    const result = await check({
      destination:
        "CREATE TABLE accounts (tenant_id bigint, id bigint, surname text, PRIMARY KEY (tenant_id, id))",
    });
    expectFinding(result, "destination-columns", {
      severity: "error",
      evidence: /column name is missing/,
    });
    expectFinding(result, "destination-columns", {
      severity: "error",
      evidence: /column surname is not on the source/,
    });
  });

  test("with another type is copied as text", async () => {
    const result = await check({
      destination:
        "CREATE TABLE accounts (tenant_id bigint, id bigint, name varchar(40), PRIMARY KEY (tenant_id, id))",
    });
    expectFinding(result, "destination-columns", {
      severity: "warning",
      evidence: /character varying\(40\), on the source text/,
    });
    expect(
      plan(result, "accounts").columns.map(({ binarySafe, hashAsText }) => [
        binarySafe,
        hashAsText,
      ]),
    ).toEqual([
      [true, false],
      [true, false],
      [false, true],
    ]);
  });

  test("with other enum labels is refused, with a missing type warned of", async () => {
    const source =
      "CREATE TYPE mood AS ENUM ('a', 'b'); CREATE TABLE t (id int PRIMARY KEY, mood mood)";
    const result = await check({ source, destination: "CREATE TYPE mood AS ENUM ('b', 'a')" });
    expectFinding(result, "types", {
      severity: "error",
      evidence: /public\.mood is e:'b','a', on the source e:'a','b'/,
    });
    expectFinding(await check({ source }), "types", {
      severity: "warning",
      evidence: /public\.mood is missing/,
    });
  });

  test("of another encoding or collation is told", async () => {
    const made = await fixture({ destinationShards: 1 });
    const [name = ""] = made.destinations;
    await server.sql("postgres", `DROP DATABASE ${name}`);
    await server.sql("postgres", `CREATE DATABASE ${name} ENCODING 'LATIN1' TEMPLATE template0`);
    expectFinding(await made.run(), "collation", {
      severity: "error",
      evidence: /encoding is LATIN1, on source\/0 .* UTF8/,
    });
  });

  test("that is the source itself is refused", async () => {
    const { clusters, ref } = await fixture();
    const [source] = clusters;
    const result = await preflight(
      engineContext([source, { ...source, name: "app_sharded" }]),
      ref,
    );
    expectFinding(result, "distinct-databases", {
      severity: "error",
      evidence: /same physical database as source\/0/,
    });
  });
});

test("another live migration of the same tables is refused", async () => {
  const made = await fixture();
  await using client = await connectSql(server.address(made.sources[0] ?? ""), {
    applicationName: "test",
  });
  await ensureControlSchema(client);
  await client.query(
    "INSERT INTO sluice.migration VALUES ('aaaaaaaaaaaa', 'app', 'x', 'moving', 'source', 0, 1, '{}')",
  );
  await client.query(
    "INSERT INTO sluice.moving_table VALUES ('aaaaaaaaaaaa', 'public', 'accounts')",
  );
  expectFinding(await made.run(), "other-migration", {
    severity: "error",
    evidence: /migration aaaaaaaaaaaa moves this table already/,
  });
  await client.query("UPDATE sluice.migration SET state = 'finalized'");
  expect(errorsOf(await made.run())).toEqual([]);
});

test("a schema sluice of somebody else is refused", async () => {
  const result = await check({ destination: "CREATE SCHEMA sluice CREATE TABLE water (id int)" });
  expectFinding(result, "control-schema", { severity: "error", evidence: /not ours/ });
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

test("open transactions are named", async () => {
  const made = await fixture();
  const [database = ""] = made.sources;
  await server.sql(
    database,
    "BEGIN; INSERT INTO accounts VALUES (1, 1); PREPARE TRANSACTION 'it''s open'",
  );
  expectFinding(await made.run(), "prepared-transactions", {
    severity: "warning",
    evidence: /'it''s open' of postgres is prepared/,
    remedy: /COMMIT PREPARED 'it''s open'/,
  });
  await server.sql(database, "ROLLBACK PREPARED 'it''s open'");
});

test("R7, R37: a role that lacks rights, or whom row security filters, is told what to type", async () => {
  const role = `weak_${process.pid}`;
  await server.sql("postgres", `CREATE ROLE ${role} LOGIN`);
  const result = await check({
    source: `${ACCOUNTS}; ALTER TABLE accounts ENABLE ROW LEVEL SECURITY; GRANT SELECT ON accounts TO ${role}`,
    user: role,
  });
  expectFinding(result, "rights", {
    severity: "error",
    evidence: /may not replicate/,
    remedy: /REPLICATION;/,
  });
  expectFinding(result, "rights", {
    severity: "error",
    evidence: /create a replication origin/,
    remedy: /GRANT EXECUTE/,
  });
  expectFinding(result, "rights", { severity: "error", evidence: /session_replication_role/ });
  expectFinding(result, "rights", {
    severity: "error",
    scope: /destination\/1/,
    evidence: /create a schema/,
    remedy: /GRANT CREATE ON DATABASE "destination_\d+_1"/,
  });
  expectFinding(result, "table-rights", {
    severity: "error",
    evidence: /not a member of the owner "postgres"/,
  });
  expectFinding(result, "row-security", {
    severity: "error",
    evidence: /row security applies/,
    remedy: /BYPASSRLS/,
  });
});

test("a transaction pooler in between is found by the process id that it makes up", async () => {
  const made = await fixture();
  await using pooler = await fakePooler(server.port);
  const [source, destination] = made.clusters;
  const [first, ...others] = destination.shards;
  if (!first) throw new Error("no shard");
  const result = await preflight(
    engineContext([
      source,
      { ...destination, shards: [{ ...first, port: pooler.port }, ...others] },
    ]),
    made.ref,
  );
  expectFinding(result, "no-transaction-pooler", {
    severity: "error",
    scope: /destination\/0/,
    evidence: /pools connections/,
  });
});

test("R6: wal_level, slots, and a server that is no primary", async () => {
  await using other = await startPostgres({
    settings: { wal_level: "replica", max_replication_slots: "1", max_wal_senders: "0" },
  });
  await other.createDatabase("low");
  await other.sql("low", "SELECT pg_create_physical_replication_slot('used')");
  await other.sql("low", "ALTER DATABASE low SET default_transaction_read_only = on");
  const { clusters, ref } = await fixture();
  const [source, destination] = clusters;
  const result = await preflight(
    engineContext([source, { ...destination, shards: [other.address("low")] }]),
    ref,
  );
  expectFinding(result, "wal-level", {
    severity: "error",
    evidence: /replica; the way back needs logical/,
    remedy: /ALTER SYSTEM/,
  });
  expectFinding(result, "replication-slots", {
    severity: "error",
    evidence: /1 of 1 replication slots/,
  });
  expectFinding(result, "wal-senders", { severity: "error", evidence: /0 of 0/ });
  expectFinding(result, "primary", { severity: "error", evidence: /read_only/ });
});

/** Relays bytes and puts another process id into BackendKeyData, as poolers do. */
async function fakePooler(port: number): Promise<AsyncDisposable & { readonly port: number }> {
  const relay: Server = createServer((client) => {
    const upstream = new Socket();
    upstream.connect(port, "127.0.0.1");
    upstream.on("data", (chunk: Buffer) => {
      const marker = Buffer.from([0x4b, 0, 0, 0, 12]);
      const at = chunk.indexOf(marker);
      if (at >= 0) chunk.writeInt32BE(12_345, at + marker.length);
      client.write(chunk);
    });
    client.on("data", (chunk: Buffer) => upstream.write(chunk));
    client.on("close", () => upstream.destroy());
    upstream.on("close", () => client.destroy());
    client.on("error", () => {});
    upstream.on("error", () => {});
  });
  await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
  const address = relay.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return {
    port: address.port,
    [Symbol.asyncDispose]: async () => {
      await new Promise<void>((resolve) => relay.close(() => resolve()));
    },
  };
}
