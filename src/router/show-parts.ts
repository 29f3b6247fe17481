import { Scanner } from "../sql/scanner.js";
import { closeOf, outerWords, type Span, splitByComma, textOf } from "./clauses.js";
import { moveItems } from "./order-rewrite.js";

/** A column that the shards show for the merge of groups alone. */
export type ShownPart =
  /** Of the `avg` that is this output, from 0. */
  | { readonly kind: "average"; readonly target: number; readonly fold: "sum" | "count" }
  /** This expression of GROUP BY, from 0. */
  | { readonly kind: "group"; readonly item: number }
  /** The count of this condition of HAVING, from 0. */
  | { readonly kind: "having"; readonly item: number };

/** In their order; only behind them come LIMIT and the like, in any order. */
const CLAUSES = ["select", "group", "having", "window", "order"];
const LAST = ["limit", "offset", "fetch", "for"];

/**
 * The text for the shards where the merge needs columns that the output does not have: they are put before it, for the
 * merge to read and to take away again. HAVING is left to the merge.
 * @returns null where the clauses are not found
 */
export function showParts(sql: string, parts: readonly ShownPart[]): string | null {
  const words = outerWords(sql, [...CLAUSES, ...LAST]);
  const select = words.get("select");
  if (select === undefined || !isInOrder(words)) return null;
  const end = words.get("")?.start ?? sql.length;
  const all = /^\s+all\b/i.exec(sql.slice(select.end));
  const at = select.end + (all?.[0].length ?? 0);
  const targets = splitByComma(sql, { start: at, end });
  const groups = itemsOf(sql, words, "group");
  const conditions = conditionsOf(sql, words);
  const shown: string[] = [];
  for (const [index, part] of parts.entries()) {
    const text = partText(sql, part, { targets, groups, conditions });
    if (text === null) return null;
    // A name of its own: the output's may be in ORDER BY.
    shown.push(`${text} AS "sluice.${index}", `);
  }
  // From behind, so that places before stay what they are.
  let text = moveItems(sql, itemsOf(sql, words, "order"), parts.length);
  const having = words.get("having");
  if (parts.filter(({ kind }) => kind === "having").length !== conditions.length) return null;
  if (having !== undefined) {
    const kept = conditions.map(({ value }) => `((${value}\n)::int8 IS NULL) IS NOT NULL`);
    const next = nextClause(words, having);
    text = `${text.slice(0, having.end)} ${kept.join(" AND ")} ${text.slice(next)}`;
  }
  text = moveItems(text, groups, parts.length);
  return `${text.slice(0, at)} ${shown.join("")}${text.slice(at)}`;
}

/** Otherwise one of the words is a name somewhere. */
function isInOrder(words: ReadonlyMap<string, Span>): boolean {
  const starts = CLAUSES.flatMap((word) => words.get(word)?.start ?? []);
  return starts.every((start, index) => index === 0 || start > (starts[index - 1] ?? 0));
}

interface Places {
  readonly targets: readonly Span[];
  readonly groups: readonly Span[];
  readonly conditions: readonly Condition[];
}

function partText(sql: string, part: ShownPart, places: Places): string | null {
  switch (part.kind) {
    case "average": {
      const call = callAt(sql, places.targets[part.target], "avg");
      return call && `pg_catalog.${part.fold}${textOf(sql, call)}`;
    }
    case "group": {
      const item = places.groups[part.item];
      // A line end, as it may end in a comment.
      return item ? `(${textOf(sql, item)}\n)` : null;
    }
    case "having": {
      const condition = places.conditions[part.item];
      return condition ? `count${textOf(sql, condition.call)}` : null;
    }
  }
}

interface Condition {
  /** Of its count, from one parenthesis to the other. */
  readonly call: Span;
  readonly value: string;
}

/** Conditions of HAVING; none where one is not as expected. */
function conditionsOf(sql: string, words: ReadonlyMap<string, Span>): readonly Condition[] {
  const having = words.get("having");
  if (having === undefined) return [];
  const end = nextClause(words, having);
  const found: Condition[] = [];
  for (let start = having.end; start < end; ) {
    const and = outerWords(sql, ["and"], start).get("and");
    const isInside = and !== undefined && and.start < end;
    const span = { start, end: isInside ? and.start : end };
    const call = callAt(sql, span, "count");
    const operator = call && /^\s*(<=|>=|<>|!=|<|>|=)/.exec(sql.slice(call.end, span.end));
    if (!call || !operator) return [];
    found.push({ call, value: sql.slice(call.end + operator[0].length, span.end) });
    start = isInside ? and.end : end;
  }
  return found;
}

/** The arguments of the call that begins here, parentheses included. */
function callAt(sql: string, span: Span | undefined, name: string): Span | null {
  if (span === undefined) return null;
  const scanner = new Scanner(sql, { from: span.start });
  if (scanner.next() !== "word") return null;
  if (sql.slice(scanner.start, scanner.end).toLowerCase() !== name) return null;
  if (scanner.next() !== "symbol" || sql[scanner.start] !== "(") return null;
  const { start } = scanner;
  const end = closeOf(sql, scanner);
  return end === null || end > span.end ? null : { start, end };
}

/** What is behind GROUP BY or ORDER BY. */
function itemsOf(
  sql: string,
  words: ReadonlyMap<string, Span>,
  clause: "group" | "order",
): readonly Span[] {
  const word = words.get(clause);
  const by = word && outerWords(sql, ["by"], word.end).get("by");
  return word && by ? splitByComma(sql, { start: by.end, end: nextClause(words, word) }) : [];
}

function nextClause(words: ReadonlyMap<string, Span>, { end }: Span): number {
  return Math.min(...[...words.values()].map(({ start }) => start).filter((start) => start > end));
}
