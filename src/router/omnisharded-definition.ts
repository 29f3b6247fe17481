import type { AlterTableStmt, ColumnDef, CreateStmt, CreateTableAsStmt, Node } from "libpg-query";
import { quoteIdentifier, quoteQualified } from "../core/identifier.js";
import { rowGuardTriggers } from "../core/row-guard.js";
import { lastName, walk } from "../sql/ast.js";
import { matchShardedTable } from "../topology/match.js";
import { type Analysis, everywhere, type Plan } from "./analysis.js";
import type { Catalog } from "./catalog.js";
import { outputsOf } from "./outputs.js";
import { addSelect } from "./query.js";
import { Refusal } from "./refusal.js";
import { keyedUpdateOf, rowsOf, wholeRowsOf } from "./replay-sql.js";
import type { Route } from "./route.js";
import { refuseUnsteady, UNSTEADY_TYPE } from "./steadiness.js";

/**
 * ALTER TABLE that makes values for rows that are there (ADD COLUMN .. DEFAULT gen_random_uuid()): every shard does
 * it, then the first one's values are put in the place of the others'.
 * @returns null: it makes none, or the same everywhere
 */
export function alterTablePlan(analysis: Analysis, alter: AlterTableStmt): Plan | null {
  const columns = (alter.cmds ?? []).flatMap((node) => {
    if (!("AlterTableCmd" in node)) return [];
    const { subtype, def, name } = node.AlterTableCmd;
    if (def === undefined || !("ColumnDef" in def)) return [];
    const column = def.ColumnDef;
    if (subtype === "AT_AddColumn")
      return isUnsteadyColumn(analysis, column) ? [column.colname ?? ""] : [];
    const isComputed = subtype === "AT_AlterColumnType" && isUnsteady(analysis, column.raw_default);
    return isComputed ? [name ?? ""] : [];
  });
  if (columns.length === 0) return null;
  const table = analysis.catalog.declared(alter.relation ?? {});
  if (table === null) throw new Refusal("ambiguousTable", alter.relation?.relname);
  if (table.kind !== "omnisharded") return null;
  const { facts } = table;
  const key = facts?.keyColumns ?? [];
  if (facts === null || key.length === 0 || columns.some((column) => key.includes(column))) {
    throw new Refusal("omnishardedDefault", `"${columns[0]}"`);
  }
  const [trigger] = facts.triggers;
  if (trigger !== undefined && !facts.isGuarded) {
    throw new Refusal("omnishardedUnguarded", `"${trigger.name}" of "${facts.name}"`);
  }
  const name = quoteQualified(facts.schema, facts.name);
  const route: Route = {
    kind: "replayed",
    plan: {
      kind: "defined",
      afterSql: null,
      rows: {
        table: facts.name,
        emptySql: null,
        ownerSql: rowsOf(name),
        replay: keyedUpdateOf(name, key, columns),
        isGuarded: trigger !== undefined,
      },
    },
  };
  return () => route;
}

function isUnsteadyColumn(analysis: Analysis, column: ColumnDef): boolean {
  if (/^(small|big)?serial[248]?$/.test(lastName(column.typeName?.names))) return true;
  return (column.constraints ?? []).some((node) => {
    if (!("Constraint" in node)) return false;
    const { contype, raw_expr: expression } = node.Constraint;
    if (contype === "CONSTR_IDENTITY") return true;
    if (contype !== "CONSTR_DEFAULT") return false;
    // 'now' is a constant of these.
    const isOfTime = UNSTEADY_TYPE.test(lastName(column.typeName?.names));
    return isOfTime || isUnsteady(analysis, expression);
  });
}

function isUnsteady({ catalog }: Analysis, expression: Node | undefined): boolean {
  let found = false;
  walk(expression, (node) => {
    if ("SQLValueFunction" in node || "SubLink" in node) found = true;
    if ("FuncCall" in node) {
      const facts = catalog.facts?.functions.get(lastName(node.FuncCall.funcname));
      found ||= facts?.volatility !== "immutable";
    }
    return !found;
  });
  return found;
}

