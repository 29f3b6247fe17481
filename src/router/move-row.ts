import type { Node, UpdateStmt } from "libpg-query";
import { quoteIdentifier, quoteLiteral, quoteQualified } from "../core/identifier.js";
import { shardId } from "../topology/topology.js";
import { ANY, type Analysis, type Plan } from "./analysis.js";
import { outerWords, renumberParameters, type Span, splitByComma, textOf } from "./clauses.js";
import { NULL_KEY, type StatementValues, shardOfValue, UNKNOWN } from "./key-value.js";
import { Placement } from "./placement.js";
import type { WriteTarget } from "./query.js";
import { Refusal, refused } from "./refusal.js";
import type { Route, RowMove } from "./route.js";
import type { ColumnFacts, ReferringKeyFacts, TableFacts } from "./schema-facts.js";
import { hasReturning } from "./write-scope.js";

export interface KeyUpdate extends WriteTarget {
  readonly assignedKey: Node;
}

/**
 * UPDATE that assigns the sharding key. Most of them write the value that is there already, as frameworks do that
 * save all columns of a row: it stays where it is, on whatever shard the value belongs to, and `elsewhere` decides
 * about rows that the condition may find on other shards.
 */
export function assignedKeyPlan(
  analysis: Analysis,
  { ref, block, assignedKey }: KeyUpdate,
  elsewhere: (values: StatementValues, move: Pick<RowMove, "shards" | "to">) => Route,
): Plan {
  const { scope, catalog, reader } = analysis;
  const { rule } = ref.table ?? {};
  if (!rule) throw new Refusal("keyUpdate");
  const key = reader.key(assignedKey, rule.dataType);
  if (key === null) throw new Refusal("computedKey", rule.column);
  const placement = new Placement(scope, block);
  const space = { type: rule.dataType, shardCount: catalog.database.shardCount };
  return (values) => {
    const where = placement.resolve(values);
    if (where.kind === "refused") return where.route;
    const to = shardOfValue(key, values, space);
    if (where.kind === "unknown" || to === UNKNOWN) return ANY;
    if (to === NULL_KEY) return refused("nullKey", rule.column);
    if (to < 0) return refused("unreadableKey", rule.column);
    const home = shardId(to);
    if (where.kind === "single" && home === where.shard)
      return { kind: "one", shard: home, isWrite: true };
    const shards = where.kind === "several" ? where.shards : [where.shard];
    return elsewhere(values, { shards, to: home });
  };
}

export type Move = (values: StatementValues, move: Pick<RowMove, "shards" | "to">) => Route;

/**
 * Rows leave their shards and enter another.
 * @throws Refusal where that cannot be done
 */
export function moveRow(update: UpdateStmt, { ref }: WriteTarget): Move {
  const { table } = ref;
  refuseShape(update);
  if (!table?.facts) throw new Refusal("unknownColumns", table?.name);
  const { facts } = table;
  const key = table.rule?.column ?? "";
  return ({ sql }, move) => {
    const text = updateText(sql, hasReturning(update));
    if (text === null || renumberParameters(text.returning).parameters.length > 0)
      return refused(
        "keyUpdateShape",
        text === null ? "this form of SET" : "a parameter in RETURNING",
      );
    const plan = rowMove(text, { facts, key, alias: ref.isAliased ? ref.alias : null });
    return { kind: "moveRow", plan: { ...plan, ...move, hasReturning: hasReturning(update) } };
  };
}

function refuseShape(update: UpdateStmt): void {
  if (update.withClause !== undefined) throw new Refusal("keyUpdateShape", "WITH");
  if ((update.fromClause ?? []).length > 0) throw new Refusal("keyUpdateShape", "FROM");
  for (const node of update.targetList ?? []) {
    if (!("ResTarget" in node)) continue;
    const { val, indirection } = node.ResTarget;
    if (val !== undefined && "MultiAssignRef" in val) {
      throw new Refusal("keyUpdateShape", "a list of columns assigned at once");
    }
    if (val !== undefined && "SetToDefault" in val) throw new Refusal("keyUpdateShape", "DEFAULT");
    if ((indirection ?? []).length > 0) throw new Refusal("keyUpdateShape", "a part of a column");
  }
}

/** The pieces of an UPDATE, as they are written. */
interface UpdateText {
  /** The table, with ONLY and its alias. */
  readonly relation: string;
  readonly assigned: ReadonlyMap<string, string>;
  readonly condition: string;
  /** With its word; empty: none. */
  readonly returning: string;
}

function updateText(sql: string, hasReturning: boolean): UpdateText | null {
  const words = outerWords(sql, ["update", "set", "where", "returning"]);
  const [update, set, where, end] = ["update", "set", "where", ""].map((word) => words.get(word));
  const returning = hasReturning ? words.get("returning") : end;
  if (!update || !set || !end || !returning) return null;
  const assigned = assignments(sql, { start: set.end, end: (where ?? returning).start });
  if (assigned === null) return null;
  return {
    relation: textOf(sql, { start: update.end, end: set.start }).trim(),
    assigned,
    condition: where ? textOf(sql, { start: where.end, end: returning.start }) : "true",
    returning: textOf(sql, { start: returning.start, end: end.start }),
  };
}

