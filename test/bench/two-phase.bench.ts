// What a commit in two phases costs: transactions that write one row on each of two shards, with two_phase_commit "auto" and
// false, beside transactions that write two rows on one shard. Two servers, which flush (fsync on), as a commit is a flush.
// One JSON line. `npm run bench -- two-phase [transactions] [rounds]`.
import type pg from "pg";
import { startProxy, testConfig } from "../integration/proxy/support.js";
import { startPostgres } from "../support/postgres.js";
import { serverCpuSeconds } from "../support/server-cpu.js";

const [transactions = 1_000, rounds = 3] = process.argv.slice(2).map(Number);
const CLIENTS = [1, 8];

interface Case {
  readonly name: string;
  readonly mode: "auto" | false;
  /** Of which shard each row is: 1 and 2 belong to shard 0, 3 and 4 to shard 1. */
  readonly tenants: readonly [number, number];
}

const CASES: readonly Case[] = [
  { name: "one shard", mode: "auto", tenants: [1, 2] },
  { name: "two shards, one commit after the other", mode: false, tenants: [1, 3] },
  { name: "two shards, two phases", mode: "auto", tenants: [1, 3] },
];

const settings = { fsync: "on", full_page_writes: "on", autovacuum: "off" };
await using first = await startPostgres({ settings });
await using second = await startPostgres({ settings });
const servers = [first, second];
for (const server of servers) {
  await server.createDatabase("shard");
  await server.sql("shard", "CREATE TABLE entry (tenant_id bigint, n int, text text)");
}
const configOf = (twoPhaseCommit: "auto" | false) =>
  testConfig({
    databases: [{ name: "app", shards: servers.map((server) => ({ server, database: "shard" })) }],
    general: { twoPhaseCommit },
    shardedTables: [
      { database: "app", name: null, schema: null, column: "tenant_id", dataType: "bigint" },
    ],
  });
await using proxy = await startProxy(configOf("auto"));

const found = CASES.map((one) => ({ one, ms: new Map<number, number[]>(), cpu: [] as number[] }));
for (let round = 0; round < rounds; round++)
  for (const { one, ms, cpu } of found)
    for (const count of CLIENTS) {
      proxy.topology(configOf(one.mode));
      const clients = await Promise.all(
        Array.from({ length: count }, async () => await proxy.client("app")),
      );
      await Promise.all(clients.map(async (client) => await transaction(client, one, -1)));
      const cpuBefore = cpuSeconds();
      const before = performance.now();
      await Promise.all(
        clients.map(async (client) => {
          for (let index = 0; index < transactions / count; index++)
            await transaction(client, one, index);
        }),
      );
      const perClient = transactions / count;
      ms.set(count, [...(ms.get(count) ?? []), (performance.now() - before) / perClient]);
      if (count === 1) cpu.push(((cpuSeconds() - cpuBefore) * 1000) / transactions);
      await Promise.all(clients.map(async (client) => await client.end()));
    }
const figures = found.map(({ one, ms, cpu }) => ({
  name: one.name,
  ms: Object.fromEntries([...ms].map(([count, all]) => [`${count} clients`, median(all)])),
  cpuMs: median(cpu),
}));
console.log(
  JSON.stringify({ bench: "two-phase", transactions, rounds, postgres: first.major, figures }),
);

async function transaction(client: pg.Client, one: Case, index: number): Promise<void> {
  await client.query("BEGIN");
  for (const tenant of one.tenants)
    await client.query({
      name: "put",
      text: "INSERT INTO entry VALUES ($1, $2, 'some text')",
      values: [tenant, index],
    });
  await client.query("COMMIT");
}

function cpuSeconds(): number {
  const own = process.cpuUsage();
  const ofServers = servers.map(serverCpuSeconds).reduce((sum, one) => sum + one, 0);
  return ofServers + (own.user + own.system) / 1e6;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((one, other) => one - other);
  return Math.round((sorted[Math.floor(sorted.length / 2)] ?? Number.NaN) * 100) / 100;
}
