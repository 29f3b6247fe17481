import type {
  ColumnFacts,
  ForeignKeyFacts,
  FunctionFacts,
  ReferringKeyFacts,
  TableFacts,
  ViewFacts,
} from "../../../src/router/schema-facts.js";
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
  isNotNull: false,
  isAlways: false,
  defaultSql: null,
  isBytewise: true,
  isDeterministic: true,
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
  referringKeys: [],
  hasUpdateTriggers: false,
  sources: [],
  view: null,
  uniqueKeys: [],
  foreignKeys: [],
  ...more,
});

const key = (from: string, to: string, referenced: string): ForeignKeyFacts => ({
  columns: [from],
  schema: "public",
  table: to,
  referenced: [referenced],
  isFull: false,
});

const referring = (from: string, column: string, referenced: string): ReferringKeyFacts => ({
  schema: "public",
  table: from,
  columns: [column],
  referenced: [referenced],
  meetsDelete: true,
});

/** Columns by the names that its query gives. */
const view = (name: string, sql: string, more: Partial<ViewFacts> = {}): TableFacts => {
  const outputs = /SELECT (.*?) FROM/.exec(sql)?.[1]?.split(", ") ?? [];
  const columns = outputs.map((output) => column(/(\w+)$/.exec(output)?.[1] ?? "", "bigint"));
  const sources = [...sql.matchAll(/public\.(\w+)/g)].map(
    (match) => ["public", match[1] ?? ""] as const,
  );
  return table(name, columns, {
    sources,
    isTable: false,
    view: { sql, isStored: false, hasOwnWrites: false, ...more },
  });
};

const named = (name: string, more: Partial<FunctionFacts> = {}): FunctionFacts => ({
  name,
  volatility: "immutable",
  isAggregate: false,
  isBuiltIn: true,
  ...more,
});

export const SHOP_FACTS = schemaFacts({
  isBytewise: true,
  hasLooseCollations: false,
  hasGuardFunctions: false,
  enums: { "public.mood": ["sad", "happy"] },
  tables: [
    table("tenants", [column("id", "bigint"), column("name", "text")], {
      referringKeys: [referring("members", "tenant_id", "id")],
      hasUpdateTriggers: true,
    }),
    table("members", [
      column("id", "bigint", {
        isIdentity: true,
        isAlways: true,
        defaultSql: "nextval('public.members_id_seq'::regclass)",
      }),
      column("name", "text"),
      column("no", "integer", { isIdentity: true, isAlways: true, defaultSql: "nextval('no')" }),
    ]),
    table(
      "users",
      [
        column("id", "bigint", {
          isIdentity: true,
          defaultSql: "nextval('users_id_seq'::regclass)",
        }),
        column("tenant_id", "bigint"),
        column("name", "text"),
        column("nick", "text", { isBytewise: false }),
      ],
      { uniqueKeys: [["id"]] },
    ),
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
    view("totals", "SELECT sum(orders.total) AS total FROM public.orders"),
    view("grand_totals", "SELECT totals.total FROM public.totals"),
    view("order_view", "SELECT o.id AS number, o.tenant_id AS tenant FROM public.orders o"),
    view("view_view", "SELECT order_view.number, order_view.tenant AS t FROM public.order_view"),
    view(
      "seven",
      "SELECT orders.id, orders.tenant_id FROM public.orders WHERE (orders.tenant_id = 7)",
    ),
    view(
      "newest",
      "SELECT orders.id, orders.tenant_id FROM public.orders ORDER BY orders.id DESC LIMIT 5",
    ),
    view("in_order", "SELECT orders.id, orders.tenant_id FROM public.orders ORDER BY orders.id"),
    view(
      "by_tenant",
      "SELECT orders.tenant_id, count(*) AS n FROM public.orders GROUP BY orders.tenant_id",
    ),
    view(
      "open_tasks",
      "SELECT t.id, t.tenant_id, p.name AS project FROM (public.tasks t JOIN public.projects p ON ((p.id = t.project_id)))",
    ),
    view("stored_tasks", "SELECT t.id, t.tenant_id, t.project_id FROM public.tasks t", {
      isStored: true,
    }),
    view("ruled", "SELECT orders.id, orders.tenant_id FROM public.orders", { hasOwnWrites: true }),
    view("pairs", "SELECT 1 AS id FROM public.orders, public.items"),
    view("plan_view", "SELECT plans.id FROM public.plans"),
    table(
      "projects",
      [
        column("id", "bigint", { defaultSql: "nextval('public.projects_id_seq'::regclass)" }),
        column("tenant_id", "bigint"),
        column("name", "text"),
      ],
      { uniqueKeys: [["id"], ["tenant_id", "name"]] },
    ),
    table(
      "tasks",
      [
        column("id", "bigint", { isIdentity: true, isNotNull: true }),
        column("tenant_id", "bigint"),
        column("project_id", "bigint", { isNotNull: true }),
        column("assignee_id", "bigint"),
        column("title", "text"),
      ],
      {
        uniqueKeys: [["id"]],
        foreignKeys: [key("project_id", "projects", "id"), key("assignee_id", "users", "id")],
      },
    ),
    table(
      "comments",
      [
        column("id", "uuid", { isNotNull: true }),
        column("tenant_id", "bigint"),
        column("task_id", "bigint", { isNotNull: true }),
        column("body", "text"),
      ],
      { uniqueKeys: [["id"]], foreignKeys: [key("task_id", "tasks", "id")] },
    ),
    table(
      "memberships",
      [
        column("tenant_id", "bigint"),
        column("project_id", "bigint", { isNotNull: true }),
        column("user_id", "bigint", { isNotNull: true }),
      ],
      { foreignKeys: [key("project_id", "projects", "id"), key("user_id", "users", "id")] },
    ),
    // Numbered within the tenant.
    table(
      "sprints",
      [
        column("tenant_id", "bigint", { isNotNull: true }),
        column("no", "integer"),
        column("goal", "text"),
      ],
      { uniqueKeys: [["tenant_id", "no"]] },
    ),
    table(
      "stories",
      [column("tenant_id", "bigint", { isNotNull: true }), column("sprint_no", "integer")],
      {
        foreignKeys: [
          {
            columns: ["tenant_id", "sprint_no"],
            schema: "public",
            table: "sprints",
            referenced: ["tenant_id", "no"],
            isFull: false,
          },
        ],
      },
    ),
    table("tenants_old", [column("id", "bigint"), column("name", "text")], {
      sources: [["public", "tenants"]],
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
