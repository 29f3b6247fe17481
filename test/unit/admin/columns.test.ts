import { describe, expect, it } from "vitest";
import { SHOW_TABLES } from "../../../src/admin/columns.js";
import { SHOW_NAMES, type ShowName } from "../../../src/admin/command.js";

/**
 * The reference's tables, transcribed: names in order, and who is not `text`. Clients read columns by
 * position, drivers by type.
 */
const REFERENCE: Readonly<Record<string, string>> = {
  tasks:
    "id:bigint, scope, type, status, inner_status, started_at, updated_at, elapsed, elapsed_ms:bigint",
  table_copies:
    "schema, table, status, rows:bigint, rows_human, bytes:bigint, bytes_human, bytes_per_sec:bigint, bytes_per_sec_human, elapsed, elapsed_ms:bigint, sql",
  replication_slots:
    "host, port:bigint, database_name, name, lsn, lag, lag_bytes:bigint, copy_data:bool, last_transaction, last_transaction_ms:bigint",
  schema_sync:
    "database, user, shard:bigint, kind, sync_state, started_at, elapsed, elapsed_ms:bigint, table_schema, table_name, sql",
  config: "name, value",
  version: "version",
  pools:
    "id:bigint, database, user, addr, port:numeric, shard:numeric, role, cl_waiting:numeric, sv_idle:numeric, sv_active:numeric, sv_idle_xact:numeric, sv_total:numeric, maxwait:numeric, maxwait_us:numeric, pool_mode, paused:bool, banned:bool, healthy:bool, errors:numeric, re_synced:numeric, out_of_sync:numeric, force_closed:numeric, online:bool, schema_admin:bool",
  clients:
    "id:bigint, user, database, addr, port:numeric, state, replication, connect_time, last_request, queries:numeric, transactions:numeric, transactions_2pc:numeric, wait_time:numeric, query_time:numeric, transaction_time:numeric, bytes_received:numeric, bytes_sent:numeric, errors:numeric, application_name, locked:bool, prepared_statements:numeric",
  servers:
    "pool_id:bigint, database, user, addr, port:numeric, state, connect_time, request_time, remote_pid:numeric, client_id:bigint, transactions:numeric, queries:numeric, rollbacks:numeric, prepared_statements:numeric, healthchecks:numeric, errors:numeric, bytes_received:numeric, bytes_sent:numeric, last_sent, last_received, age:numeric, application_name",
  bans: "id:bigint, database, user, addr, port:numeric, shard:numeric, role, ban_reason, ban_time_left:numeric",
  lists:
    "databases:numeric, users:numeric, pools:numeric, used_clients:numeric, used_clients:numeric, free_servers:numeric, used_servers:numeric",
  instance_id: "instance_id",
};

const COUNTERS =
  "xact_count, xact_2pc_count, query_count, server_assignment_count, received, sent, xact_time, idle_xact_time, query_time, wait_time, server_parse_count, bind_count, close_count, errors, cleaned, rollbacks, connect_time, connect_count, reads, writes, auth_attempts, rows_inserted, rows_updated, rows_deleted";

function shape(what: ShowName): string {
  return SHOW_TABLES[what].columns
    .map(({ name, type }) => (type === "text" ? name : `${name}:${type}`))
    .join(", ");
}

describe("columns of SHOW", () => {
  it.each(Object.entries(REFERENCE))("%s", (name, columns) => {
    const what = SHOW_NAMES.find((known) => known === name);
    expect(what).toBeDefined();
    if (what) expect(shape(what)).toBe(columns);
  });

  it("stats: each counter as total_ and again as avg_", () => {
    const numbers = (prefix: string) =>
      COUNTERS.split(", ").map((counter) => `${prefix}${counter}:numeric`);
    const head = "database, user, addr, port:numeric, shard:numeric, role";
    expect(shape("stats")).toBe([head, ...numbers("total_"), ...numbers("avg_")].join(", "));
  });

  it("rows are written by name: what is missing or too much does not compile", () => {
    const { maintenance, lists } = SHOW_TABLES;
    expect(maintenance.row({ owner: "operator", database: null })).toEqual([null, "operator"]);
    // @ts-expect-error: no owner
    maintenance.row({ database: null });
    const surplus = { database: null, owner: "cutover", since: "today" } as const;
    // @ts-expect-error: no such column
    maintenance.row(surplus);
    // @ts-expect-error: a text
    maintenance.row({ database: null, owner: 7 });
    const counts = { databases: 1, users: 2, pools: 3, free_servers: 0, used_servers: 6 };
    expect(lists.row({ ...counts, none: 0, used_clients: 5 })).toEqual([1, 2, 3, 0, 5, 0, 6]);
  });
});
