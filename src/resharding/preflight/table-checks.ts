import { quoteIdentifier, quoteQualified } from "../../core/identifier.js";
import { FOREIGN_KEY_CHECKS } from "./foreign-key-checks.js";
import { classify, type TableClass } from "./table-class.js";
import { sentColumns } from "./table-plan.js";
import {
  displayName,
  eachShard,
  type Finding,
  failure,
  type PreflightCheck,
  type ShardView,
  sameTable,
  shardsOf,
  shortName,
  type World,
  warning,
  withGist,
} from "./world.js";

/** What moving tables carry that does not travel, or behaves otherwise on several shards. */
export const TABLE_CHECKS: readonly PreflightCheck[] = [
  {
    id: "table-kind",
    fine: "every moving table is an ordinary table or a partition",
    run: checkKind,
  },
  {
    id: "same-columns-on-source-shards",
    fine: "the source shards agree on columns",
    run: checkSameColumns,
  },
  {
    id: "table-class",
    fine: "source and destination rules agree on which tables are sharded",
    run: checkClass,
  },
  {
    id: "omnisharded-equal",
    fine: "omnisharded tables are equal on all source shards",
    run: checkOmnisharded,
  },
  {
    id: "triggers",
    fine: "no trigger fires for replicated changes",
    run: ({ shards }) => shards.flatMap(checkTriggers),
  },
  {
    id: "rules",
    fine: "no moving table has rules",
    run: ({ shards }) => shards.flatMap(checkRules),
  },
  {
    id: "subscriptions",
    fine: "no native subscription feeds a moving table",
    run: ({ shards }) => eachShard(shards, checkSubscriptions),
  },
  {
    id: "row-security",
    fine: "no row security policy filters what our roles read",
    run: ({ shards }) => shards.flatMap(checkRowSecurity),
  },
  ...FOREIGN_KEY_CHECKS,
];

function checkKind(world: World): readonly Finding[] {
  return world.tables
    .filter(({ facts }) => facts.kind !== "r")
    .map(({ facts }) =>
      failure(
        displayName(facts),
        facts.kind === "f" ? "this partition is a foreign table" : `relkind is ${facts.kind}`,
        facts.rootName === null
          ? ""
          : `ALTER TABLE ${quoteQualified(facts.rootSchema ?? "", facts.rootName)} DETACH PARTITION ${quoteQualified(facts.schema, facts.name)};`,
      ),
    );
}

function checkSameColumns(world: World): readonly Finding[] {
  return shardsOf(world, "source").flatMap((shard) =>
    world.tables.flatMap(({ facts }) => {
      const here = shard.tables.find((table) => sameTable(table, facts));
      if (!here) return [];
      const describe = (table: typeof here) =>
        sentColumns(table)
          .map(({ name, type }) => `${name} ${type}`)
          .toSorted()
          .join(", ");
      if (describe(here) === describe(facts)) return [];
      return [
        failure(
          `${shard.scope} ${displayName(facts)}`,
          `columns are (${describe(here)}), on source/0 (${describe(facts)})`,
          "Bring the source shards to one schema first.",
        ),
      ];
    }),
  );
}

/** Several source shards: rows are where the source's rules put them, so both sides must say the same. */
function checkClass(world: World): readonly Finding[] {
  if (world.source.shards.length === 1) return [];
  return world.tables.flatMap(({ facts, tableClass }) => {
    const before = classify(world.source, facts);
    if (describeClass(before) === describeClass(tableClass)) return [];
    // By another key is another distribution of the same rows: every row is still somewhere once.
    if (before.kind === "sharded" && tableClass.kind === "sharded") return [];
    return [
      failure(
        displayName(facts),
        `the table is ${describeClass(before)} in ${world.source.name} and ${describeClass(tableClass)} in ${world.destination.name}`,
        `Give [[sharded_tables]] of database "${world.destination.name}" the same rule as "${world.source.name}".`,
      ),
    ];
  });
}

function describeClass(tableClass: TableClass): string {
  return tableClass.kind === "sharded" ? `sharded by ${tableClass.column}` : "omnisharded";
}

const EQUALITY_ATTEMPTS = 3;

