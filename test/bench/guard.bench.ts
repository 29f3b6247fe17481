// What the placement guard costs INSERT: the same rows into a table with it and one without, on one server, in turns. One
// JSON line. `npm run bench -- guard [rows] [rounds]`. CPU is the figure to trust: seconds of the server's processes.
import { connectSql } from "../../src/backend/sql-client.js";
import { placementSql } from "../../src/topology/placement-guard.js";
import { startPostgres } from "../support/postgres.js";
import { serverCpuSeconds } from "../support/server-cpu.js";

const [rows = 20_000, rounds = 7] = process.argv.slice(2).map(Number);
const BULK = 10;

const KEYS = [
  { name: "bigint", type: "bigint", dataType: "bigint", value: "$1::bigint", shardCount: 2 },
  {
    name: "bigint, 3 shards",
    type: "bigint",
    dataType: "bigint",
    value: "$1::bigint",
    shardCount: 3,
  },
  { name: "uuid", type: "uuid", dataType: "uuid", value: "md5($1::text)::uuid", shardCount: 2 },
  {
    name: "text",
    type: "text",
    dataType: "varchar",
    value: "'tenant ' || $1::text",
    shardCount: 3,
  },
] as const;
const VARIANTS = ["bare", "guarded"] as const;

await using server = await startPostgres({ settings: { fsync: "off", autovacuum: "off" } });
await server.createDatabase("bench");
await using client = await connectSql(server.address("bench"), { applicationName: "bench" });
await client.query("SET search_path = public");

interface Spent {
  readonly wall: number;
  readonly cpu: number;
}

async function measure(act: () => Promise<void>): Promise<Spent> {
  const before = serverCpuSeconds(server);
  const startedAtMs = performance.now();
  await act();
  return {
    wall: performance.now() - startedAtMs,
    cpu: (serverCpuSeconds(server) - before) * 1_000,
  };
}

function median(values: readonly number[]): number {
  return values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)] ?? 0;
}

/** A key that belongs to shard 0, so that the guard holds. */
async function ownKeys(key: (typeof KEYS)[number]): Promise<readonly number[]> {
  const holds = placementSql("k", key, { shard: 0, shardCount: key.shardCount });
  const { rows: found } = await client.query<{ i: number }>(
    `SELECT i FROM generate_series(1, ${rows * 4}) i, LATERAL (SELECT ${key.value.replace("$1", "i")} AS k) v
      WHERE ${holds} LIMIT ${rows}`,
  );
  return found.map(({ i }) => i);
}

const report = [];
for (const key of KEYS) {
  const keys = await ownKeys(key);
  for (const variant of VARIANTS)
    await client.query(
      `DROP TABLE IF EXISTS ${variant};
       CREATE TABLE ${variant} (id bigserial PRIMARY KEY, k ${key.type} NOT NULL, body text, at timestamptz DEFAULT now())`,
    );
  const holds = placementSql("k", key, { shard: 0, shardCount: key.shardCount });
  await client.query(`ALTER TABLE guarded ADD CONSTRAINT sluice_placement CHECK (${holds})`);
  const single = { bare: [] as Spent[], guarded: [] as Spent[] };
  const bulk = { bare: [] as Spent[], guarded: [] as Spent[] };
  for (let round = 0; round < rounds; round++) {
    // The one that goes first takes turns.
    for (const variant of round % 2 === 0 ? VARIANTS : VARIANTS.toReversed()) {
      const text = `INSERT INTO ${variant} (k, body) VALUES (${key.value}, 'some text of a row')`;
      await client.query(`TRUNCATE ${variant}`);
      await client.query("CHECKPOINT");
      const one = { name: `${key.name} ${variant}`, text };
      single[variant].push(
        await measure(async () => {
          for (const value of keys) await client.query({ ...one, values: [value] });
        }),
      );
      const many = `INSERT INTO ${variant} (k, body) SELECT ${key.value.replace("$1", "i")}, 'some text of a row'
        FROM unnest($1::int[]) i, generate_series(1, ${BULK})`;
      bulk[variant].push(
        await measure(async () => {
          await client.query(many, [keys]);
        }),
      );
    }
  }
  const costs = (spent: typeof single) =>
    Object.fromEntries(
      (["wall", "cpu"] as const).map((what) => {
        const pairs = spent.bare.map((bare, at) => (spent.guarded[at]?.[what] ?? 0) / bare[what]);
        return [what, `${((median(pairs) - 1) * 100).toFixed(1)} %`];
      }),
    );
  const milliseconds = {
    bare: median(single.bare.map(({ cpu }) => cpu)),
    guarded: median(single.guarded.map(({ cpu }) => cpu)),
  };
  report.push({
    key: key.name,
    single: costs(single),
    bulk: costs(bulk),
    singleCpuMs: milliseconds,
  });
}
process.stdout.write(`${JSON.stringify({ rows, rounds, report })}\n`);
