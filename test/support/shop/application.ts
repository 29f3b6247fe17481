import { readFileSync } from "node:fs";
import type { Application, ComparedTable } from "../application.js";

const OMNISHARDED = ["countries", "plans"];
const SHARDED = ["tenants", "users", "orders", "order_items", "events"];

export const SHOP_TABLES: readonly ComparedTable[] = [
  ...OMNISHARDED.map((table) => ({ table, shardingKey: null })),
  ...SHARDED.map((table) => ({ table, shardingKey: "tenant_id" })),
];

export const SHOP_PUBLICATION = "prod_tables";

/**
 * An application that was made for sharding, with odd types.
 * @param rows at least this many over all tables
 */
export function shop(rows: number): Application {
  return {
    publication: SHOP_PUBLICATION,
    tables: SHOP_TABLES,
    shardedTables: [{ column: "tenant_id" }],
    sentinel: {
      insert: (tenant, id) =>
        `INSERT INTO events (tenant_id, id, client, kind) VALUES (${tenant}, '${id}', -1, 'sentinel')`,
      from: (id) => `FROM events WHERE id = '${id}'`,
    },
    seed: async (server, database) => {
      const schema = readFileSync(new URL("./schema.sql", import.meta.url), "utf8");
      await server.sql(database, schema);
      const counts = shares(rows);
      await server.sql(database, fillingSql(counts));
      const names = SHOP_TABLES.map(({ table }) => table).join(", ");
      await server.sql(
        database,
        `CREATE PUBLICATION ${SHOP_PUBLICATION} FOR TABLE ${names}; ANALYZE`,
      );
      return counts;
    },
  };
}

type Counts = Readonly<
  Record<"countries" | "plans" | "tenants" | "users" | "orders" | "order_items" | "events", number>
>;

/** What a tenant has on the average: 50 users, 200 orders with two lines each, 150 events. */
function shares(rows: number): Counts {
  const tenants = Math.max(50, Math.ceil(rows / 750));
  const users = Math.ceil(rows * 0.07);
  const orders = Math.ceil(rows * 0.25);
  const items = orders * 2;
  const events = Math.max(1, rows - tenants - users - orders - items);
  return { countries: 20, plans: 5, tenants, users, orders, order_items: items, events };
}

function fillingSql(counts: Counts): string {
  const { tenants, users, orders, events } = counts;
  // Incompressible, so that it really goes out of line: one row in forty.
  const long = "(SELECT string_agg(md5(n::text || k::text), '') FROM generate_series(1, 120) k)";
  return `
    SET session_replication_role = replica;
    SET synchronous_commit = off;
    INSERT INTO countries SELECT 'C' || n, 'country ' || n FROM generate_series(1, 20) n;
    INSERT INTO plans
      SELECT n, 'plan ' || n, n * 9.99, jsonb_build_object('seats', n * 10)
      FROM generate_series(1, 5) n;
    INSERT INTO tenants (tenant_id, name, plan_id, country, state)
      SELECT n, 'tenant ' || n, 1 + n % 5, 'C' || 1 + n % 20,
             (ARRAY['trial', 'active', 'suspended']::tenant_state[])[1 + n % 3]
      FROM generate_series(1, ${tenants}) n;
    INSERT INTO users (tenant_id, id, email, tags, settings)
      SELECT 1 + n % ${tenants}, n, 'user' || n || '@example.com',
             ARRAY['t' || n % 7, 'quote " comma , brace }'],
             CASE WHEN n % 3 = 0 THEN NULL ELSE jsonb_build_object('n', n, 'deep', jsonb_build_array(n, NULL)) END
      FROM generate_series(1, ${users}) n;
    INSERT INTO orders (tenant_id, id, user_id, state, total, note, created_at)
      SELECT u.tenant_id, md5('order' || n)::uuid, u.id,
             (ARRAY['new', 'paid', 'shipped', 'returned']::order_state[])[1 + n % 4],
             (n % 100000) / 100.0,
             CASE WHEN n % 40 = 0 THEN ${long} WHEN n % 2 = 0 THEN 'note ' || n END,
             timestamptz '2025-01-01 00:00:00+00' + n * interval '37 seconds'
      FROM generate_series(1, ${orders}) n
      JOIN users u ON u.id = 1 + n % ${users};
    INSERT INTO order_items (tenant_id, order_id, line, sku, quantity, price)
      SELECT tenant_id, id, line, 'sku-' || line, 1 + line, total / 2
      FROM orders CROSS JOIN generate_series(1, 2) line;
    INSERT INTO events (tenant_id, id, client, kind, payload, body, at)
      SELECT 1 + n % ${tenants}, md5('event' || n)::uuid, 0, 'seed',
             jsonb_build_object('n', n, 'text', 'a "quoted" \\ value'),
             CASE WHEN n % 40 = 0 THEN ${long} END,
             timestamptz '2025-06-01 00:00:00+00' + n * interval '11 seconds'
      FROM generate_series(1, ${events}) n;
    SELECT setval(pg_get_serial_sequence('users', 'id'), ${users});
  `;
}
