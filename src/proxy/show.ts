import type { ServerPool } from "../backend/server-pool.js";
import type { ShardId } from "../topology/topology.js";
import type { AdminRow } from "./channel.js";
import type { ServedDatabase } from "./databases/served-database.js";
import type { Session } from "./session/session.js";

/** Rows of SHOW CLIENTS, POOLS, SERVERS and STATS, in the order of PgDog's columns. */
export function showClients(sessions: readonly Session[]): readonly AdminRow[] {
  return sessions.map((session) => {
    const { client, state } = session;
    const { counters } = state;
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
      Math.round(counters.queryMs),
      Math.round(counters.transactionMs),
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
  readonly served: ServedDatabase;
  readonly user: string;
  readonly shard: ShardId;
  readonly pool: ServerPool;
}

function poolsOf(databases: readonly ServedDatabase[]): readonly PoolEntry[] {
  return databases.flatMap((served) =>
    served.pools.map((entry) => ({ ...entry, id: entry.pool.id, served })),
  );
}

export function showPools(databases: readonly ServedDatabase[]): readonly AdminRow[] {
  return poolsOf(databases).map(({ id, served, user, shard, pool }) => {
    const account = served.database.users.get(user);
    const idleInTransaction = pool.busy.filter((server) => server.isIdleInTransaction).length;
    const waitMs = pool.longestWaitMs;
    return [
      id,
      served.database.name,
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

export function showServers(databases: readonly ServedDatabase[]): readonly AdminRow[] {
  return poolsOf(databases).flatMap(({ id, served, user, pool }) => {
    const busy = new Set(pool.busy);
    return pool.connections.map((server) => [
      id,
      served.database.name,
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
export function showStats(databases: readonly ServedDatabase[]): readonly AdminRow[] {
  return poolsOf(databases).map(({ served, user, shard, pool }) => {
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
    return [served.database.name, user, host, port, shard, "primary", ...totals, ...averages];
  });
}

function timeText(ms: number): string {
  return `${new Date(ms).toISOString().replace("T", " ").slice(0, 23)} UTC`;
}
