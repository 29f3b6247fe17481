import type { DeleteStmt, InsertStmt, Node, OnConflictClause, UpdateStmt } from "libpg-query";
import { quoteQualified } from "../core/identifier.js";
import { lastName, namesOf, walk } from "../sql/ast.js";
import { type Analysis, everywhere, type Plan } from "./analysis.js";
import type { TableRef } from "./block.js";
import type { Catalog } from "./catalog.js";
import { computedSelects } from "./computed-selects.js";
import type { WriteTarget } from "./query.js";
import { Refusal } from "./refusal.js";
import {
  COPY_TARGET,
  capturedReplayOf,
  obstacleOf,
  type ReplayedVerb,
  type ReturnedRows,
  replayOf,
  withReturnedRows,
} from "./replay-sql.js";
import type { CapturedReplay, ReturnedReplay, Route } from "./route.js";
import type { TableFacts } from "./schema-facts.js";
import { isPlainTrigger, refuseUnsteady, refuseUnsteadyDefault } from "./steadiness.js";
import { hasReturning, type InsertTarget } from "./write-scope.js";

/**
 * Writes to tables that have the same rows on every shard. One shard decides, always the first: the client's
 * statement runs there alone, and the others are given the rows that came of it, by their key. So nothing that
 * is of a server, a moment or chance has to be known here, and two statements about one row meet on the first
 * shard before they touch any other.
 *
 * Running the statement everywhere instead would not only draw other values: a condition may meet, on one shard, a
 * row that another transaction has committed there and not yet elsewhere. An INSERT of given values has no condition, but
 * the table may have got a column since it was read, whose default each shard would draw for itself: the rows that are
 * brought over say so (R53). What is left to that way are changes of tables whose rows have no key to be found by.
 */
export function omnishardedInsert(
  analysis: Analysis,
  insert: InsertStmt,
  target: InsertTarget,
): Plan {
  const computed = computedSelects(analysis, insert);
  if (computed !== null) return computed;
  const facts = replayable(target);
  const conflict = insert.onConflictClause;
  const isUpsert = conflict?.action === "ONCONFLICT_UPDATE";
  if (facts === null) return unreplayedInsert(analysis, target, isUpsert);
  if (isUpsert && facts.keyColumns.length === 0 && !isCaptured(analysis.catalog, facts)) {
    return unreplayedInsert(analysis, target, isUpsert);
  }
  refuseUnreplayable(analysis, insert, facts.name);
  if (isCaptured(analysis.catalog, facts)) return captured(analysis.catalog, facts, insert);
  if (isUpsert) refuseKeyOnConflict(conflict, facts);
  return returned(insert, facts, isUpsert ? "upsert" : "insert");
}

export function omnishardedUpdate(
  analysis: Analysis,
  update: UpdateStmt,
  target: WriteTarget,
): Plan {
  const computed = computedSelects(analysis, update);
  if (computed !== null) return computed;
  const facts = replayable(target);
  if (facts !== null && isCaptured(analysis.catalog, facts)) {
    refuseUnreplayable(analysis, update, facts.name);
    return captured(analysis.catalog, facts, update);
  }
  const isKeyed = facts !== null && facts.keyColumns.length > 0;
  const assigned = (update.targetList ?? []).map((node) =>
    "ResTarget" in node ? (node.ResTarget.name ?? "") : "",
  );
  if (isKeyed && !facts.keyColumns.some((column) => assigned.includes(column))) {
    refuseUnreplayable(analysis, update, facts.name);
    return returned(update, facts, "update");
  }
  refuseTriggers(facts, isKeyed ? "its key changes" : "it has no key");
  return unreplayedChange(analysis, target);
}

export function omnishardedDelete(
  analysis: Analysis,
  statement: DeleteStmt,
  target: WriteTarget,
): Plan {
  const computed = computedSelects(analysis, statement);
  if (computed !== null) return computed;
  const facts = replayable(target);
  if (facts === null) return unreplayedChange(analysis, target);
  const isByCapture = isCaptured(analysis.catalog, facts);
  if (!isByCapture && facts.keyColumns.length === 0) return unreplayedChange(analysis, target);
  refuseUnreplayable(analysis, statement, facts.name);
  return isByCapture
    ? captured(analysis.catalog, facts, statement)
    : returned(statement, facts, "delete");
}

