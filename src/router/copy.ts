import type { CopyStmt, Node } from "libpg-query";
import { quoteIdentifier } from "../core/identifier.js";
import type { ShardedTable } from "../topology/topology.js";
import { type Analysis, onShards, type Plan } from "./analysis.js";
import type { Catalog, RoutedTable } from "./catalog.js";
import { withFirstColumn } from "./insert-text.js";
import { keyDefault } from "./key-default.js";
import { omnishardedCopy } from "./omnisharded-copy.js";
import { Refusal, refused } from "./refusal.js";
import type { CopyInPlan, Route } from "./route.js";
import type { ColumnFacts } from "./schema-facts.js";
import { selectPlan } from "./select.js";
import { hasUnsteadyDefault } from "./steadiness.js";

interface CopyOptions {
  readonly format: CopyInPlan["format"];
  readonly texts: ReadonlyMap<string, string>;
}

export function copyPlan(analysis: Analysis, copy: CopyStmt): Plan {
  // Options are constants, too, and say how the data is read.
  analysis.reader.pinAll();
  if (copy.filename !== undefined || copy.is_program === true) throw new Refusal("copyServer");
  const options = copyOptions(copy.options ?? []);
  return copy.is_from === true
    ? copyFrom(analysis, copy, options)
    : copyTo(analysis, copy, options);
}

function copyFrom(analysis: Analysis, copy: CopyStmt, options: CopyOptions): Plan {
  const table = analysis.catalog.table(copy.relation ?? {});
  if (table === null) throw new Refusal("ambiguousTable", copy.relation?.relname);
  const { rule, facts, name } = table;
  const plan = { ...formatOf(options), keyColumn: -1, keyType: "bigint" as const, drawn: null };
  const listed = (copy.attlist ?? []).map((node) =>
    "String" in node ? (node.String.sval ?? "") : "",
  );
  if (rule === null) {
    const isMore = copy.whereClause !== undefined || options.texts.has("default");
    const what = unsteadyPart(analysis.catalog, table, { listed, isMore });
    if (what !== null && facts?.isTable !== true) throw new Refusal("omnishardedCopy", what);
    if (what !== null && facts !== null)
      return omnishardedCopy(analysis.catalog, {
        ...{ facts, data: plan, listed, where: copy.whereClause },
        ...{ alias: copy.relation?.relname ?? "", options: options.texts },
      });
    const route: Route = { kind: "copyIn", plan };
    return () => route;
  }
  // Without a list a copy has every column but the generated ones, in the order of the table.
  const columns =
    listed.length > 0
      ? listed
      : facts?.columns.filter((column) => !column.isGenerated).map((column) => column.name);
  if (columns === undefined) throw new Refusal("unknownColumns", name);
  const keyColumn = columns.indexOf(rule.column);
  if (options.texts.has("encoding")) throw new Refusal("copyFormat", "with ENCODING");
  // A value in the place of the key could mean: its default.
  if (options.texts.has("default")) throw new Refusal("copyFormat", "with DEFAULT");
  if (keyColumn < 0)
    return keylessCopy(analysis, { rule, facts, listed }, { ...plan, keyType: rule.dataType });
  const route: Route = { kind: "copyIn", plan: { ...plan, keyColumn, keyType: rule.dataType } };
  return () => route;
}

/** The key's column is left to its default: its values are drawn, a batch of rows at a time. */
function keylessCopy(
  { catalog }: Analysis,
  {
    rule,
    facts,
    listed,
  }: Pick<RoutedTable, "facts"> & {
    readonly rule: ShardedTable;
    readonly listed: readonly string[];
  },
  plan: CopyInPlan,
): Plan {
  const column = facts?.columns.find(({ name }) => name === rule.column);
  const key = column === undefined ? null : keyDefault(column, catalog);
  if (column === undefined || key === null) throw new Refusal("copyKey", rule.column);
  const columns = [column.name, ...listed];
  return ({ sql: text }) => {
    const sql = withFirstColumn(text, quoteIdentifier(column.name));
    if (sql === null) return refused("copyKey", rule.column);
    return { kind: "copyIn", plan: { ...plan, drawn: { key, columns, sql } } };
  };
}

