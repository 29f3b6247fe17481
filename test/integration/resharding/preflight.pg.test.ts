import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectSql } from "../../../src/backend/sql-client.js";
import { ensureControlSchema } from "../../../src/resharding/control/control-schema.js";
import type { PreflightResult } from "../../../src/resharding/model/activities.js";
import { preflight } from "../../../src/resharding/preflight/preflight-step.js";
import { engineContext } from "../../support/engine.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import {
  ACCOUNTS,
  errorsOf,
  expectFinding,
  found,
  type PreflightFixture,
  type PreflightOptions,
  planOf,
  preflightFixture,
} from "../../support/preflight-fixture.js";
import { until } from "../../support/until.js";

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

describe("a database that is fit to move", () => {
  const SCHEMA = `
    CREATE TYPE mood AS ENUM ('sad', 'happy');
    CREATE DOMAIN amount AS numeric(10, 2);
    CREATE TYPE pair AS (a int, b int);
    ${ACCOUNTS};
    CREATE TABLE orders (tenant_id bigint NOT NULL, id uuid NOT NULL, serial serial, moods mood[], mood mood,
      total amount, tags text[], both_ pair, legacy json, kind regclass, doubled int GENERATED ALWAYS AS (2) STORED);
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

  let made: PreflightFixture;
  let result: PreflightResult;
  beforeAll(async () => {
    made = await fixture({ source: SCHEMA });
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
    expect(planOf(result, "accounts")).toMatchObject({
      identity: "default",
      keyColumns: ["tenant_id", "id"],
      rangeColumn: "tenant_id",
      rangeType: "int",
      otherUnique: false,
    });
    expect(planOf(result, "orders")).toMatchObject({
      identity: "index",
      keyColumns: ["id", "tenant_id"],
      rangeColumn: "id",
      rangeType: "uuid",
    });
    const none = { keyColumns: null, rangeColumn: null, rangeType: null };
    expect(planOf(result, "log")).toMatchObject({ identity: "full", ...none });
    expect(planOf(result, "deferred")).toMatchObject({
      identity: "full",
      otherUnique: true,
      ...none,
    });
    expect(planOf(result, "countries").otherUnique).toBe(true);
  });

  test("columns are in order without generated ones; binary and hashes only where they mean the same", () => {
    const columns = planOf(result, "orders").columns.map(
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
        "INSERT INTO sluice.migration VALUES ($1, 'app', 'app_sharded', 'moving', 'destination', 0, '{}')",
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
      planOf(result, "accounts").columns.map(({ binarySafe, hashAsText }) => [
        binarySafe,
        hashAsText,
      ]),
    ).toEqual([
      [true, false],
      [true, false],
      [false, true],
    ]);
  });

  test("with other enum labels is refused; a missing type is only noted", async () => {
    const source =
      "CREATE TYPE mood AS ENUM ('a', 'b'); CREATE TABLE t (id int PRIMARY KEY, mood mood)";
    const result = await check({ source, destination: "CREATE TYPE mood AS ENUM ('b', 'a')" });
    expectFinding(result, "types", {
      severity: "error",
      evidence: /public\.mood is e:'b','a', on the source e:'a','b'/,
    });
    expectFinding(await check({ source }), "types", {
      severity: "note",
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
    "INSERT INTO sluice.migration VALUES ('aaaaaaaaaaaa', 'app', 'x', 'moving', 'source', 0, '{}')",
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

test("R39: columns whose type has another OID on each server are named", async () => {
  const result = await check({
    source: `${ACCOUNTS}; CREATE TYPE mood AS ENUM ('good'); ALTER TABLE accounts ADD COLUMN mood mood`,
  });
  expectFinding(result, "user-defined-types", { severity: "warning", evidence: /mood/ });
});

test("R31: a standby, which no switch waits for, is named", async () => {
  const folder = mkdtempSync(join(tmpdir(), "sluice-wal-"));
  const receiver = spawn(
    join(server.binDir, "pg_receivewal"),
    ["-D", folder, "-h", "127.0.0.1", "-p", String(server.port), "-U", "postgres"],
    { stdio: "ignore", env: { ...process.env, PGAPPNAME: "spare" } },
  );
  try {
    const made = await fixture();
    await until(
      async () =>
        (
          await server.sql(
            "postgres",
            "SELECT FROM pg_stat_replication WHERE application_name = 'spare'",
          )
        ).length > 0,
      { timeoutMs: 10_000, what: "the receiver" },
    );
    expectFinding(await made.run(), "standbys", { severity: "warning", evidence: /"spare"/ });
  } finally {
    receiver.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  }
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

test("wal_level, slots, and a read-only default", async () => {
  await using other = await startPostgres({
    settings: {
      wal_level: "replica",
      max_replication_slots: "1",
      max_wal_senders: "0",
      max_slot_wal_keep_size: "64MB",
    },
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
  expectFinding(result, "slot-retention", {
    severity: "warning",
    evidence: /max_slot_wal_keep_size is 64MB/,
  });
  expectFinding(result, "wal-senders", { severity: "error", evidence: /0 of 0/ });
  expectFinding(result, "primary", { severity: "error", evidence: /read_only/ });
});

test("R6: a standby is refused: its snapshots list no running transaction", async () => {
  await using standby = await startPostgres();
  await standby.createDatabase("copy");
  await standby.stop("fast");
  // A server that finds this file stays in recovery and waits for a primary.
  writeFileSync(join(standby.dataDir, "standby.signal"), "");
  await standby.start();
  const { clusters, ref } = await fixture();
  const [source, destination] = clusters;
  const result = await preflight(
    engineContext([{ ...source, shards: [standby.address("copy")] }, destination]),
    ref,
  );
  expectFinding(result, "primary", {
    severity: "error",
    scope: /source\/0/,
    evidence: /is a standby/,
  });
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