/** The table, if its rows can be brought to other shards: columns are known, and it is no view. */
function replayable({ ref, name }: WriteTarget): TableFacts | null {
  const facts = name === ref ? (ref.table?.facts ?? null) : null;
  return facts?.isTable === true ? facts : null;
}

type WriteStmt = InsertStmt | UpdateStmt | DeleteStmt;

function returned(statement: WriteStmt, facts: TableFacts, verb: ReplayedVerb): Plan {
  const { relation } = statement;
  const rows = {
    alias: relation?.alias?.aliasname ?? relation?.relname ?? "",
    facts,
    hasReturning: hasReturning(statement),
  };
  const plan = returnedReplay(rows, verb);
  return ({ sql }): Route => ({
    kind: "replayed",
    plan: { ...plan, ownerSql: withReturnedRows(sql, rows) },
  });
}

function returnedReplay(
  { facts, hasReturning }: ReturnedRows,
  verb: ReplayedVerb,
): Omit<ReturnedReplay, "ownerSql"> {
  const [trigger] = facts.triggers;
  if (trigger !== undefined && !facts.isGuarded) {
    throw new Refusal("omnishardedUnguarded", `"${trigger.name}" of "${facts.name}"`);
  }
  return {
    kind: "returned",
    table: facts.name,
    hasReturning,
    replay: replayOf(verb, facts),
    isGuarded: trigger !== undefined,
  };
}

/**
 * An INSERT of ours, see `copiedInsertOf`.
 * @throws Refusal
 */
export function replayedInsert(
  catalog: Catalog,
  facts: TableFacts,
  sql: string,
): ReturnedReplay | CapturedReplay {
  if (isCaptured(catalog, facts)) return capturedReplay(catalog, facts, false);
  const rows = { alias: COPY_TARGET, facts, hasReturning: false };
  return { ...returnedReplay(rows, "insert"), ownerSql: withReturnedRows(sql, rows) };
}

/**
 * Whether a write to this table may write others, or other rows: a trigger does more than to make something of its
 * row, or a foreign key acts on a table whose triggers make something of theirs.
 */
function isCaptured(catalog: Catalog, facts: TableFacts): boolean {
  if (facts.triggers.some((trigger) => !isPlainTrigger(trigger, catalog))) return true;
  return actedOn(catalog, facts).some((one) => one.triggers.length > 0 || one.isGuarded);
}

/** Omnisharded tables whose rows foreign keys change with this one's, near and far. */
function actedOn(catalog: Catalog, facts: TableFacts): readonly TableFacts[] {
  const found = new Set<TableFacts>();
  const add = (from: TableFacts) => {
    for (const [schema, name] of from.actsOn) {
      const other = catalog.factsOf(schema, name);
      if (other === null || found.has(other) || !catalog.isOmnisharded(other)) continue;
      found.add(other);
      add(other);
    }
  };
  add(facts);
  return [...found];
}

function captured(catalog: Catalog, facts: TableFacts, statement: WriteStmt): Plan {
  const plan = capturedReplay(catalog, facts, hasReturning(statement));
  return () => ({ kind: "replayed", plan });
}

/** Nothing may be written unseen, so every table of the kind needs its guard. */
function capturedReplay(
  catalog: Catalog,
  facts: TableFacts,
  hasReturning: boolean,
): CapturedReplay {
  for (const one of catalog.omnishardedTables()) {
    if (one.isGuarded) continue;
    const [trigger] = facts.triggers;
    const which = trigger === undefined ? "a foreign key" : `"${trigger.name}"`;
    throw new Refusal("omnishardedUnguarded", `${which} of "${facts.name}"`);
  }
  return {
    kind: "captured",
    hasReturning,
    table: facts.name,
    obstacleSql: obstacleOf(facts),
    replayOf: ({ schema, name }) => {
      const other = catalog.factsOf(schema, name);
      return other === null ? null : capturedReplayOf(other);
    },
  };
}

/** On every shard by itself, if it does the same there whatever it meets. */
function unreplayed({ scope }: Analysis, { ref }: WriteTarget): Plan {
  refuseUnsteady(scope, ref.table?.name ?? "");
  return () => everywhere(true);
}

