import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { connectSql } from "../../../src/backend/sql-client.js";
import type { Cluster, EngineContext } from "../../../src/resharding/context.js";
import type { MigrationRef } from "../../../src/resharding/model/migration.js";
import { dumpSchema, findPgDump } from "../../../src/resharding/schema/pg-dump.js";
import {
  SchemaDumpFailed,
  SchemaStatementFailed,
} from "../../../src/resharding/schema/schema-failures.js";
import {
  countPendingStatements,
  syncSchema,
} from "../../../src/resharding/schema/sync-schema-step.js";
import { engineContext } from "../../support/engine.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";

const RICH = readFileSync(new URL("../../support/rich-schema.sql", import.meta.url), "utf8");
const PHASES = ["pre", "post", "cutover"] as const;

let server: PostgresServer;
let serial = 0;

beforeAll(async () => {
  server = await startPostgres({ settings: { fsync: "off" } });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

interface Fixture {
  readonly source: string;
  readonly shards: readonly [string, string];
  readonly ref: MigrationRef;
  context(
    policy?: Partial<EngineContext["policy"]>,
    overrides?: Partial<EngineContext>,
  ): EngineContext;
}

async function fixture(schema: string): Promise<Fixture> {
  serial += 1;
  const source = `source_${serial}`;
  const shards = [`shard_${serial}_0`, `shard_${serial}_1`] as const;
  for (const name of [source, ...shards]) await server.createDatabase(name);
  await server.sql(source, schema);
  const cluster = (name: string, databases: readonly string[]): Cluster => ({
    name,
    shards: databases.map((database) => server.address(database)),
    shardedTables: [],
    omnishardedTables: [],
  });
  const clusters = [cluster("app", [source]), cluster("app_sharded", shards)];
  return {
    source,
    shards,
    ref: {
      id: serial.toString(16).padStart(12, "0"),
      source: "app",
      destination: "app_sharded",
      publication: "everything",
    },
    context: (policy, overrides) =>
      engineContext(clusters, { pgDumpPath: join(server.binDir, "pg_dump"), ...policy }, overrides),
  };
}

async function syncAll({ ref, context }: Fixture) {
  const results = [];
  for (const phase of PHASES) results.push(await syncSchema(context(), { ref, phase }));
  return results;
}

/** Everything of an application's database as pg_dump tells it. */
function dump(database: string): string {
  const text = execFileSync(
    join(server.binDir, "pg_dump"),
    ["--schema-only", "--exclude-schema=sluice", "--no-publications", "--host=127.0.0.1"].concat(
      `--port=${server.port}`,
      "--username=postgres",
      database,
    ),
    { encoding: "utf8" },
  );
  return text.replaceAll(/^\\(?:un)?restrict .*$/gm, "");
}

describe("a rich schema", () => {
  let rich: Fixture;
  beforeAll(async () => {
    rich = await fixture(RICH);
    await server.sql(rich.source, "CREATE PUBLICATION everything FOR ALL TABLES");
  });

  test("arrives on every shard as it is on the source, nothing deferred", async () => {
    const results = await syncAll(rich);
    expect(results.flatMap(({ deferred, warnings }) => [...deferred, ...warnings])).toEqual([]);
    for (const shard of rich.shards) expect(dump(shard)).toBe(dump(rich.source));
  });

  test("runs a second time and changes nothing", async () => {
    const before = dump(rich.shards[0]);
    await syncAll(rich);
    expect(dump(rich.shards[0])).toBe(before);
  });

  test("leaves no statement pending, and fills materialized views", async () => {
    await using client = await connectSql(server.address(rich.shards[1]), {
      applicationName: "test",
    });
    expect(await countPendingStatements(client, rich.ref.id)).toBe(0);
    const views = await client.query("SELECT ispopulated FROM pg_matviews");
    expect(views.rows).toEqual([{ ispopulated: true }]);
  });

  test("brings neither our schema nor publications nor gate triggers", async () => {
    await server.sql(
      rich.source,
      "CREATE TRIGGER sluice_gate_aa BEFORE INSERT ON public.log EXECUTE FUNCTION public.touch();" +
        "ALTER TABLE public.log ENABLE ALWAYS TRIGGER sluice_gate_aa",
    );
    await syncAll(rich);
    for (const shard of rich.shards) {
      const triggers = await server.sql(
        shard,
        "SELECT tgname FROM pg_trigger WHERE tgname LIKE 'sluice%'",
      );
      const publications = await server.sql(shard, "SELECT pubname FROM pg_publication");
      expect([...triggers, ...publications]).toEqual([]);
    }
  });
});

test("the pre phase brings tables, primary keys and identities, and no other index, key or trigger", async () => {
  const made = await fixture(RICH);
  await syncSchema(made.context(), { ref: made.ref, phase: "pre" });
  const [shard] = made.shards;
  const indexes = await server.sql(
    shard,
    `SELECT c.relname AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname IN ('public', 'App Space') AND c.relkind = 'i' ORDER BY c.relname COLLATE "C"`,
  );
  expect(indexes.map(({ name }) => name)).toEqual([
    "Mixed Key",
    "events_2024_pkey",
    "events_rest_0_pkey",
    "events_rest_1_pkey",
    "tenants_pkey",
    "users_pkey",
  ]);
  const [counts] = await server.sql(
    shard,
    `SELECT (SELECT count(*)::int FROM pg_trigger WHERE NOT tgisinternal) AS triggers,
       (SELECT count(*)::int FROM pg_constraint WHERE contype = 'f' AND connamespace <> 'sluice'::regnamespace) AS foreign_keys,
       (SELECT relreplident FROM pg_class WHERE relname LIKE 'Mixed "%' AND relkind = 'r') AS mixed,
       (SELECT relreplident FROM pg_class WHERE relname = 'log') AS log`,
  );
  expect(counts).toEqual({ triggers: 0, foreign_keys: 0, mixed: "i", log: "f" });
});

test("an attempt that dies after any statement is finished by the next one", async () => {
  const made = await fixture(RICH);
  for (const phase of PHASES) {
    for (let allowed = 1; ; allowed += 19) {
      let count = 0;
      const announce = async () => {
        count += 1;
        if (count === allowed) throw new Error("killed");
      };
      const outcome = await syncSchema(made.context({}, { announce }), {
        ref: made.ref,
        phase,
      }).then(
        () => "finished",
        (error: unknown) => String(error),
      );
      if (outcome === "finished") break;
      expect(outcome).toBe("Error: killed");
    }
  }
  for (const shard of made.shards) expect(dump(shard)).toBe(dump(made.source));
}, 60_000);

test("a later attempt ends the session of an earlier one that is frozen", async () => {
  const made = await fixture(RICH);
  let wake: () => void = () => {};
  const frozen = new Promise<void>((resolve) => {
    wake = resolve;
  });
  let reached: () => void = () => {};
  const isFrozen = new Promise<void>((resolve) => {
    reached = resolve;
  });
  const first = syncSchema(
    made.context(
      {},
      {
        announce: async () => {
          reached();
          await frozen;
        },
      },
    ),
    { ref: made.ref, phase: "pre" },
  ).then(
    () => "finished",
    () => "failed",
  );
  await isFrozen;
  await syncAll(made);
  wake();
  expect(await first).toBe("failed");
  for (const shard of made.shards) expect(dump(shard)).toBe(dump(made.source));
});

test("rows that do not fit yet put unique and foreign keys off until the cutover phase", async () => {
  const made = await fixture(
    `CREATE TABLE parent (id int PRIMARY KEY, code int UNIQUE);
     CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent);`,
  );
  const { ref, shards } = made;
  await syncSchema(made.context(), { ref, phase: "pre" });
  // What ranges of two snapshots can hold: a value twice, and a child without its parent.
  const rows = "INSERT INTO parent VALUES (1, 7), (2, 7); INSERT INTO child VALUES (1, 3)";
  await server.sql(shards[0], rows);
  const post = await syncSchema(made.context(), { ref, phase: "post" });
  expect(post.deferred).toEqual([expect.stringContaining("parent_code_key")]);
  await using client = await connectSql(server.address(shards[0]), { applicationName: "test" });
  expect(await countPendingStatements(client, ref.id)).toBeGreaterThan(0);
  await expect(syncSchema(made.context(), { ref, phase: "cutover" })).rejects.toMatchObject({
    code: "SLUICE_SCHEMA_STATEMENT_FAILED",
    recovery: "retry",
  });
  // The stream catches up.
  await server.sql(shards[0], "DELETE FROM parent WHERE id = 2; DELETE FROM child");
  await syncSchema(made.context(), { ref, phase: "cutover" });
  expect(await countPendingStatements(client, ref.id)).toBe(0);
  for (const shard of shards) expect(dump(shard)).toBe(dump(made.source));
});

test("an existing table with other columns stops, naming statement, shard and difference", async () => {
  const made = await fixture("CREATE TABLE thing (id int PRIMARY KEY, name text)");
  await server.sql(made.shards[1], "CREATE TABLE thing (id int PRIMARY KEY)");
  const error = await syncSchema(made.context(), { ref: made.ref, phase: "pre" }).catch(
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(SchemaStatementFailed);
  expect(error).toMatchObject({
    message: expect.stringMatching(/shard 1 .*"thing" already exists.*42P07/),
    detail: expect.stringContaining("CREATE TABLE public.thing"),
    recovery: "operator",
  });
});

test("an object of another kind in the way is no table", async () => {
  const made = await fixture("CREATE TABLE thing (id int PRIMARY KEY)");
  await server.sql(made.shards[0], "CREATE VIEW thing AS SELECT 1 AS id");
  await expect(syncSchema(made.context(), { ref: made.ref, phase: "pre" })).rejects.toThrow(
    SchemaStatementFailed,
  );
});

test("a role that does not exist on the destination is a warning, its grants are left out", async () => {
  await using other = await startPostgres();
  await other.createDatabase("only_there");
  const made = await fixture(
    "CREATE ROLE clerk; CREATE TABLE t (id int PRIMARY KEY); GRANT SELECT ON t TO clerk",
  );
  const clusters: Cluster[] = [
    made.context().cluster("app"),
    { ...made.context().cluster("app_sharded"), shards: [other.address("only_there")] },
  ];
  const result = await syncSchema(engineContext(clusters, made.context().policy), {
    ref: made.ref,
    phase: "pre",
  });
  expect(result.warnings).toEqual([expect.stringContaining('role "clerk" does not exist')]);
});

test("a lock that others hold is waited for, given up so that others pass, and tried again", async () => {
  const made = await fixture(
    "CREATE TABLE t (id int PRIMARY KEY, n int); CREATE INDEX t_n ON t (n)",
  );
  const [database] = made.shards;
  await syncSchema(made.context(), { ref: made.ref, phase: "pre" });
  await using holder = await connectSql(server.address(database), { applicationName: "app" });
  await holder.query("BEGIN");
  await holder.query("LOCK TABLE public.t IN ROW EXCLUSIVE MODE");
  const done = syncSchema(made.context(), { ref: made.ref, phase: "post" });
  const waiting = async () => {
    const rows = await server.sql(
      "postgres",
      `SELECT query_start::text AS since FROM pg_stat_activity WHERE datname = '${database}'
         AND application_name = 'sluice schema' AND wait_event_type = 'Lock'`,
    );
    return rows[0]?.since;
  };
  const first = await until(waiting, { timeoutMs: 20_000, what: "the first wait for the lock" });
  await until(async () => (await waiting()) !== first && (await waiting()) !== undefined, {
    timeoutMs: 20_000,
    what: "the second attempt",
  });
  await holder.query("COMMIT");
  await done;
  expect(dump(database)).toBe(dump(made.source));
});

test("no fitting pg_dump is an error that names the versions", async () => {
  const made = await fixture("");
  const context = made.context({ pgDumpPath: "/nonexistent/pg_dump" });
  vi.stubEnv("PATH", `${process.env.PATH}${delimiter}${server.binDir}`);
  // PATH has one that fits, so the configured one is replaced.
  await syncSchema(context, { ref: made.ref, phase: "pre" });
  await expect(findPgDump("/nonexistent/pg_dump", 99)).rejects.toMatchObject({
    code: "SLUICE_SCHEMA_DUMP_FAILED",
    detail: expect.stringMatching(/nonexistent\/pg_dump cannot be run; .* is \d+/),
  });
  vi.unstubAllEnvs();
});

test("a failing pg_dump tells its own words and no password", async () => {
  const made = await fixture("");
  const address = { ...server.address("absent"), password: "s3cret" };
  const error = await dumpSchema(
    join(server.binDir, "pg_dump"),
    address,
    made.context().signal,
  ).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(SchemaDumpFailed);
  expect(error).toMatchObject({ detail: expect.stringContaining('"absent" does not exist') });
  expect(JSON.stringify(error) + String(error)).not.toContain("s3cret");
});
