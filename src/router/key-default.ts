import { lastName, namesOf, walk } from "../sql/ast.js";
import { parse } from "../sql/parser.js";
import type { Catalog } from "./catalog.js";
import type { KeyDefault } from "./route.js";
import type { ColumnFacts } from "./schema-facts.js";

/** PostgreSQL's own and its extensions', whose values are as good from any session. */
const BOUND_NOWHERE =
  /^(nextval|gen_random_uuid|uuidv4|uuidv7|uuid_generate_v(1|1mc|4)|random|gen_random_bytes|clock_timestamp)$/;

type Binding = KeyDefault["binding"];

/** What a statement that leaves a column out gets for it; null: no default, or one that only the row can give. */
export function keyDefault(column: ColumnFacts, catalog: Catalog): KeyDefault | null {
  if (column.isGenerated || column.defaultSql === null) return null;
  return {
    // A line end, as the expression's text may be anything.
    sql: `CAST((${column.defaultSql}\n) AS ${column.type})`,
    binding: bindingOf(column.defaultSql, catalog),
  };
}

function bindingOf(sql: string, catalog: Catalog): Binding {
  const parsed = parse(`SELECT ${sql}`);
  if (parsed.kind !== "parsed") return "counter";
  let binding = "nowhere" as Binding;
  const called = new Set<string>();
  const atLeast = (other: Binding) => {
    if (binding !== "counter" && other !== "nowhere") binding = other;
  };
  walk(parsed.statements, (node) => {
    if ("SQLValueFunction" in node) atLeast("transaction");
    if ("FuncCall" in node) {
      const names = namesOf(node.FuncCall.funcname);
      called.add(names.at(-1) ?? "");
      const isQualified = names.length > 1 && names[0] !== "pg_catalog";
      atLeast(callBinding(lastName(node.FuncCall.funcname), isQualified, catalog));
    }
    return true;
  });
  // A sequence is asked on the first shard, wherever else the rest could be.
  return called.has("nextval") && binding !== "nowhere" ? "counter" : binding;
}

function callBinding(name: string, isQualified: boolean, { facts }: Catalog): Binding {
  // Those of extensions are in a schema of the application.
  if (BOUND_NOWHERE.test(name) && (!isQualified || /^(uuid_generate|gen_random)/.test(name)))
    return "nowhere";
  const known = facts?.functions.get(name);
  if (known === undefined) return "counter";
  if (known.volatility === "immutable") return "nowhere";
  return known.isBuiltIn && !isQualified ? "transaction" : "counter";
}
