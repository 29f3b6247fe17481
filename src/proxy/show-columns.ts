import { adminTable } from "./admin-table.js";
import type { AdminType } from "./channel.js";

/** PgDog's counters; each is shown as total_ and as avg_. */
export const STATS = [
  "xact_count",
  "xact_2pc_count",
  "query_count",
  "server_assignment_count",
  "received",
  "sent",
  "xact_time",
  "idle_xact_time",
  "query_time",
  "wait_time",
  "server_parse_count",
  "bind_count",
  "close_count",
  "errors",
  "cleaned",
  "rollbacks",
  "connect_time",
  "connect_count",
  "reads",
  "writes",
  "auth_attempts",
  "rows_inserted",
  "rows_updated",
  "rows_deleted",
] as const;

export type Stat = (typeof STATS)[number];

type StatColumns = Readonly<Record<`total_${Stat}` | `avg_${Stat}`, "numeric">>;

/**
 * What a data plane answers to SHOW CLIENTS, POOLS, SERVERS and STATS. Names, order and types are PgDog's:
 * clients read columns by position and drivers by type. A column stays where its counter is not kept yet.
 */
export const PLANE_TABLES = {
  clients: adminTable({
    id: "bigint",
    user: "text",
    database: "text",
    addr: "text",
    port: "numeric",
    state: "text",
    replication: "text",
    connect_time: "text",
    last_request: "text",
    queries: "numeric",
    transactions: "numeric",
    transactions_2pc: "numeric",
    wait_time: "numeric",
    query_time: "numeric",
    transaction_time: "numeric",
    bytes_received: "numeric",
    bytes_sent: "numeric",
    errors: "numeric",
    application_name: "text",
    locked: "bool",
    prepared_statements: "numeric",
  }),
  pools: adminTable({
    id: "bigint",
    database: "text",
    user: "text",
    addr: "text",
    port: "numeric",
    shard: "numeric",
    role: "text",
    cl_waiting: "numeric",
    sv_idle: "numeric",
    sv_active: "numeric",
    sv_idle_xact: "numeric",
    sv_total: "numeric",
    maxwait: "numeric",
    maxwait_us: "numeric",
    pool_mode: "text",
    paused: "bool",
    banned: "bool",
    healthy: "bool",
    errors: "numeric",
    re_synced: "numeric",
    out_of_sync: "numeric",
    force_closed: "numeric",
    online: "bool",
    schema_admin: "bool",
  }),
  servers: adminTable({
    pool_id: "bigint",
    database: "text",
    user: "text",
    addr: "text",
    port: "numeric",
    state: "text",
    connect_time: "text",
    request_time: "text",
    remote_pid: "numeric",
    client_id: "bigint",
    transactions: "numeric",
    queries: "numeric",
    rollbacks: "numeric",
    prepared_statements: "numeric",
    healthchecks: "numeric",
    errors: "numeric",
    bytes_received: "numeric",
    bytes_sent: "numeric",
    last_sent: "text",
    last_received: "text",
    age: "numeric",
    application_name: "text",
  }),
  stats: adminTable({
    database: "text",
    user: "text",
    addr: "text",
    port: "numeric",
    shard: "numeric",
    role: "text",
    ...statColumns(),
  }),
} as const;

function statColumns(): StatColumns {
  const names = [...STATS.map((name) => `total_${name}`), ...STATS.map((name) => `avg_${name}`)];
  const types: Record<string, AdminType> = {};
  for (const name of names) types[name] = "numeric";
  // Every name of the two lists is there.
  return types as StatColumns;
}
