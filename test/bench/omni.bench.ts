// Writes to omnisharded tables over two shards: one shard executes and the others are given its rows, against the same
// statement run on every shard (tables without a key, where that is still done), against one PostgreSQL, all on one server.
// One JSON line. `npm run bench -- omni [statements] [rounds]`. CPU is the figure to trust: seconds of the server's processes
// plus those of this one, which is client and proxy.
import pg from "pg";
import { connectSql } from "../../src/backend/sql-client.js";
import { guardRows } from "../../src/resharding/switch/row-guards.js";
import { startProxy, testConfig } from "../integration/proxy/support.js";
import { startPostgres } from "../support/postgres.js";
import { serverCpuSeconds } from "../support/server-cpu.js";

const [statements = 2_000, rounds = 3] = process.argv.slice(2).map(Number);
const BULK_ROWS = 10_000;
const SHARDS = ["s0", "s1"];
const SCHEMA = `
  CREATE TABLE keyed (id int PRIMARY KEY, name text, n int NOT NULL DEFAULT 0);
  CREATE TABLE bare (id int NOT NULL, name text, n int NOT NULL DEFAULT 0);
  CREATE INDEX ON bare (id);
  CREATE TABLE drawn (id bigserial PRIMARY KEY, name text, token uuid DEFAULT gen_random_uuid(), at timestamptz DEFAULT now());
  CREATE TABLE flag (id bigserial PRIMARY KEY, name text UNIQUE, on_off boolean DEFAULT false, updated_at timestamptz);
  CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.updated_at := now(); RETURN NEW; END';
  CREATE TRIGGER touch BEFORE UPDATE ON flag FOR EACH ROW EXECUTE FUNCTION touch();
  INSERT INTO keyed SELECT g, 'k', 0 FROM generate_series(1, ${BULK_ROWS}) g;
  INSERT INTO bare SELECT g, 'k', 0 FROM generate_series(1, ${BULK_ROWS}) g;
  INSERT INTO flag (name) SELECT 'f' || g FROM generate_series(0, 99) g`;

interface Case {
  readonly name: string;
  readonly sql: string;
  readonly values: (index: number) => readonly unknown[];
  readonly times: number;
}

const CASES: readonly Case[] = [
  {
    name: "insert, drawn: replayed",
    sql: "INSERT INTO drawn (name) VALUES ($1)",
    values: () => ["x"],
    times: statements,
  },
  {
    name: "update, no key: everywhere",
    sql: "UPDATE bare SET n = n + 1 WHERE id = $1",
    values: (index) => [1 + (index % BULK_ROWS)],
    times: statements,
  },
  {
    name: "update by key: replayed",
    sql: "UPDATE keyed SET n = n + 1 WHERE id = $1",
    values: (index) => [1 + (index % BULK_ROWS)],
    times: statements,
  },
  {
    name: "upsert with a trigger: replayed",
    sql: "INSERT INTO flag (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET on_off = NOT flag.on_off",
    values: (index) => [`f${index % 100}`],
    times: statements,
  },
  {
    name: `update of ${BULK_ROWS} rows, no key: everywhere`,
    sql: "UPDATE bare SET n = n + 1 WHERE id < 1000000",
    values: () => [],
    times: 5,
  },
  {
    name: `update of ${BULK_ROWS} rows: replayed`,
    sql: "UPDATE keyed SET n = n + 1 WHERE id < 1000000",
    values: () => [],
    times: 5,
  },
];

interface Result {
  readonly wallSeconds: number;
  readonly cpuSeconds: number;
}

await using server = await startPostgres({ settings: { autovacuum: "off" } });
await run();

async function run(): Promise<void> {
  for (const name of ["whole", ...SHARDS]) {
    await server.createDatabase(name);
    await server.sql(name, SCHEMA);
    if (name === "whole") continue;
    await using client = await connectSql(server.address(name), { applicationName: "bench" });
    const tables = [{ schema: "public", name: "flag" }];
    await guardRows(client, tables, async (_table, act) => await act());
  }
  await using proxy = await startProxy(
    testConfig({
      databases: [{ name: "app", shards: SHARDS.map((database) => ({ server, database })) }],
      shardedTables: [
        { database: "app", name: null, schema: null, column: "tenant_id", dataType: "bigint" },
      ],
    }),
  );
  const sluice = await proxy.client("app");
  const whole = new pg.Client({
    connectionString: `postgres://postgres@127.0.0.1:${server.port}/whole`,
  });
  await whole.connect();
  const found = CASES.map((one) => ({ one, ours: [] as Result[], alone: [] as Result[] }));
  for (let round = 0; round < rounds; round++)
    for (const { one, ours, alone } of found) {
      alone.push(await measured(whole, one, round));
      ours.push(await measured(sluice, one, round));
    }
  await whole.end();
  const figures = found.map(({ one, ours, alone }) => ({
    name: one.name,
    ...summary(one, ours, alone),
  }));
  console.log(
    JSON.stringify({ bench: "omni", statements, rounds, postgres: server.major, figures }),
  );
}

function summary({ times }: Case, ours: readonly Result[], alone: readonly Result[]) {
  const median = (results: readonly Result[], of: keyof Result) => {
    const sorted = results.map((result) => result[of]).sort((one, other) => one - other);
    return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
  };
  const perStatement = (results: readonly Result[], of: keyof Result) =>
    Math.round((median(results, of) / times) * 1e5) / 100;
  const ratio = (of: keyof Result) =>
    Math.round((median(ours, of) / median(alone, of)) * 100) / 100;
  return {
    wallMs: perStatement(ours, "wallSeconds"),
    cpuMs: perStatement(ours, "cpuSeconds"),
    postgresWallMs: perStatement(alone, "wallSeconds"),
    postgresCpuMs: perStatement(alone, "cpuSeconds"),
    wallRatio: ratio("wallSeconds"),
    cpuRatio: ratio("cpuSeconds"),
  };
}

async function measured(client: pg.Client, one: Case, round: number): Promise<Result> {
  const before = {
    server: serverCpuSeconds(server),
    own: process.cpuUsage(),
    at: performance.now(),
  };
  for (let index = 0; index < one.times; index++)
    await client.query({
      name: one.name,
      text: one.sql,
      values: [...one.values(round * statements + index)],
    });
  const wallSeconds = (performance.now() - before.at) / 1000;
  const own = process.cpuUsage(before.own);
  const cpuSeconds = serverCpuSeconds(server) - before.server + (own.user + own.system) / 1e6;
  return { wallSeconds, cpuSeconds };
}
