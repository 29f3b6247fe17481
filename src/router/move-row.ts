import type { Node, UpdateStmt } from "libpg-query";
import { quoteIdentifier, quoteQualified } from "../core/identifier.js";
import { type ShardId, shardId } from "../topology/topology.js";
import { ANY, type Analysis, type Plan } from "./analysis.js";
import { outerWords, type Span, splitByComma, textOf } from "./clauses.js";
import { NULL_KEY, type StatementValues, shardOfValue, UNKNOWN } from "./key-value.js";
import { Placement } from "./placement.js";
import type { WriteTarget } from "./query.js";
import { Refusal, refused } from "./refusal.js";
import type { Route, RowMove } from "./route.js";
import type { ColumnFacts, TableFacts } from "./schema-facts.js";
import { hasReturning } from "./write-scope.js";

export interface KeyUpdate extends WriteTarget {
  readonly assignedKey: Node;
}

/**
 * UPDATE that assigns the sharding key. Most of them write the value that is there already, as frameworks do that
 * save all columns of a row: it stays where it is, on whatever shard the value belongs to, and `elsewhere` decides
 * about a row that the condition names on another shard.
 */
export function assignedKeyPlan(
  analysis: Analysis,
  { ref, block, assignedKey }: KeyUpdate,
  options: {
    readonly elsewhere: (values: StatementValues, shards: Pick<RowMove, "from" | "to">) => Route;
    readonly several: (shards: readonly ShardId[] | "all", home: ShardId) => Route;
  },
): Plan {
  const { scope, catalog, reader } = analysis;
  const { rule } = ref.table ?? {};
  if (!rule) throw new Refusal("keyUpdate");
  const key = reader.key(assignedKey, rule.dataType);
  if (key === null) throw new Refusal("computedKey", rule.column);
  const placement = new Placement(scope, block);
  const space = { type: rule.dataType, shardCount: catalog.database.shardCount };
  return (values) => {
    const where = placement.resolve(values);
    if (where.kind === "refused") return where.route;
    const to = shardOfValue(key, values, space);
    if (where.kind === "unknown" || to === UNKNOWN) return ANY;
    if (to === NULL_KEY) return refused("nullKey", rule.column);
    if (to < 0) return refused("unreadableKey", rule.column);
    const home = shardId(to);
    if (where.kind === "several") return options.several(where.shards, home);
    if (home === where.shard) return { kind: "one", shard: home, isWrite: true };
    return options.elsewhere(values, { from: where.shard, to: home });
  };
}

/**
 * The row leaves its shard and enters another.
 * @throws Refusal where that cannot be done
 */
export function moveRow(
  update: UpdateStmt,
  { ref }: WriteTarget,
): (values: StatementValues, shards: Pick<RowMove, "from" | "to">) => Route {
  const { facts, name } = ref.table ?? {};
  refuseShape(update);
  if (!facts) throw new Refusal("unknownColumns", name);
  if (facts.hasDeleteActions) throw new Refusal("keyUpdateReferenced", name);
  return (values, shards) => {
    const plan = rowMove(values, facts, shards);
    return plan === null
      ? refused("keyUpdateShape", "this form of SET")
      : { kind: "moveRow", plan };
  };
}

function refuseShape(update: UpdateStmt): void {
  if (update.withClause !== undefined) throw new Refusal("keyUpdateShape", "WITH");
  if ((update.fromClause ?? []).length > 0) throw new Refusal("keyUpdateShape", "FROM");
  if (hasReturning(update)) throw new Refusal("keyUpdateShape", "RETURNING");
  for (const node of update.targetList ?? []) {
    if (!("ResTarget" in node)) continue;
    const { val, indirection } = node.ResTarget;
    if (val !== undefined && "MultiAssignRef" in val) {
      throw new Refusal("keyUpdateShape", "a list of columns assigned at once");
    }
    if (val !== undefined && "SetToDefault" in val) throw new Refusal("keyUpdateShape", "DEFAULT");
    if ((indirection ?? []).length > 0) throw new Refusal("keyUpdateShape", "a part of a column");
  }
}

function rowMove(
  { sql }: StatementValues,
  facts: TableFacts,
  shards: Pick<RowMove, "from" | "to">,
): RowMove | null {
  const words = outerWords(sql, ["update", "set", "where"]);
  const [update, set, where, end] = ["update", "set", "where", ""].map((word) => words.get(word));
  if (!update || !set || !where || !end) return null;
  const assigned = assignments(sql, { start: set.end, end: where.start });
  if (assigned === null) return null;
  const columns = facts.columns.filter((column) => !column.isGenerated);
  const relation = textOf(sql, { start: update.end, end: set.start }).trim();
  const condition = textOf(sql, { start: where.end, end: end.start });
  const outputs = columns.map((column) => newValue(column, assigned));
  const names = columns.map((column) => quoteIdentifier(column.name)).join(", ");
  const places = columns.map((_, index) => `$${index + 1}`).join(", ");
  const table = quoteQualified(facts.schema, facts.name);
  return {
    ...shards,
    // Line ends, as each piece may end in a comment.
    deleteSql: `DELETE FROM ${relation}\nWHERE ${condition}\nRETURNING ${outputs.join(", ")}`,
    insertSql: `INSERT INTO ${table} (${names}) OVERRIDING SYSTEM VALUE VALUES (${places})`,
  };
}

/** As the assignment would have it, so that the text which travels is of the column's own type. */
function newValue(column: ColumnFacts, assigned: ReadonlyMap<string, string>): string {
  const expression = assigned.get(column.name);
  if (expression === undefined) return quoteIdentifier(column.name);
  return `CAST((${expression}\n) AS ${column.type})`;
}

function assignments(sql: string, span: Span): ReadonlyMap<string, string> | null {
  const found = new Map<string, string>();
  for (const part of splitByComma(sql, span)) {
    const match = /^\s*([^\s="]+|"(?:[^"]|"")+")\s*=(.*)$/s.exec(textOf(sql, part));
    if (match === null) return null;
    const [, name = "", expression = ""] = match;
    found.set(columnName(name), expression.trim());
  }
  return found;
}

function columnName(written: string): string {
  return written.startsWith('"')
    ? written.slice(1, -1).replaceAll('""', '"')
    : written.toLowerCase();
}