/**
 * The same for what looks for rows. Others' writes begin on the first shard, and end there last: once nobody else writes
 * the tables there, every shard has the same rows of them.
 */
function unreplayedChange(analysis: Analysis, target: WriteTarget): Plan {
  unreplayed(analysis, target);
  const names = (refs: readonly TableRef[]) =>
    [...new Set(refs.flatMap(({ table }) => (table?.facts?.isTable ? [table.facts] : [])))]
      .map(({ schema, name }) => quoteQualified(schema, name))
      .join(", ");
  const written = names([target.ref]);
  const read = names(analysis.scope.refs.filter(({ table }) => table !== target.ref.table));
  const locks = [
    ...(written === "" ? [] : [`LOCK TABLE ${written} IN SHARE ROW EXCLUSIVE MODE`]),
    ...(read === "" ? [] : [`LOCK TABLE ${read} IN SHARE MODE`]),
  ];
  const route: Route = {
    ...everywhere(true),
    ...(locks.length > 0 && { lockSql: locks.join("; ") }),
  };
  return () => route;
}

function unreplayedInsert(analysis: Analysis, target: InsertTarget, isUpsert: boolean): Plan {
  for (const column of target.ref.table?.facts?.columns ?? []) {
    const isGiven = target.columns?.includes(column.name) === true;
    if (!isGiven && !column.isGenerated) refuseUnsteadyDefault(column, analysis.catalog);
  }
  return isUpsert ? unreplayedChange(analysis, target) : unreplayed(analysis, target);
}

/** What must not run at all, or not on the first shard alone. */
function refuseUnreplayable({ scope }: Analysis, statement: WriteStmt, table: string): void {
  if (scope.sharded.length > 0) throw new Refusal("omnishardedFromSharded", table);
  const other = scope.calls.find(({ nature }) => nature === "unknown" || nature === "setting");
  if (other !== undefined) {
    throw new Refusal("omnishardedCall", `${lastName(other.call.funcname)}()`);
  }
  if (usesForeignAddress(statement)) throw new Refusal("omnishardedAddress", table);
}

/**
 * Where a row lies, and which transaction wrote it, is another on each shard: what a client has read may be of
 * another shard than the one that decides. Within one statement (`ctid IN (SELECT ctid ...)`) it is of one shard.
 */
function usesForeignAddress(statement: WriteStmt): boolean {
  const found = new Set<"outside" | "inside">();
  const look = (root: unknown, where: "outside" | "inside") =>
    walk(root, (node, tag) => {
      if (tag === "SelectStmt" && where === "outside") {
        look(Object.values(node)[0], "inside");
        return false;
      }
      if ("ColumnRef" in node && isAddress(node)) found.add(where);
      return true;
    });
  look(statement, "outside");
  return found.has("outside") && !found.has("inside");
}

function isAddress(node: Extract<Node, { ColumnRef: unknown }>): boolean {
  return /^(ctid|xmin|xmax|cmin|cmax)$/.test(namesOf(node.ColumnRef.fields).at(-1) ?? "");
}

/** `SET id = EXCLUDED.id` stays, where the conflict is about that id. */
function refuseKeyOnConflict(conflict: OnConflictClause, { keyColumns, name }: TableFacts): void {
  const arbiters = (conflict.infer?.indexElems ?? []).map((node) =>
    "IndexElem" in node ? (node.IndexElem.name ?? "") : "",
  );
  for (const node of conflict.targetList ?? []) {
    if (!("ResTarget" in node)) continue;
    const { name: column = "", val } = node.ResTarget;
    if (!keyColumns.includes(column)) continue;
    const names = val !== undefined && "ColumnRef" in val ? namesOf(val.ColumnRef.fields) : [];
    const isSame = names[0] === "excluded" && names[1] === column && arbiters.includes(column);
    if (!isSame) throw new Refusal("omnishardedKey", name);
  }
}

function refuseTriggers(facts: TableFacts | null, why: string): void {
  const [trigger] = facts?.triggers ?? [];
  if (trigger !== undefined)
    throw new Refusal("omnishardedTrigger", `"${trigger.name}", as ${why}`);
}
