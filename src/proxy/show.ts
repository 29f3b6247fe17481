import type { ServerPool } from "../backend/server-pool.js";
import type { ShardId } from "../topology/topology.js";
import type { AdminRow } from "./channel.js";
import type { Cluster } from "./clusters/cluster.js";
import type { Session } from "./session/session.js";

/** Rows of SHOW CLIENTS, POOLS, SERVERS and STATS, in the order of PgDog's columns. */
export function showClients(sessions: readonly Session[]): readonly AdminRow[] {
  return sessions.map((session) => {
    const { client, state, counters } = session;
    return [
      session.id,
      state.userName,
      session.database,
      client.address,
      client.port,
      session.stateName,
      "none",
      timeText(client.connectedAtMs),
      counters.lastRequestAtMs > 0 ? timeText(counters.lastRequestAtMs) : null,
      counters.queries,
      counters.transactions,
      counters.twoPhaseTransactions,
      counters.waitMs,
      counters.queryMs,
      counters.queryMs,
      client.bytesReceived,
      client.bytesSent,
      counters.errors,
      state.settings.current.get("application_name") ?? "",
      session.isTied,
      state.statements.size,
    ];
  });
}

interface PoolEntry {
  readonly id: number;
  readonly cluster: Cluster;
  readonly user: string;
  readonly shard: ShardId;
  readonly pool: ServerPool;
}

function poolsOf(clusters: readonly Cluster[]): readonly PoolEntry[] {
  return clusters.flatMap((cluster) =>
    cluster.pools.map((entry) => ({ ...entry, id: entry.pool.id, cluster })),
  );
}

export function showPools(clusters: readonly Cluster[]): readonly AdminRow[] {
  return poolsOf(clusters).map(({ id, cluster, user, shard, pool }) => {
    const account = cluster.database.users.get(user);
    const idleInTransaction = pool.busy.filter((server) => server.isIdleInTransaction).length;
    const waitMs = pool.longestWaitMs;
    return [
      id,
      cluster.database.name,
      user,
      pool.options.address.host,
      pool.options.address.port,
      shard,
      "primary",
      pool.waitingCount,
      pool.idleCount,
      pool.busyCount - idleInTransaction,
      idleInTransaction,
      pool.idleCount + pool.busyCount,
      Math.floor(waitMs / 1000),
      (waitMs % 1000) * 1000,
      account?.poolerMode ?? "transaction",
      pool.isPaused,
      false,
      pool.isHealthy,
      pool.counters.errors,
      0,
      0,
      pool.counters.forceClosed,
      true,
      account?.schemaAdmin ?? false,
    ];
  });
}

export function showServers(clusters: readonly Cluster[]): readonly AdminRow[] {
  return poolsOf(clusters).flatMap(({ id, cluster, user, pool }) => {
    const busy = new Set(pool.busy);
    return pool.connections.map((server) => [
      id,
      cluster.database.name,
      user,
      server.address.host,
      server.address.port,
      busy.has(server) ? (server.isIdleInTransaction ? "idle in transaction" : "active") : "idle",
      timeText(server.connectedAtMs),
      timeText(server.lastUsedAtMs),
      server.processId,
      null,
      0,
      0,
      0,
      server.preparedStatements.size,
      0,
      0,
      server.bytesReceived,
      server.bytesSent,
      timeText(server.lastUsedAtMs),
      timeText(server.lastUsedAtMs),
      Math.floor((Date.now() - server.connectedAtMs) / 1000),
      server.appliedSettings.get("application_name") ?? "sluice",
    ]);
  });
}

const COUNTED = 24;

/** total_... and avg_...: what is not counted (yet) is 0. */
export function showStats(clusters: readonly Cluster[]): readonly AdminRow[] {
  return poolsOf(clusters).map(({ cluster, user, shard, pool }) => {
    const { checkouts, waitMs, errors, cleaned, connects, received, sent } = pool.totals;
    const totals = new Array<number>(COUNTED).fill(0);
    const known: readonly (readonly [number, number])[] = [
      [0, checkouts],
      [3, checkouts],
      [4, received],
      [5, sent],
      [9, waitMs],
      [13, errors],
      [14, cleaned],
      [17, connects],
      [20, connects],
    ];
    for (const [at, value] of known) totals[at] = value;
    const { host, port } = pool.options.address;
    const averages = new Array<number>(COUNTED).fill(0);
    return [cluster.database.name, user, host, port, shard, "primary", ...totals, ...averages];
  });
}

function timeText(ms: number): string {
  return `${new Date(ms).toISOString().replace("T", " ").slice(0, 23)} UTC`;
}
