import { Scanner } from "../sql/scanner.js";
import { outerWords, type Span, splitByComma, textOf } from "./clauses.js";

const AFTER_ORDER = ["limit", "offset", "fetch", "for"];

/**
 * The text for the shards where rows are sorted by what they do not show: the keys of ORDER BY that are missing in
 * the output are put before it, for the merge to read and to take away again.
 * @param keys positions in ORDER BY, from 0
 * @returns null where the clauses are not found
 */
export function showSortKeys(sql: string, keys: readonly number[]): string | null {
  const words = outerWords(sql, ["select", "order"]);
  const [select, order] = [words.get("select"), words.get("order")];
  if (select === undefined || order === undefined) return null;
  const items = orderItems(sql, order.end);
  const shown: string[] = [];
  for (const key of keys) {
    const item = items?.[key];
    if (item === undefined) return null;
    shown.push(sortExpression(textOf(sql, item)));
  }
  const moved = moveItems(sql, items ?? [], keys.length);
  const all = /^\s+all\b/i.exec(sql.slice(select.end));
  const at = select.end + (all?.[0].length ?? 0);
  // Line ends, as each piece may end in a comment.
  return `${sql.slice(0, at)} ${shown.map((text) => `(${text}\n), `).join("")}${moved.slice(at)}`;
}

/** @param items of ORDER BY or GROUP BY: what they name by its position stands further behind now */
export function moveItems(sql: string, items: readonly Span[], by: number): string {
  let text = sql;
  for (const item of [...items].reverse()) {
    const written = sortExpression(textOf(sql, item));
    const position = positionIn(written);
    if (position === null) continue;
    const rest = text.slice(item.start + written.length);
    text = `${text.slice(0, item.start)} ${position + by} ${rest}`;
  }
  return text;
}

/** null: an expression. */
function positionIn(item: string): number | null {
  const scanner = new Scanner(item);
  if (scanner.next() !== "number") return null;
  const position = Number(item.slice(scanner.start, scanner.end));
  return scanner.next() === "end" ? position : null;
}

function orderItems(sql: string, from: number): readonly Span[] | null {
  const words = outerWords(sql, ["by", ...AFTER_ORDER], from);
  const by = words.get("by");
  if (by === undefined) return null;
  const ends = [...words].filter(([word]) => word !== "by").map(([, span]) => span.start);
  return splitByComma(sql, { start: by.end, end: Math.min(...ends) });
}

/** Without ASC, DESC, USING and NULLS FIRST or LAST. */
function sortExpression(item: string): string {
  const scanner = new Scanner(item);
  let depth = 0;
  for (;;) {
    const kind = scanner.next();
    if (kind === "end") return item;
    const text = item.slice(scanner.start, scanner.end);
    if (kind === "symbol" && /[([]/.test(text)) depth++;
    else if (kind === "symbol" && /[)\]]/.test(text)) depth--;
    if (kind !== "word" || depth > 0) continue;
    const isDirection = /^(asc|desc|using)$/i.test(text);
    const isNulls = /^nulls\s+(first|last)\b/i.test(item.slice(scanner.start));
    if (isDirection || isNulls) return item.slice(0, scanner.start);
  }
}
