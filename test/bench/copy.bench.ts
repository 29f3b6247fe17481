// Copy of one table, ours into two shards against `psql | psql` and native logical replication's first sync
// into one database, all on one server. One JSON line per contender. `npm run bench -- copy [rows] [rounds]`.
// CPU is the figure to trust: seconds of the server's processes plus those of the client.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { copyRange } from "../../src/resharding/copy/copy-range-step.js";
import { planCopy } from "../../src/resharding/copy/plan-copy-step.js";
import { copyFixture } from "../support/copy-fixture.js";
import { startPostgres } from "../support/postgres.js";
import { serverCpuSeconds } from "../support/server-cpu.js";
import { until } from "../support/until.js";

const [rows = 1_000_000, rounds = 3] = process.argv.slice(2).map(Number);
const PARALLEL = 2;
const SCHEMA = `CREATE TABLE orders (id bigint PRIMARY KEY, tenant_id bigint NOT NULL, amount numeric,
  note text, at timestamptz)`;

interface Result {
  readonly wallSeconds: number;
  readonly cpuSeconds: number;
}

const server = await startPostgres({
  settings: { max_wal_size: "8GB", checkpoint_timeout: "30min", autovacuum: "off" },
});
try {
  await run();
} finally {
  await server[Symbol.asyncDispose]();
}

