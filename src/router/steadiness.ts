import { lastName, namesOf, walk } from "../sql/ast.js";
import { parse } from "../sql/parser.js";
import type { Catalog } from "./catalog.js";
import { natureOf } from "./functions.js";
import { Refusal } from "./refusal.js";
import type { ColumnFacts } from "./schema-facts.js";
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
  return column.isIdentity || hasUnsteadyCall(column.defaultSql, catalog);
}

function hasUnsteadyCall(defaultSql: string | null, catalog: Catalog): boolean {
  if (defaultSql === null) return false;
  const parsed = parse(`SELECT ${defaultSql}`);
  if (parsed.kind === "malformed") return true;
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
