import type { ServerLink } from "../backend/server-link.js";
import type { ServerPool } from "../backend/server-pool.js";
import type { ShardId } from "../topology/topology.js";
import type { AdminRow } from "./channel.js";
import type { ServedDatabase } from "./databases/served-database.js";
import type { Session } from "./session/session.js";
import { PLANE_TABLES, STATS, type Stat } from "./show-columns.js";

/** Rows of SHOW CLIENTS, POOLS, SERVERS and STATS. */
export function showClients(sessions: readonly Session[]): readonly AdminRow[] {
  return sessions.map((session) => {
    const { client, state } = session;
    const { counters } = state;
    return PLANE_TABLES.clients.row({
      id: session.id,
      user: state.userName,
      database: session.database,
      addr: client.address,
      port: client.port,
      state: session.stateName,
      replication: "none",
      connect_time: timeText(client.connectedAtMs),
      last_request: counters.lastRequestAtMs > 0 ? timeText(counters.lastRequestAtMs) : null,
      queries: counters.queries,
      transactions: counters.transactions,
      transactions_2pc: counters.twoPhaseTransactions,
      wait_time: counters.waitMs,
      query_time: Math.round(counters.queryMs),
      transaction_time: Math.round(counters.transactionMs),
      bytes_received: client.bytesReceived,
      bytes_sent: client.bytesSent,
      errors: counters.errors,
      application_name: state.settings.current.get("application_name") ?? "",
      locked: session.isTied,
      prepared_statements: state.statements.size,
    });
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
    return PLANE_TABLES.pools.row({
      id,
      database: served.database.name,
      user,
      addr: pool.options.address.host,
      port: pool.options.address.port,
      shard,
      role: "primary",
      cl_waiting: pool.waitingCount,
      sv_idle: pool.idleCount,
      sv_active: pool.busyCount - idleInTransaction,
      sv_idle_xact: idleInTransaction,
      sv_total: pool.idleCount + pool.busyCount,
      maxwait: Math.floor(waitMs / 1000),
      maxwait_us: (waitMs % 1000) * 1000,
      pool_mode: account?.poolerMode ?? "transaction",
      paused: pool.isPaused,
      banned: false,
      healthy: pool.isHealthy,
      errors: pool.counters.errors,
      re_synced: pool.counters.resynced,
      out_of_sync: 0,
      force_closed: pool.counters.forceClosed,
      online: true,
      schema_admin: account?.schemaAdmin ?? false,
    });
  });
}

export function showServers(databases: readonly ServedDatabase[]): readonly AdminRow[] {
  return poolsOf(databases).flatMap(({ id, served, user, pool }) => {
    const busy = new Set(pool.busy);
    return pool.connections.map((server) =>
      PLANE_TABLES.servers.row({
        pool_id: id,
        database: served.database.name,
        user,
        addr: server.address.host,
        port: server.address.port,
        state: stateOf(server, busy),
        connect_time: timeText(server.connectedAtMs),
        request_time: timeText(server.lastUsedAtMs),
        remote_pid: server.processId,
        client_id: null,
        transactions: 0,
        queries: 0,
        rollbacks: 0,
        prepared_statements: server.preparedStatements.size,
        healthchecks: 0,
        errors: 0,
        bytes_received: server.bytesReceived,
        bytes_sent: server.bytesSent,
        last_sent: timeText(server.lastUsedAtMs),
        last_received: timeText(server.lastUsedAtMs),
        age: Math.floor((Date.now() - server.connectedAtMs) / 1000),
        application_name: server.appliedSettings.get("application_name") ?? "sluice",
      }),
    );
  });
}

function stateOf(server: ServerLink, busy: ReadonlySet<ServerLink>): string {
  if (!busy.has(server)) return "idle";
  return server.isIdleInTransaction ? "idle in transaction" : "active";
}

/** total_... and avg_...: what is not counted (yet) is 0. */
export function showStats(databases: readonly ServedDatabase[]): readonly AdminRow[] {
  return poolsOf(databases).map(({ served, user, shard, pool }) => {
    const { checkouts, waitMs, errors, cleaned, connects, received, sent } = pool.totals;
    const counted: Readonly<Partial<Record<Stat, number>>> = {
      xact_count: checkouts,
      server_assignment_count: checkouts,
      received,
      sent,
      wait_time: waitMs,
      errors,
      cleaned,
      connect_count: connects,
      auth_attempts: connects,
    };
    const { host, port } = pool.options.address;
    return PLANE_TABLES.stats.row({
      database: served.database.name,
      user,
      addr: host,
      port,
      shard,
      role: "primary",
      ...statValues(counted),
    });
  });
}

function timeText(ms: number): string {
  return `${new Date(ms).toISOString().replace("T", " ").slice(0, 23)} UTC`;
}

type StatValues = Readonly<Record<`total_${Stat}` | `avg_${Stat}`, number>>;

function statValues(counted: Readonly<Partial<Record<Stat, number>>>): StatValues {
  const values: Record<string, number> = {};
  for (const stat of STATS) {
    values[`total_${stat}`] = counted[stat] ?? 0;
    values[`avg_${stat}`] = 0;
  }
  // Both names of every counter were set.
  return values as StatValues;
}
