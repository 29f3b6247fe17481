import type { RowState } from "./history.js";
import type { FinalTables } from "./judge.js";

/** One database of a side, by its superuser: `PostgresServer.sql` bound to a database. */
export type Query = (text: string) => Promise<Record<string, unknown>[]>;

/** Reads what the oracle judges by, straight from the servers that serve. */
export async function readFinalTables(shards: readonly Query[]): Promise<FinalTables> {
  const events = new Map<string, RowState[]>();
  const orders = new Map<string, RowState[]>();
  const writes = new Map<number, number>();
  const ids = new Map<string, number>();
  for (const query of shards) {
    const rows = await query(
      "SELECT tenant_id, id, revision, 0 AS lines FROM events WHERE kind = 'load'",
    );
    for (const row of rows) add(events, row);
    const placed = await query(
      `SELECT o.tenant_id, o.id, o.revision, count(i.line)::int AS lines
       FROM orders o LEFT JOIN order_items i ON i.tenant_id = o.tenant_id AND i.order_id = o.id
       WHERE o.note = 'by the load' OR o.note LIKE '________-____-4%'
       GROUP BY o.tenant_id, o.id`,
    );
    for (const row of placed) add(orders, row);
    const counters = await query("SELECT tenant_id, writes::int FROM tenants WHERE writes <> 0");
    for (const { tenant_id: tenant, writes: count } of counters)
      writes.set(Number(tenant), (writes.get(Number(tenant)) ?? 0) + Number(count));
    for (const { id } of await query(
      "SELECT 'users ' || id AS id FROM users UNION ALL SELECT 'order_items ' || id FROM order_items",
    ))
      ids.set(String(id), (ids.get(String(id)) ?? 0) + 1);
  }
  const repeatedIds = [...ids].filter(([, count]) => count > 1).map(([id]) => id);
  return { rows: { events, orders }, writes, repeatedIds };
}

function add(to: Map<string, RowState[]>, row: Record<string, unknown>): void {
  const id = String(row.id);
  const state = {
    tenant: Number(row.tenant_id),
    revision: Number(row.revision),
    lines: Number(row.lines),
  };
  to.set(id, [...(to.get(id) ?? []), state]);
}