/** CREATE TABLE AS and materialized views, of what all shards have. */
export function derivedTablePlan(
  analysis: Analysis,
  { query, into, objtype }: CreateTableAsStmt,
): Plan {
  const { scope, catalog } = analysis;
  if (query === undefined || !("SelectStmt" in query))
    throw new Refusal("unsupported", "CREATE TABLE AS EXECUTE");
  const select = query.SelectStmt;
  const block = addSelect(scope, select, null);
  const rules = catalog.database.shardedTables;
  const outputs = outputsOf(select, block, scope) ?? [];
  const isSharded = outputs.some(({ name }) =>
    rules.some(
      (rule) => rule.column === name && (rule.name ?? into?.rel?.relname) === into?.rel?.relname,
    ),
  );
  if (scope.sharded.length > 0 || isSharded) throw new Refusal("crossShardInto");
  if (objtype === "OBJECT_MATVIEW") {
    refuseUnsteady(scope, into?.rel?.relname ?? "");
    return () => everywhere(true);
  }
  const other = scope.calls.find(({ nature }) => nature === "unknown" || nature === "setting");
  if (other !== undefined)
    throw new Refusal("omnishardedCall", `${lastName(other.call.funcname)}()`);
  const { schemaname, relname = "" } = into?.rel ?? {};
  const name =
    schemaname === undefined ? quoteIdentifier(relname) : quoteQualified(schemaname, relname);
  const route: Route = {
    kind: "replayed",
    plan: {
      kind: "defined",
      afterSql: hasGuards(catalog) ? guardSql([name]) : null,
      rows: {
        table: relname,
        emptySql: `TRUNCATE ${name}`,
        ownerSql: rowsOf(name),
        replay: wholeRowsOf(name),
        isGuarded: false,
      },
    },
  };
  return () => route;
}

/**
 * Where tables have guards, those that are made later get them with the same statement.
 * @returns null: this one needs none
 */
export function guardedTablePlan({ catalog }: Analysis, create: CreateStmt): Plan | null {
  const { relation, tableElts, partbound, inhRelations } = create;
  const name = relation?.relname ?? "";
  const columns = (tableElts ?? []).flatMap((node) =>
    "ColumnDef" in node ? [node.ColumnDef.colname ?? ""] : [],
  );
  // Columns of other tables are not known here, and partitions inherit triggers.
  const isPlain = (tableElts ?? []).every((node) => "ColumnDef" in node || "Constraint" in node);
  const isChild = partbound !== undefined || (inhRelations ?? []).length > 0;
  if (!hasGuards(catalog) || !isPlain || isChild || relation?.relpersistence === "t") return null;
  const schema = relation?.schemaname ?? null;
  if (matchShardedTable(catalog.database, { schema, name }, columns) !== null) return null;
  return behind(guardSql([schema === null ? quoteIdentifier(name) : quoteQualified(schema, name)]));
}

/** A trigger may write any table, so with the first one all that are the same everywhere get their guards. */
export function guardedTriggerPlan({ catalog }: Analysis): Plan | null {
  if (catalog.facts?.hasGuardFunctions !== true) return null;
  const tables = [...catalog.omnishardedTables()].filter(
    ({ isGuarded, sources }) => !isGuarded && sources.length === 0,
  );
  if (tables.length === 0) return null;
  return behind(guardSql(tables.map(({ schema, name }) => quoteQualified(schema, name))));
}

function behind(afterSql: string): Plan {
  const route: Route = { kind: "replayed", plan: { kind: "defined", afterSql, rows: null } };
  return () => route;
}

function hasGuards(catalog: Catalog): boolean {
  if (catalog.facts?.hasGuardFunctions !== true) return false;
  return [...catalog.omnishardedTables()].some(({ isGuarded }) => isGuarded);
}

function guardSql(tables: readonly string[]): string {
  return tables.flatMap((table) => rowGuardTriggers(table)).join(";\n");
}
