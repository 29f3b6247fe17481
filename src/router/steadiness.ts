import { lastName, namesOf, walk } from "../sql/ast.js";
import { parse } from "../sql/parser.js";
import type { Catalog } from "./catalog.js";
import { natureOf } from "./functions.js";
import { Refusal } from "./refusal.js";
import type { ColumnFacts, TriggerFacts } from "./schema-facts.js";
import type { Scope } from "./scope.js";

/**
 * A write to an omnisharded table runs on every shard and must do the same there.
 * @throws Refusal naming what would not
 */
export function refuseUnsteady(scope: Scope, table: string): void {
  if (scope.sharded.length > 0) throw new Refusal("omnishardedFromSharded", table);
  if (scope.readsUser) throw new Refusal("omnishardedFunction", "CURRENT_USER");
  if (scope.readsClock) throw new Refusal("omnishardedFunction", "CURRENT_TIMESTAMP");
  if (scope.hasInnerLimit) throw new Refusal("omnishardedFunction", "LIMIT in a subquery");
  for (const { call, nature } of scope.calls) {
    if (nature !== "steady" && nature !== "aggregate") {
      throw new Refusal("omnishardedFunction", `${lastName(call.funcname)}()`);
    }
  }
}

/** The same for the defaults of columns that an INSERT leaves out. */
export function refuseUnsteadyDefault(column: ColumnFacts, catalog: Catalog): void {
  if (hasUnsteadyDefault(column, catalog)) {
    throw new Refusal("omnishardedDefault", `"${column.name}"`);
  }
}

export function hasUnsteadyDefault(column: ColumnFacts, catalog: Catalog): boolean {
  if (column.isIdentity || column.hasOtherDefault === true) return true;
  return hasUnsteadyCall(column.defaultSql, catalog);
}

function hasUnsteadyCall(defaultSql: string | null, catalog: Catalog): boolean {
  if (defaultSql === null) return false;
  const parsed = parse(`SELECT ${defaultSql}`);
  if (parsed.kind !== "parsed") return true;
  let isUnsteady = false;
  walk(parsed.statements, (node) => {
    if ("SQLValueFunction" in node) {
      isUnsteady = true;
    }
    if ("FuncCall" in node) {
      const names = namesOf(node.FuncCall.funcname);
      const isQualified = names.length > 1 && names[0] !== "pg_catalog";
      isUnsteady ||= natureOf(names.at(-1) ?? "", isQualified, catalog.facts) !== "steady";
    }
    return true;
  });
  return isUnsteady;
}

/** Types whose input reads the clock ('now', 'today') or the catalog. */
export const UNSTEADY_TYPE = /^(date|time|reg|"?[a-z_]+"?\.)/;

const TOUCHES_TABLES =
  /\b(select|insert|update|delete|merge|perform|execute|call|copy|truncate|notify|import|do|lock)\b/i;
const CALLS = /([a-z_][\w$.]*)\s*\(/gi;
const KEYWORDS = new Set([
  "if",
  "elsif",
  "and",
  "or",
  "not",
  "in",
  "when",
  "then",
  "else",
  "row",
  "return",
]);

/**
 * Whether a trigger makes something of its row and touches nothing else. Read from its source, so every word that
 * could be a statement, be it in a comment, makes it one that does.
 */
export function isPlainTrigger({ source }: TriggerFacts, catalog: Catalog): boolean {
  if (source === null || TOUCHES_TABLES.test(source)) return false;
  for (const [, name = ""] of source.matchAll(CALLS)) {
    if (KEYWORDS.has(name.toLowerCase())) continue;
    const facts = catalog.facts?.functions.get(name.toLowerCase().replace(/^pg_catalog\./, ""));
    if (facts?.isBuiltIn !== true || natureOf(facts.name, false, catalog.facts) === "unknown") {
      return false;
    }
  }
  return true;
}
