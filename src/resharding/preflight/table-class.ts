import type { Cluster, ShardedTableRule } from "../context.js";
import type { TableFacts } from "./catalog-facts.js";

/** How a cluster's rules treat a table. */
export type TableClass =
  | {
      readonly kind: "sharded";
      readonly column: string;
      readonly type: ShardedTableRule["dataType"];
    }
  | { readonly kind: "omnisharded" };

type Named = Pick<TableFacts, "schema" | "name" | "rootSchema" | "rootName"> & {
  readonly columns: readonly Pick<TableFacts["columns"][number], "name">[];
};

/**
 * A rule that names the table wins over one that only names a column; a table that no rule matches is
 * omnisharded. Statements name the root of a partitioned table, so a rule for the root holds for its leaves.
 * A rule's table counts as matched even when it lacks the column: preflight says so, and nothing is guessed.
 */
export function classify(cluster: Cluster, table: Named): TableClass {
  const named = cluster.shardedTables.find((rule) => namesTable(rule, table));
  if (named) return { kind: "sharded", column: named.column, type: named.dataType };
  if (cluster.omnishardedTables.some((name) => isListed(name, table)))
    return { kind: "omnisharded" };
  const byColumn = cluster.shardedTables.find(
    (rule) =>
      rule.name === null &&
      matchesSchema(rule, table.schema) &&
      table.columns.some((column) => column.name === rule.column),
  );
  return byColumn
    ? { kind: "sharded", column: byColumn.column, type: byColumn.dataType }
    : { kind: "omnisharded" };
}

function namesTable(rule: ShardedTableRule, table: Named): boolean {
  if (rule.name === null) return false;
  if (rule.name === table.name && matchesSchema(rule, table.schema)) return true;
  return rule.name === table.rootName && matchesSchema(rule, table.rootSchema ?? "");
}

function matchesSchema(rule: ShardedTableRule, schema: string): boolean {
  return rule.schema === null || rule.schema === schema;
}

function isListed(listed: string, table: Named): boolean {
  return [
    table.name,
    `${table.schema}.${table.name}`,
    table.rootName,
    `${table.rootSchema}.${table.rootName}`,
  ].includes(listed);
}
