import type { ColumnFacts, FunctionFacts, TableFacts } from "../../../src/router/schema-facts.js";
import { schemaFacts } from "../../../src/router/schema-facts.js";
import type { Database, ShardedTable } from "../../../src/topology/topology.js";
import { shardId } from "../../../src/topology/topology.js";

const rule = (
  name: string | null,
  column: string,
  more: Partial<ShardedTable> = {},
): ShardedTable => ({
  schema: null,
  name,
  column,
  dataType: "bigint",
  ...more,
});

/** tenants and members by id, the latter's drawn; users, orders, items by tenant_id; sessions by uuid; codes by text; plans everywhere. */
export function shop(changes: Partial<Database> = {}): Database {
  return {
    name: "shop",
    epoch: 0,
    shardCount: 4,
    servers: [0, 1, 2, 3].map((shard) => ({
      shard: shardId(shard),
      host: "127.0.0.1",
      port: 5432,
      database: `shop_${shard}`,
      role: "primary",
    })),
    shardedTables: [
      rule("tenants", "id"),
      rule("members", "id"),
      rule("sessions", "id", { dataType: "uuid" }),
      rule("codes", "code", { dataType: "varchar" }),
      rule(null, "tenant_id"),
    ],
    omnishardedTables: ["plans"],
    users: new Map(),
    shardKeyUpdates: "error",
    splitInserts: "error",
    twoPhaseCommit: false,
    ...changes,
  };
}

const column = (name: string, type: string, more: Partial<ColumnFacts> = {}): ColumnFacts => ({
  name,
  type,
  isGenerated: false,
  isIdentity: false,
  isAlways: false,
  defaultSql: null,
  isBytewise: true,
  ...more,
});

const table = (
  name: string,
  columns: readonly ColumnFacts[],
  more: Partial<TableFacts> = {},
): TableFacts => ({
  schema: "public",
  name,
  columns,
  isTable: true,
  keyColumns: [],
  triggers: [],
  isGuarded: false,
  actsOn: [],
  hasDeleteActions: false,
  sources: [],
  ...more,
});

const named = (name: string, more: Partial<FunctionFacts> = {}): FunctionFacts => ({
  name,
  volatility: "immutable",
  isAggregate: false,
  isBuiltIn: true,
  ...more,
});

export const SHOP_FACTS = schemaFacts({
  isBytewise: true,
  hasGuardFunctions: false,
  tables: [
    table("tenants", [column("id", "bigint"), column("name", "text")], { hasDeleteActions: true }),
    table("members", [
      column("id", "bigint", {
        isIdentity: true,
        isAlways: true,
        defaultSql: "nextval('public.members_id_seq'::regclass)",
      }),
      column("name", "text"),
      column("no", "integer", { isIdentity: true, isAlways: true, defaultSql: "nextval('no')" }),
    ]),
    table("users", [
      column("id", "bigint", { isIdentity: true }),
      column("tenant_id", "bigint"),
      column("name", "text"),
      column("nick", "text", { isBytewise: false }),
    ]),
    table("orders", [
      column("tenant_id", "bigint"),
      column("id", "bigint"),
      column("total", "numeric"),
      column("double", "numeric", { isGenerated: true, defaultSql: "(total * 2)" }),
    ]),
    table("items", [
      column("tenant_id", "bigint"),
      column("order_id", "bigint"),
      column("qty", "integer"),
    ]),
    table("sessions", [column("id", "uuid"), column("data", "text")]),
    table("codes", [column("code", "text"), column("data", "text")]),
    table(
      "plans",
      [column("id", "bigint"), column("name", "text"), column("tenant_id", "bigint")],
      { keyColumns: ["id"] },
    ),
    table("journal", [
      column("what", "text"),
      column("at", "timestamp with time zone", { defaultSql: "now()" }),
    ]),
    table("touched", [column("id", "bigint"), column("at", "date")], {
      keyColumns: ["id"],
      triggers: [{ name: "touch", source: "BEGIN NEW.at := now(); RETURN NEW; END" }],
      isGuarded: true,
    }),
    table("watched", [column("id", "bigint")], {
      keyColumns: ["id"],
      triggers: [{ name: "watch", source: "BEGIN DELETE FROM journal; RETURN NEW; END" }],
      isGuarded: true,
    }),
    table("totals", [column("total", "numeric")], { sources: [["public", "orders"]] }),
    table("grand_totals", [column("total", "numeric")], { sources: [["public", "totals"]] }),
    table("order_view", [column("tenant_id", "bigint")], { sources: [["public", "orders"]] }),
    table("plan_view", [column("id", "bigint")], {
      sources: [["public", "plans"]],
      isTable: false,
    }),
    table(
      "settings",
      [
        column("id", "bigint", { defaultSql: "nextval('settings_id_seq'::regclass)" }),
        column("name", "text", { defaultSql: "'x'::text" }),
        column("at", "timestamp with time zone", { defaultSql: "now()" }),
      ],
      { keyColumns: ["id"] },
    ),
  ],
  functions: [
    ...["count", "sum", "avg", "max", "min", "array_agg"].map((name) =>
      named(name, { isAggregate: true }),
    ),
    ...["lower", "upper", "abs", "length", "md5"].map((name) => named(name)),
    ...["now", "to_char", "current_setting"].map((name) => named(name, { volatility: "stable" })),
    ...[
      "random",
      "nextval",
      "gen_random_uuid",
      "pg_advisory_lock",
      "set_config",
      "setval",
      "pg_sleep",
      "pg_notify",
    ].map((name) => named(name, { volatility: "volatile" })),
    named("row_number", { isAggregate: false }),
    named("ours", { isBuiltIn: false, volatility: "volatile" }),
    named("pure", { isBuiltIn: false }),
  ],
});