async function run(): Promise<void> {
  await server.createDatabase("origin");
  await server.sql("origin", SCHEMA);
  await server.sql(
    "origin",
    `INSERT INTO orders SELECT g, g % 1000, g / 7.0, md5(g::text), now() FROM generate_series(1, ${rows}) g`,
  );
  await server.sql("origin", "VACUUM ANALYZE orders");
  const results: Record<"psql" | "native" | "ours", Result[]> = { psql: [], native: [], ours: [] };
  for (let round = 0; round < rounds; round++) {
    results.psql.push(await piped(round));
    results.native.push(await firstSync(round));
    results.ours.push(await sluice(round));
  }
  const median = (name: keyof typeof results, of: keyof Result) => {
    const sorted = results[name].map((result) => result[of]).sort((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
  };
  const round = (value: number) => Math.round(value * 100) / 100;
  const summary = (name: keyof typeof results) => ({
    wallSeconds: round(median(name, "wallSeconds")),
    cpuSeconds: round(median(name, "cpuSeconds")),
    rowsPerSecond: Math.round(rows / median(name, "wallSeconds")),
  });
  const ratio = (other: "psql" | "native") => ({
    wall: round(median("ours", "wallSeconds") / median(other, "wallSeconds")),
    cpu: round(median("ours", "cpuSeconds") / median(other, "cpuSeconds")),
  });
  console.log(
    JSON.stringify({
      bench: "copy",
      rows,
      rounds,
      postgres: server.major,
      psqlPipe: summary("psql"),
      nativeFirstSync: summary("native"),
      ours: summary("ours"),
      oursToPsqlPipe: ratio("psql"),
      oursToNativeFirstSync: ratio("native"),
    }),
  );
}

/** `psql COPY TO | psql COPY FROM`, binary. */
async function piped(round: number): Promise<Result> {
  const database = `psql${round}`;
  await server.createDatabase(database);
  await server.sql(database, SCHEMA);
  const result = await measured(async () => {
    const psql = (name: string, command: string) =>
      `${join(server.binDir, "psql")} -X -q -h 127.0.0.1 -p ${server.port} -U postgres -d ${name} -c "${command}"`;
    const pipe = `${psql("origin", "COPY orders TO STDOUT (FORMAT binary)")} | ${psql(database, "COPY orders FROM STDIN (FORMAT binary)")}`;
    const child = spawn("bash", ["-c", `set -o pipefail; ${pipe}; times >&2`], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    let errors = "";
    child.stderr.on("data", (chunk: Buffer) => {
      errors += chunk.toString();
    });
    const status = await new Promise((resolve) => child.once("close", resolve));
    if (status !== 0) throw new Error(`psql: ${errors}`);
    // Bash's `times`: the second line is its children's user and system time, "0m1.234s 0m0.567s".
    const [, children = ""] = errors.trim().split("\n").slice(-2);
    return [...children.matchAll(/(\d+)m([\d.]+)s/g)].reduce(
      (sum, match) => sum + Number(match[1]) * 60 + Number(match[2]),
      0,
    );
  });
  await server.sql("postgres", `DROP DATABASE ${database}`);
  return result;
}

/** CREATE SUBSCRIPTION with its initial copy. */
async function firstSync(round: number): Promise<Result> {
  const database = `native${round}`;
  const name = `bench${round}`;
  await server.createDatabase(database);
  await server.sql(database, SCHEMA);
  await server.sql("origin", `CREATE PUBLICATION ${name} FOR TABLE orders`);
  // Made beforehand: on the same server, CREATE SUBSCRIPTION would wait for itself.
  await server.sql("origin", `SELECT pg_create_logical_replication_slot('${name}', 'pgoutput')`);
  const result = await measured(async () => {
    await server.sql(
      database,
      `CREATE SUBSCRIPTION ${name}
         CONNECTION 'host=127.0.0.1 port=${server.port} user=postgres dbname=origin'
         PUBLICATION ${name} WITH (create_slot = false)`,
    );
    await until(
      async () =>
        (
          await server.sql(
            database,
            "SELECT 1 FROM pg_subscription_rel WHERE srsubstate IN ('s', 'r')",
          )
        ).length > 0,
      { timeoutMs: 600_000, what: "the first sync", intervalMs: 50 },
    );
    return 0;
  });
  await server.sql(database, `ALTER SUBSCRIPTION ${name} DISABLE`);
  await server.sql(database, `ALTER SUBSCRIPTION ${name} SET (slot_name = NONE)`);
  await server.sql(database, `DROP SUBSCRIPTION ${name}`);
  await until(() => dropSlot(name), { timeoutMs: 30_000, what: "the slot to be free" });
  await server.sql("origin", `DROP PUBLICATION ${name}`);
  await server.sql("postgres", `DROP DATABASE ${database}`);
  return result;
}

async function dropSlot(name: string): Promise<boolean> {
  try {
    await server.sql("origin", `SELECT pg_drop_replication_slot('${name}')`);
    return true;
  } catch {
    return false;
  }
}

/** Ranges of 100,000 rows, split into two shards. */
async function sluice(round: number): Promise<Result> {
  const fixture = await copyFixture(server, {
    name: `ours${round}`,
    schema: SCHEMA,
    tables: [{ name: "orders", shardBy: "tenant_id" }],
  });
  const [source = ""] = fixture.sources;
  await server.sql("postgres", `ALTER DATABASE ${source} RENAME TO empty${round}`);
  await server.sql("postgres", `ALTER DATABASE origin RENAME TO ${source}`);
  await server.sql(
    source,
    `DROP SCHEMA IF EXISTS sluice CASCADE; CREATE SCHEMA sluice;
     CREATE TABLE sluice.migration (id text, side text, spec jsonb, state text DEFAULT 'active')`,
  );
  await server.sql(source, "INSERT INTO sluice.migration VALUES ($1, 'source', $2)", [
    fixture.ref.id,
    JSON.stringify(fixture.spec),
  ]);
  const context = fixture.context({}, { copyRangeRows: 100_000 });
  const result = await measured(async () => {
    const before = process.cpuUsage();
    const [plan] = await planCopy(context, fixture.ref);
    const ranges = Array.from({ length: plan?.rangeCount ?? 0 }, (_, range) => range);
    const worker = async () => {
      for (let range = ranges.shift(); range !== undefined; range = ranges.shift())
        await copyRange(context, {
          ...{ ref: fixture.ref, schema: "public", table: "orders", sourceShard: 0 },
          range,
        });
    };
    await Promise.all(Array.from({ length: PARALLEL }, worker));
    const used = process.cpuUsage(before);
    return (used.user + used.system) / 1e6;
  });
  await server.sql("postgres", `ALTER DATABASE ${source} RENAME TO origin`);
  for (const database of [...fixture.destinations, `empty${round}`])
    await server.sql("postgres", `DROP DATABASE ${database}`);
  return result;
}

/** @param work returns the client's CPU seconds */
async function measured(work: () => Promise<number>): Promise<Result> {
  await server.sql("postgres", "CHECKPOINT");
  const before = { cpu: serverCpuSeconds(server), at: performance.now() };
  const clientCpu = await work();
  const wallSeconds = (performance.now() - before.at) / 1000;
  // A backend's time is counted when the postmaster has reaped it.
  await new Promise((resolve) => setTimeout(resolve, 500));
  return { wallSeconds, cpuSeconds: serverCpuSeconds(server) - before.cpu + clientCpu };
}