interface MovedTable {
  readonly facts: TableFacts;
  readonly key: string;
  /** null: by its own name. */
  readonly alias: string | null;
}

// Line ends, as each piece may end in a comment.
function rowMove(
  { relation, assigned, condition, returning }: UpdateText,
  { facts, key, alias }: MovedTable,
): Omit<RowMove, "shards" | "to" | "hasReturning"> {
  const columns = facts.columns.filter((column) => !column.isGenerated);
  const outputs = columns.map((column) => newValue(column, assigned)).join(", ");
  const names = columns.map((column) => quoteIdentifier(column.name)).join(", ");
  const places = columns.map((_, index) => `$${index + 1}`).join(", ");
  const table = quoteQualified(facts.schema, facts.name);
  const named = alias === null ? quoteIdentifier(facts.name) : quoteIdentifier(alias);
  const place = `${named}.tableoid::pg_catalog.text || ${named}.ctid::pg_catalog.text`;
  const referring = facts.referringKeys.filter(
    ({ meetsDelete, referenced }) => meetsDelete || referenced.some((name) => assigned.has(name)),
  );
  const isPlain = referring.length === 0 && !facts.hasUpdateTriggers;
  const from = `${relation}\nWHERE (${condition}\n)`;
  const held = isPlain ? "" : ` AND ${place} = ANY ('${HELD_ROWS}'::pg_catalog.text[])`;
  const keyName = quoteIdentifier(key);
  const touched = `UPDATE ${relation}\nSET ${keyName} = ${named}.${keyName} WHERE (${condition}\n) RETURNING ${place}`;
  return {
    table: facts.name,
    before: isPlain
      ? null
      : {
          lock: renumberParameters(`SELECT ${place} FROM ${from} FOR UPDATE`),
          referring:
            referring.length === 0
              ? null
              : renumberParameters(referringSql(referring, from, named)),
          touch: facts.hasUpdateTriggers ? renumberParameters(touched) : null,
        },
    columns: columns
      .map(({ name }) => Buffer.from(name))
      .sort((one, other) => one.compare(other))
      .join(","),
    take: renumberParameters(
      `DELETE FROM ${from}${held}\nRETURNING ${outputs}, ${columnsOf(named)}`,
    ),
    insertSql: `INSERT INTO ${table}${alias === null ? "" : ` AS ${named}`} (${names}) OVERRIDING SYSTEM VALUE VALUES (${places}) ${returning}`,
  };
}

/** As `RowMove.columns`. */
function columnsOf(named: string): string {
  return `(SELECT pg_catalog.string_agg(a.attname, ',' ORDER BY a.attname COLLATE "C")
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = ${named}.tableoid AND a.attnum > 0
      AND NOT a.attisdropped AND a.attgenerated = '')`;
}

/** Stands for the places of the locked rows in `take.sql`: a character that no statement has. */
const HELD_ROWS = "\0";

/** @param places as the lock has given them: numbers, a comma and parentheses */
export function heldRows(sql: string, places: readonly string[]): string {
  return sql.replace(HELD_ROWS, () => `{${places.map((place) => `"${place}"`).join(",")}}`);
}

/** Which tables have rows that refer to these. */
function referringSql(keys: readonly ReferringKeyFacts[], from: string, named: string): string {
  return keys
    .map(({ schema, table, columns, referenced }) => {
      const row = (names: readonly string[], of: string) =>
        names.map((name) => `${of}.${quoteIdentifier(name)}`).join(", ");
      const isReferred = `EXISTS (SELECT FROM ${quoteQualified(schema, table)} sluice_r
        WHERE (${row(columns, "sluice_r")}) = (${row(referenced, named)}))`;
      return `SELECT ${quoteLiteral(table)} WHERE EXISTS (SELECT FROM ${from} AND ${isReferred})`;
    })
    .join("\nUNION ALL ");
}

/** As the assignment would have it, so that the text which travels is of the column's own type. */
function newValue(column: ColumnFacts, assigned: ReadonlyMap<string, string>): string {
  const expression = assigned.get(column.name);
  if (expression === undefined) return quoteIdentifier(column.name);
  return `CAST((${expression}\n) AS ${column.type})`;
}

function assignments(sql: string, span: Span): ReadonlyMap<string, string> | null {
  const found = new Map<string, string>();
  for (const part of splitByComma(sql, span)) {
    const match = /^\s*([^\s="]+|"(?:[^"]|"")+")\s*=(.*)$/s.exec(textOf(sql, part));
    if (match === null) return null;
    const [, name = "", expression = ""] = match;
    found.set(columnName(name), expression.trim());
  }
  return found;
}

function columnName(written: string): string {
  return written.startsWith('"')
    ? written.slice(1, -1).replaceAll('""', '"')
    : written.toLowerCase();
}
