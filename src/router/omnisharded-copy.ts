import type { Node } from "libpg-query";
import { lastName, namesOf, walk } from "../sql/ast.js";
import type { Plan } from "./analysis.js";
import type { Catalog } from "./catalog.js";
import { outerWords } from "./clauses.js";
import { natureOf } from "./functions.js";
import { replayedInsert } from "./omnisharded.js";
import { Refusal } from "./refusal.js";
import { type CopiedInsert, copiedInsertOf } from "./replay-sql.js";
import type { CopyInPlan } from "./route.js";
import type { TableFacts } from "./schema-facts.js";

/** COPY ... FROM STDIN into an omnisharded table whose rows are not all in the data. */
export interface OmnishardedCopy {
  readonly facts: TableFacts;
  readonly data: CopyInPlan;
  /** Of the statement's list; empty: it has none. */
  readonly listed: readonly string[];
  readonly where: Node | undefined;
  /** What the statement's condition calls the table. */
  readonly alias: string;
  /** Names and texts. */
  readonly options: ReadonlyMap<string, string>;
}

/** What the rows are read by here; of anything else PostgreSQL would have to say what it does. */
const READ_OPTIONS = /^(format|delimiter|null|quote|escape|header)$/;
const PLAIN_HEADER = /^(true|on|1|yes|y|t|false|off|0|no|n|f)$/i;

/**
 * The data is read here and becomes an INSERT of rows, a batch at a time, which is brought to the other shards as any
 * is. The server's own COPY would have to go into a temporary table first: a transaction that has touched one cannot
 * be prepared, and not every role may make one.
 * @throws Refusal
 */
export function omnishardedCopy(catalog: Catalog, copy: OmnishardedCopy): Plan {
  const { facts, data, listed, where, alias, options } = copy;
  const [other] = [...options.keys()].filter((name) => !READ_OPTIONS.test(name));
  if (other !== undefined) throw new Refusal("omnishardedCopy", other.toUpperCase());
  if (data.format === "binary") throw new Refusal("omnishardedCopy", "FORMAT binary");
  const header = options.get("header");
  if (header !== undefined && !PLAIN_HEADER.test(header))
    throw new Refusal("omnishardedCopy", `HEADER ${header}`);
  const columns =
    listed.length > 0
      ? listed
      : facts.columns.filter(({ isGenerated }) => !isGenerated).map(({ name }) => name);
  if (where !== undefined) refuseCondition(catalog, where, columns);
  const places = facts.columns.map(({ name }) => {
    const place = columns.indexOf(name);
    return place < 0 ? null : place;
  });
  return ({ sql }) => {
    const insert: CopiedInsert = {
      alias,
      columns,
      condition: where === undefined ? null : conditionOf(sql),
    };
    const insertSql = copiedInsertOf(facts, insert, "$1");
    const emptySql = copiedInsertOf(facts, insert, "'{}'");
    const replay = replayedInsert(catalog, facts, insertSql);
    return {
      kind: "replayed",
      plan: {
        ...{ kind: "copied", hasReturning: false, table: facts.name },
        ...{ data, columns, places, insertSql, emptySql, replay },
      },
    };
  };
}

/** It is asked of the row as it was sent: defaults are not in it yet, and nothing else may be read. */
function refuseCondition(catalog: Catalog, where: Node, given: readonly string[]): void {
  walk(where, (node, tag) => {
    if (tag === "SubLink") throw new Refusal("omnishardedCopy", "a subquery in WHERE");
    if ("FuncCall" in node) {
      const name = lastName(node.FuncCall.funcname);
      const nature = natureOf(name, false, catalog.facts);
      if (nature === "unknown" || nature === "setting")
        throw new Refusal("omnishardedCall", `${name}()`);
    }
    if ("ColumnRef" in node) {
      const names = namesOf(node.ColumnRef.fields);
      const isGiven = names.length <= 2 && given.includes(names.at(-1) ?? "");
      if (!isGiven) throw new Refusal("omnishardedCopy", `${names.join(".")} in WHERE`);
    }
    return true;
  });
}

function conditionOf(sql: string): string {
  const words = outerWords(sql, ["where"]);
  return sql.slice(words.get("where")?.end ?? sql.length, words.get("")?.start);
}