/** What the data does not say of the rows, which every shard could read else; null: nothing. */
function unsteadyPart(
  catalog: Catalog,
  { facts, name, kind }: RoutedTable,
  { listed, isMore }: { readonly listed: readonly string[]; readonly isMore: boolean },
): string | null {
  if (facts === null || kind === "system") return null;
  const isGiven = (column: ColumnFacts) =>
    column.isGenerated || listed.length === 0 || listed.includes(column.name);
  const missing = facts.columns.find(
    (column) => !isGiven(column) && hasUnsteadyDefault(column, catalog),
  );
  if (missing !== undefined) return `column "${missing.name}"`;
  const [trigger] = facts.triggers;
  if (trigger !== undefined) return `trigger "${trigger.name}"`;
  return isMore ? `WHERE or DEFAULT of COPY into "${name}"` : null;
}

function copyTo(analysis: Analysis, copy: CopyStmt, options: CopyOptions): Plan {
  const { query } = copy;
  if (query !== undefined) return copyQuery(analysis, query, options);
  const table = analysis.catalog.table(copy.relation ?? {});
  if (table === null) throw new Refusal("ambiguousTable", copy.relation?.relname);
  if (table.rule === null) return () => ({ kind: "any" });
  refuseFrames(options);
  return () => onShards("all", false);
}

function copyQuery(analysis: Analysis, query: Node, options: CopyOptions): Plan {
  if (!("SelectStmt" in query)) throw new Refusal("copyFormat", "of a query that writes");
  const plan = selectPlan(analysis, query.SelectStmt);
  return (values) => {
    const route = plan(values);
    if (route.kind !== "many" || route.rows === "first") return route;
    const { orderBy, aggregates, limit, offset } = route.merge;
    const isPlain = orderBy.length === 0 && aggregates === null && limit === null && offset === 0;
    if (!isPlain)
      return new Refusal("copyFormat", "of a query with ORDER BY, LIMIT or aggregates").route;
    try {
      refuseFrames(options);
    } catch (error) {
      if (error instanceof Refusal) return error.route;
      throw error;
    }
    return { ...route, rewrittenSql: null };
  };
}

/** Each shard would send its own header. */
function refuseFrames({ texts }: CopyOptions): void {
  if (isOn(texts.get("header"))) throw new Refusal("copyFormat", "with HEADER");
}

function copyOptions(nodes: readonly Node[]): CopyOptions {
  const texts = new Map<string, string>();
  for (const node of nodes) {
    if (!("DefElem" in node)) continue;
    texts.set(node.DefElem.defname ?? "", optionText(node.DefElem.arg));
  }
  const format = texts.get("format") ?? "text";
  if (format !== "text" && format !== "csv" && format !== "binary") {
    throw new Refusal("copyFormat", `in format ${format}`);
  }
  return { format, texts };
}

function optionText(node: Node | undefined): string {
  if (node === undefined) return "true";
  if ("String" in node) return node.String.sval ?? "";
  if ("Boolean" in node) return node.Boolean.boolval === true ? "true" : "false";
  if ("Integer" in node) return String(node.Integer.ival ?? 0);
  return "true";
}

function isOn(text: string | undefined): boolean {
  return text !== undefined && !/^(false|off|0|no|f|n)$/i.test(text);
}

function formatOf({
  format,
  texts,
}: CopyOptions): Omit<CopyInPlan, "keyColumn" | "keyType" | "drawn"> {
  const isCsv = format === "csv";
  const quote = texts.get("quote") ?? '"';
  return {
    format,
    delimiter: texts.get("delimiter") ?? (isCsv ? "," : "\t"),
    nullText: texts.get("null") ?? (isCsv ? "" : "\\N"),
    quote,
    escape: texts.get("escape") ?? quote,
    hasHeader: isOn(texts.get("header")),
  };
}
