// What the placement guard costs INSERT: the same rows into a table with it and one without, in turns, on one server: one row at
// a time through Sluice, and many at once on one shard. One JSON line. `npm run bench -- guard [rows] [rounds]`. CPU is seconds of the server's processes plus those of this one, which is client and proxy.
import pg from "pg";
import { connectSql } from "../../src/backend/sql-client.js";
import type { KeyType } from "../../src/topology/hash.js";
import { placementSql } from "../../src/topology/placement-guard.js";
import { startProxy, testConfig } from "../integration/proxy/support.js";
import { startPostgres } from "../support/postgres.js";
import { serverCpuSeconds } from "../support/server-cpu.js";

const [rows = 1_000, rounds = 60] = process.argv.slice(2).map(Number);
const BULK = 50;

interface GuardCase {
  readonly name: string;
  readonly dataType: KeyType;
  readonly shardCount: number;
  readonly keySql: string;
  readonly keyOf: (i: number) => number | string;
}

const CASES: readonly GuardCase[] = [
  { name: "bigint", dataType: "bigint", shardCount: 2, keySql: "i", keyOf: (i: number) => i },
  { name: "bigint", dataType: "bigint", shardCount: 3, keySql: "i", keyOf: (i: number) => i },
  {
    name: "text",
    dataType: "varchar",
    shardCount: 3,
    keySql: "'tenant ' || i",
    keyOf: (i: number) => `tenant ${i}`,
  },
];
const VARIANTS = ["bare", "guarded"] as const;
type Pairs = Record<(typeof VARIANTS)[number], Spent[]>;

interface Spent {
  readonly wall: number;
  readonly cpu: number;
}

await using server = await startPostgres();

async function measure(act: () => Promise<unknown>): Promise<Spent> {
  const cpu = () =>
    serverCpuSeconds(server) * 1_000_000 + process.cpuUsage().user + process.cpuUsage().system;
  const before = cpu();
  const startedAtMs = performance.now();
  await act();
  return { wall: performance.now() - startedAtMs, cpu: (cpu() - before) / 1_000 };
}

/** Of the pairs whose ratio is in the middle half, sums: one that another process disturbed says nothing. */
function costOf(pairs: Pairs, each: number) {
  return Object.fromEntries(
    (["wall", "cpu"] as const).map((what) => {
      const both = pairs.bare.map(
        (bare, at) => [bare[what], pairs.guarded[at]?.[what] ?? 0] as const,
      );
      const sorted = both.toSorted(([a, b], [c, d]) => b / a - d / c);
      const middle = sorted.slice(Math.floor(both.length / 4), Math.ceil((both.length * 3) / 4));
      const bare = middle.reduce((sum, [one]) => sum + one, 0);
      const guarded = middle.reduce((sum, [, other]) => sum + other, 0);
      const microseconds = (sum: number) =>
        Number(((sum / middle.length / each) * 1_000).toFixed(1));
      const more = `${((guarded / bare - 1) * 100).toFixed(1)} %`;
      return [what, { more, bareUs: microseconds(bare), guardedUs: microseconds(guarded) }];
    }),
  );
}

async function run(one: (typeof CASES)[number], index: number) {
  const { dataType, shardCount, keySql, keyOf, name } = one;
  const shards = Array.from({ length: shardCount }, (_, shard) => `s${index}_${shard}`);
  const type = dataType === "varchar" ? "text" : dataType;
  for (const [shard, database] of shards.entries()) {
    await server.createDatabase(database);
    const guard = placementSql("k", { dataType }, { shard, shardCount });
    for (const variant of VARIANTS)
      await server.sql(
        database,
        `CREATE TABLE ${variant} (id bigserial PRIMARY KEY, k ${type} NOT NULL, body text, at timestamptz DEFAULT now()
          ${variant === "guarded" ? `, CONSTRAINT sluice_placement CHECK (${guard})` : ""})`,
      );
  }
  const rule = { database: "app", name: null, schema: null, column: "k", dataType } as const;
  await using proxy = await startProxy(
    testConfig({
      databases: [{ name: "app", shards: shards.map((database) => ({ server, database })) }],
      shardedTables: [rule],
    }),
  );
  const client = new pg.Client({ connectionString: proxy.url("app") });
  await client.connect();
  await using shard = await connectSql(server.address(`s${index}_0`), { applicationName: "bench" });
  const single: Pairs = { bare: [], guarded: [] };
  const bulk: Pairs = { bare: [], guarded: [] };
  const own = placementSql("k", { dataType }, { shard: 0, shardCount });
  const insertOne = async (variant: string) => {
    const text = `INSERT INTO ${variant} (k, body) VALUES ($1, 'some text of a row')`;
    for (let i = 0; i < rows; i++)
      await client.query({ name: `insert ${variant}`, text, values: [keyOf(i)] });
  };
  const insertMany = async (variant: string) =>
    await shard.query(`INSERT INTO public.${variant} (k, body) SELECT k, 'some text of a row'
      FROM generate_series(1, ${rows}) i, LATERAL (SELECT ${keySql} AS k OFFSET 0) v, generate_series(1, ${BULK}) WHERE ${own}`);
  for (let round = 0; round < rounds; round++) {
    // The one that goes first takes turns.
    for (const variant of round % 2 === 0 ? VARIANTS : VARIANTS.toReversed()) {
      await shard.query(`TRUNCATE public.${variant}`);
      single[variant].push(await measure(async () => await insertOne(variant)));
      bulk[variant].push(await measure(async () => await insertMany(variant)));
    }
  }
  await client.end();
  const each = (rows * BULK) / shardCount;
  return { key: name, shardCount, throughSluice: costOf(single, rows), bulk: costOf(bulk, each) };
}

const report = [];
for (const [index, one] of CASES.entries()) report.push(await run(one, index));
process.stdout.write(`${JSON.stringify({ rows, rounds, report })}\n`);