/** R13: only the owner shard's rows count, so the others must have the same. Under writes it looks again. */
async function checkOmnisharded(world: World): Promise<readonly Finding[]> {
  const shards = shardsOf(world, "source");
  if (shards.length < 2) return [];
  const findings: Finding[] = [];
  for (const { facts, tableClass } of world.tables) {
    if (tableClass.kind !== "omnisharded") continue;
    let sums: readonly string[] = [];
    for (let attempt = 0; attempt < EQUALITY_ATTEMPTS; attempt += 1) {
      sums = await Promise.all(shards.map((shard) => sumOf(shard, facts)));
      if (new Set(sums).size === 1) break;
    }
    if (new Set(sums).size === 1) continue;
    findings.push(
      failure(
        displayName(facts),
        `the table is omnisharded but differs between source shards: ${sums
          .map((sum, index) => `${shards[index]?.scope}: ${sum}`)
          .join("; ")}`,
        "Make its rows equal on all source shards, or shard it by a rule in [[sharded_tables]].",
      ),
    );
  }
  return findings;
}

/** Order-independent; as text, so that it needs no hash function of the types. */
async function sumOf(shard: ShardView, table: Parameters<typeof sentColumns>[0]): Promise<string> {
  const columns = sentColumns(table).map(({ name }) => `t.${quoteIdentifier(name)}`);
  const result = await shard.client.query<{ sum: string }>(
    `SELECT count(*) || ' rows, hash ' || coalesce(sum(hashtextextended(ROW(${columns.join(", ")})::text, 0)), 0) AS sum
     FROM ONLY ${quoteQualified(table.schema, table.name)} t`,
  );
  return result.rows[0]?.sum ?? "";
}

/** R21: our appliers run with session_replication_role = replica, where only these fire. */
function checkTriggers({ tables, scope }: ShardView): readonly Finding[] {
  return tables.flatMap((table) =>
    table.triggers
      .filter(({ enabled, name }) => (enabled === "A" || enabled === "R") && !isOurs(name))
      .map(({ name, enabled }) =>
        withGist(
          warning(
            `${scope} ${displayName(table)}`,
            `trigger ${name} is ENABLE ${enabled === "A" ? "ALWAYS" : "REPLICA"}: it fires for copied and replicated rows too, so its effect happens twice`,
            `ALTER TABLE ${quoteQualified(table.schema, table.name)} ENABLE TRIGGER ${quoteIdentifier(name)};`,
          ),
          {
            text: "ENABLE ALWAYS or REPLICA: they fire for copied and replicated rows too, so their effect happens twice",
            item: `${shortName(table)}.${name}`,
          },
        ),
      ),
  );
}

function isOurs(trigger: string): boolean {
  return trigger.startsWith("sluice_gate_");
}

function checkRules({ tables, scope }: ShardView): readonly Finding[] {
  return tables.flatMap((table) =>
    table.rules.map((rule) =>
      withGist(
        warning(
          `${scope} ${displayName(table)}`,
          `rule ${rule} rewrites statements on this table; the proxy routes what the client wrote`,
          `DROP RULE ${quoteIdentifier(rule)} ON ${quoteQualified(table.schema, table.name)};`,
        ),
        {
          text: "they rewrite statements on their tables; the proxy routes what the client wrote",
          item: `${shortName(table)}.${rule}`,
        },
      ),
    ),
  );
}

/** R25: no trigger fires for what a subscription applies, so the gate could not stop it. */
async function checkSubscriptions(shard: ShardView): Promise<readonly Finding[]> {
  const result = await shard.client.query<{ schema: string; name: string; subscription: string }>(
    `SELECT n.nspname AS schema, c.relname AS name, coalesce(s.subname, r.srsubid::text) AS subscription
     FROM pg_subscription_rel r
     JOIN pg_class c ON c.oid = r.srrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN LATERAL (SELECT subname FROM pg_stat_subscription WHERE subid = r.srsubid LIMIT 1) s ON true
     WHERE c.oid = ANY ($1::oid[]) ORDER BY 1, 2`,
    [shard.tables.map((table) => table.oid)],
  );
  return result.rows.map((row) =>
    failure(
      `${shard.scope} ${displayName(row)}`,
      `subscription ${row.subscription} feeds this table: what it applies passes the gate`,
      `DROP SUBSCRIPTION ${quoteIdentifier(row.subscription)};`,
    ),
  );
}

/** R7: row security hid half a table from copy and verification alike. */
function checkRowSecurity({ tables, scope, client }: ShardView): readonly Finding[] {
  return tables
    .filter((table) => table.isRowSecurityActive)
    .map((table) =>
      failure(
        `${scope} ${displayName(table)}`,
        "row security applies to our role",
        `ALTER ROLE ${quoteIdentifier(client.user ?? "")} BYPASSRLS;`,
      ),
    );
}
