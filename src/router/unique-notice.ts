import type { Constraint, Node } from "libpg-query";
import { namesOf } from "../sql/ast.js";
import { matchShardedTable } from "../topology/match.js";
import type { Analysis } from "./analysis.js";
import type { RouteNotice } from "./route.js";

/** A table as a statement defines it or adds to it. */
interface Defined {
  readonly name: string;
  /** Its sharding key; null: the same rows on every shard. */
  readonly key: string | null;
  readonly uniques: readonly Unique[];
}

interface Unique {
  readonly what: string;
  readonly columns: readonly string[];
}

/**
 * What to tell whoever makes a unique key, an index or a constraint, that lacks the sharding key: every framework's
 * migrations do, and each shard can see to its own rows only.
 * @returns null: nothing
 */
export function uniqueNotice(analysis: Analysis, node: Node): RouteNotice | null {
  const defined = definedBy(analysis, node);
  if (defined === null || defined.key === null) return null;
  const { name, key, uniques } = defined;
  const [without] = uniques.filter(({ columns }) => !columns.includes(key));
  if (without === undefined) return null;
  return {
    message: `${without.what} on "${name}" does not have the sharding key "${key}": each shard sees to its own rows`,
    hint: "Values from a sequence and random uuids are never equal on two shards. Of others two shards may each have the same one.",
  };
}

function definedBy({ catalog }: Analysis, node: Node): Defined | null {
  if ("CreateStmt" in node) {
    const { relation, tableElts = [] } = node.CreateStmt;
    const table = { schema: relation?.schemaname ?? null, name: relation?.relname ?? "" };
    const columns = tableElts.flatMap((element) =>
      "ColumnDef" in element ? [element.ColumnDef.colname ?? ""] : [],
    );
    const key = matchShardedTable(catalog.database, table, columns)?.column ?? null;
    return { name: table.name, key, uniques: tableElts.flatMap(uniquesOf) };
  }
  if ("IndexStmt" in node) {
    const { relation, unique, indexParams = [] } = node.IndexStmt;
    const columns = indexParams.flatMap((param) =>
      "IndexElem" in param ? [param.IndexElem.name ?? ""] : [],
    );
    return {
      name: relation?.relname ?? "",
      key: catalog.declared(relation ?? {})?.rule?.column ?? null,
      uniques: unique === true ? [{ what: "a unique index", columns }] : [],
    };
  }
  if (!("AlterTableStmt" in node)) return null;
  const { relation, cmds = [] } = node.AlterTableStmt;
  const added = cmds.flatMap((command) => {
    const def = "AlterTableCmd" in command ? command.AlterTableCmd.def : undefined;
    return def === undefined ? [] : uniquesOf(def);
  });
  const key = catalog.declared(relation ?? {})?.rule?.column ?? null;
  return { name: relation?.relname ?? "", key, uniques: added };
}

/** Of a column's definition, or a constraint of its own. */
function uniquesOf(node: Node): readonly Unique[] {
  if ("Constraint" in node) return uniqueOf(node.Constraint, null);
  if (!("ColumnDef" in node)) return [];
  const { colname = "", constraints = [] } = node.ColumnDef;
  return constraints.flatMap((one) =>
    "Constraint" in one ? uniqueOf(one.Constraint, colname) : [],
  );
}

function uniqueOf({ contype, keys, indexname }: Constraint, column: string | null): Unique[] {
  // What an index that is there already is made of has been said when it was made.
  if (indexname !== undefined) return [];
  const columns = column === null ? namesOf(keys) : [column];
  if (contype === "CONSTR_PRIMARY") return [{ what: "the primary key", columns }];
  return contype === "CONSTR_UNIQUE" ? [{ what: "a unique constraint", columns }] : [];
}
