import type { DeleteStmt, InsertStmt, Node, UpdateStmt } from "libpg-query";
import { namesOf, walk } from "../sql/ast.js";
import { Scanner } from "../sql/scanner.js";
import type { Analysis, Plan } from "./analysis.js";
import type { Catalog } from "./catalog.js";
import { outerWords, type Span, textOf } from "./clauses.js";
import type { Route } from "./route.js";

/**
 * A write to an omnisharded table that asks for rows of sharded ones, in subqueries of their own: those are computed
 * once, over all shards, and their rows stand in their place.
 * @returns null: there are none, or they need rows from around them
 */
export function computedSelects(
  analysis: Analysis,
  statement: InsertStmt | UpdateStmt | DeleteStmt,
): Plan | null {
  const { scope, catalog, sql, reader } = analysis;
  if (scope.sharded.length === 0 || statement.withClause !== undefined) return null;
  const selects: Select[] = [];
  walk(statement, (node, tag) => {
    if ("SubLink" in node) {
      const { subselect, location } = node.SubLink;
      selects.push({ node: subselect, span: parenthesized(sql, location ?? 0) });
    }
    return tag !== "SubLink";
  });
  if ("selectStmt" in statement) {
    selects.push({ node: statement.selectStmt, span: inserted(sql, statement) });
  }
  const needed = selects.filter(({ node }) => shardedTables(node, catalog) > 0);
  const count = needed.reduce((sum, { node }) => sum + shardedTables(node, catalog), 0);
  if (count !== scope.sharded.length) return null;
  const spans: Span[] = [];
  for (const { node, span } of needed) {
    if (span === null || isCorrelated(node, catalog)) return null;
    spans.push(span);
  }
  // Where they stand is known for this text alone.
  reader.pinAll();
  const route: Route = {
    kind: "computed",
    selects: spans.sort((one, two) => one.start - two.start),
  };
  return () => route;
}

interface Select {
  readonly node: Node | undefined;
  /** Its text; null: not found. */
  readonly span: Span | null;
}

function shardedTables(select: Node | undefined, catalog: Catalog): number {
  let count = 0;
  walk(select, (node) => {
    if ("RangeVar" in node && catalog.table(node.RangeVar)?.kind === "sharded") count++;
    return true;
  });
  return count;
}

/** Names a column of something that is not in it, or may do so. */
function isCorrelated(select: Node | undefined, catalog: Catalog): boolean {
  const names = new Set<string>();
  const columns = new Set<string>();
  const references: (readonly string[])[] = [];
  walk(select, (node) => {
    if ("RangeVar" in node) {
      const { relname = "", alias } = node.RangeVar;
      names.add(alias?.aliasname ?? relname);
      const facts = catalog.table(node.RangeVar)?.facts;
      for (const { name } of facts?.columns ?? []) columns.add(name);
    }
    if ("RangeSubselect" in node) names.add(node.RangeSubselect.alias?.aliasname ?? "");
    if ("ResTarget" in node && node.ResTarget.name !== undefined) columns.add(node.ResTarget.name);
    if ("ColumnRef" in node) references.push(namesOf(node.ColumnRef.fields));
    return true;
  });
  return references.some((reference) => {
    if (reference.length > 1) return !names.has(reference.at(-2) ?? "");
    const [name = ""] = reference;
    return name !== "*" && !columns.has(name);
  });
}

/** What is in the first parentheses from a place on, which is in bytes. */
function parenthesized(sql: string, location: number): Span | null {
  const from = Buffer.from(sql, "utf8").toString("utf8", 0, location).length;
  const scanner = new Scanner(sql, { from });
  for (let kind = scanner.next(); kind !== "end"; kind = scanner.next()) {
    if (kind !== "symbol" || sql[scanner.start] !== "(") continue;
    const start = scanner.end;
    for (let depth = 1; depth > 0; ) {
      const next = scanner.next();
      if (next === "end") return null;
      if (next !== "symbol") continue;
      if (sql[scanner.start] === "(") depth++;
      else if (sql[scanner.start] === ")") depth--;
    }
    return { start, end: scanner.start };
  }
  return null;
}

/** The SELECT of INSERT ... SELECT. */
function inserted(sql: string, insert: InsertStmt): Span | null {
  if (insert.onConflictClause !== undefined) return null;
  const words = outerWords(sql, ["select", "returning"]);
  const select = words.get("select");
  const end = words.get("returning") ?? words.get("");
  return select && end ? { start: select.start, end: end.start } : null;
}

/** A statement with other texts in the place of its selects. */
export function withTexts(sql: string, spans: readonly Span[], texts: readonly string[]): string {
  let result = "";
  let at = 0;
  for (const [index, span] of spans.entries()) {
    result += `${textOf(sql, { start: at, end: span.start })}${texts[index] ?? ""}`;
    at = span.end;
  }
  return result + sql.slice(at);
}
