import type { AlterTableStmt, CreateStmt, RangeVar } from "libpg-query";
import { quoteIdentifier, quoteLiteral, quoteQualified } from "../core/identifier.js";
import { PLACEMENT_GUARD } from "../core/placement-guard.js";
import { KEY_TYPES_OF } from "../topology/key-column.js";
import { matchShardedTable } from "../topology/match.js";
import { placementSql } from "../topology/placement-guard.js";
import type { ShardedTable } from "../topology/topology.js";
import type { Analysis, Plan } from "./analysis.js";
import type { Route, RouteNotice } from "./route.js";

/**
 * CREATE TABLE of a sharded table: it gets its placement guard with the same statement, on each shard its own. One
 * that is made like a sharded table and is none itself does not keep the other's.
 * @returns null: nothing is to be done beside it
 */
export function placedTablePlan(
  { catalog }: Analysis,
  create: CreateStmt,
  notice: RouteNotice | null,
): Plan | null {
  const { relation, tableElts = [], partbound } = create;
  const { database } = catalog;
  // Partitions inherit.
  if (!database.placementGuard || partbound !== undefined || relation?.relpersistence === "t")
    return null;
  const columns = tableElts.flatMap((node) =>
    "ColumnDef" in node ? [node.ColumnDef.colname ?? ""] : [],
  );
  const table = { schema: relation?.schemaname ?? null, name: relation?.relname ?? "" };
  const like = tableElts.flatMap((node) =>
    "TableLikeClause" in node ? [node.TableLikeClause.relation ?? {}] : [],
  );
  const taken = [...like, ...parentsOf(create)].flatMap(
    (range) => catalog.declared(range)?.facts?.columns.map(({ name }) => name) ?? [],
  );
  const rule = matchShardedTable(database, table, [...columns, ...taken]);
  const name = nameOf(relation);
  if (rule === null) {
    const copies = `ALTER TABLE ${name} DROP CONSTRAINT IF EXISTS ${PLACEMENT_GUARD}`;
    return like.length === 0 ? null : defined({ beforeSql: null, afterSql: copies, notice });
  }
  const afterSql = Array.from({ length: database.shardCount }, (_, shard) =>
    guardSql(name, rule, { shard, shardCount: database.shardCount }),
  );
  return defined({ beforeSql: null, afterSql, notice });
}

/** ATTACH PARTITION wants every CHECK of the parent on the table that is attached. */
export function placedAttachPlan({ catalog }: Analysis, alter: AlterTableStmt): Plan | null {
  const attached = (alter.cmds ?? []).flatMap((node) => {
    if (!("AlterTableCmd" in node) || node.AlterTableCmd.subtype !== "AT_AttachPartition")
      return [];
    const { def } = node.AlterTableCmd;
    return def !== undefined && "PartitionCmd" in def ? [def.PartitionCmd.name ?? {}] : [];
  });
  const [child] = attached;
  if (child === undefined || alter.objtype !== "OBJECT_TABLE") return null;
  if (catalog.declared(alter.relation ?? {})?.kind !== "sharded") return null;
  const beforeSql = copySql(nameOf(alter.relation), nameOf(child));
  return defined({ beforeSql, afterSql: null, notice: null });
}

function parentsOf({ inhRelations = [] }: CreateStmt): readonly RangeVar[] {
  return inhRelations.flatMap((node) => ("RangeVar" in node ? [node.RangeVar] : []));
}

function nameOf(range: RangeVar | undefined): string {
  const { schemaname, relname = "" } = range ?? {};
  return schemaname === undefined ? quoteIdentifier(relname) : quoteQualified(schemaname, relname);
}

interface Beside {
  readonly beforeSql: string | null;
  readonly afterSql: string | readonly string[] | null;
  readonly notice: RouteNotice | null;
}

function defined({ beforeSql, afterSql, notice }: Beside): Plan {
  const plan = { kind: "defined", beforeSql, afterSql, rows: null } as const;
  const route: Route = { kind: "replayed", plan, ...(notice && { notice }) };
  return () => route;
}

/** A table that IF NOT EXISTS found, with rows or a guard, is left as it is; one without the key, or with another type, too. */
function guardSql(
  table: string,
  rule: ShardedTable,
  place: { readonly shard: number; readonly shardCount: number },
): string {
  const types = KEY_TYPES_OF[rule.dataType].map(quoteLiteral).join(", ");
  const condition = placementSql(quoteIdentifier(rule.column), rule, place);
  return block(`
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
      WHERE a.attrelid = ${quoteLiteral(table)}::pg_catalog.regclass AND a.attname = ${quoteLiteral(rule.column)}
        AND NOT a.attisdropped AND (y.typtype = 'd' OR pg_catalog.format_type(y.oid, NULL) IN (${types})))
    OR EXISTS (SELECT FROM pg_catalog.pg_constraint
      WHERE conrelid = ${quoteLiteral(table)}::pg_catalog.regclass AND conname = '${PLACEMENT_GUARD}')
    OR EXISTS (SELECT FROM ${table})
  THEN RETURN; END IF;
  ALTER TABLE ${table} ADD CONSTRAINT ${PLACEMENT_GUARD} CHECK (${condition});`);
}

function copySql(parent: string, child: string): string {
  return block(`
  definition := (SELECT pg_catalog.pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint
    WHERE conrelid = ${quoteLiteral(parent)}::pg_catalog.regclass AND conname = '${PLACEMENT_GUARD}');
  IF definition IS NULL OR EXISTS (SELECT FROM pg_catalog.pg_constraint
      WHERE conrelid = ${quoteLiteral(child)}::pg_catalog.regclass AND conname = '${PLACEMENT_GUARD}')
  THEN RETURN; END IF;
  EXECUTE pg_catalog.concat(${quoteLiteral(`ALTER TABLE ${child} ADD CONSTRAINT ${PLACEMENT_GUARD} `)}, definition);`);
}

function block(body: string): string {
  return `DO ${quoteLiteral(`DECLARE
  definition text;
BEGIN${body}
END`)}`;
}
