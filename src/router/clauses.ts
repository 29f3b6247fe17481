import { Scanner } from "../sql/scanner.js";

/** A stretch of the text, in UTF-16 units. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

export function textOf(sql: string, span: Span): string {
  return sql.slice(span.start, span.end);
}

/** Where the clauses of a statement begin and end: words outside of all parentheses, each at its first place. */
export function outerWords(
  sql: string,
  words: readonly string[],
  from = 0,
): ReadonlyMap<string, Span> {
  const found = new Map<string, Span>();
  const scanner = new Scanner(sql, { from });
  let depth = 0;
  for (;;) {
    const kind = scanner.next();
    if (kind === "end" || kind === "semicolon") return found.set("", endAt(scanner.start));
    if (kind === "symbol") depth += depthChange(sql, scanner.start);
    if (kind !== "word" || depth > 0) continue;
    const word = sql.slice(scanner.start, scanner.end).toLowerCase();
    if (words.includes(word) && !found.has(word)) {
      found.set(word, { start: scanner.start, end: scanner.end });
    }
  }
}

function endAt(position: number): Span {
  return { start: position, end: position };
}

function depthChange(sql: string, at: number): number {
  const symbol = sql[at];
  if (symbol === "(" || symbol === "[") return 1;
  return symbol === ")" || symbol === "]" ? -1 : 0;
}

/** The parts between commas outside of all parentheses. */
export function splitByComma(sql: string, span: Span): readonly Span[] {
  const parts: Span[] = [];
  const scanner = new Scanner(sql, { from: span.start });
  let depth = 0;
  let { start } = span;
  for (;;) {
    const kind = scanner.next();
    if (kind === "end" || scanner.start >= span.end) break;
    if (kind !== "symbol") continue;
    depth += depthChange(sql, scanner.start);
    if (depth === 0 && sql[scanner.start] === ",") {
      parts.push({ start, end: scanner.start });
      start = scanner.end;
    }
  }
  parts.push({ start, end: span.end });
  return parts;
}

/** The rows of a statement's outer VALUES, parentheses included, and what is before and behind them. */
export interface ValuesRows {
  readonly rows: readonly Span[];
  readonly head: Span;
  readonly tail: Span;
}

export function valuesRows(sql: string): ValuesRows | null {
  const values = outerWords(sql, ["values"]).get("values");
  if (values === undefined) return null;
  const scanner = new Scanner(sql, { from: values.end });
  const rows: Span[] = [];
  for (;;) {
    if (scanner.next() !== "symbol" || sql[scanner.start] !== "(") return null;
    const { start } = scanner;
    const end = closeOf(sql, scanner);
    if (end === null) return null;
    rows.push({ start, end });
    const kind = scanner.next();
    if (kind === "symbol" && sql[scanner.start] === ",") continue;
    const statementEnd = outerWords(sql, [], end).get("")?.start ?? sql.length;
    return { rows, head: { start: 0, end: values.end }, tail: { start: end, end: statementEnd } };
  }
}

/** Behind the parenthesis that closes the one the scanner has just read; null: there is none. */
export function closeOf(sql: string, scanner: Scanner): number | null {
  let depth = 1;
  while (depth > 0) {
    const kind = scanner.next();
    if (kind === "end") return null;
    if (kind === "symbol") depth += depthChange(sql, scanner.start);
  }
  return scanner.end;
}

/** A text whose parameters were numbered anew from 1, and the old ones in the new order, from 0. */
export interface RenumberedText {
  readonly sql: string;
  readonly parameters: readonly number[];
}

export function renumberParameters(sql: string): RenumberedText {
  const scanner = new Scanner(sql);
  const places = new Map<number, number>();
  let text = "";
  let copiedTo = 0;
  for (;;) {
    const kind = scanner.next();
    if (kind === "end") return { sql: text + sql.slice(copiedTo), parameters: [...places.keys()] };
    if (kind !== "parameter") continue;
    const old = Number(sql.slice(scanner.start + 1, scanner.end)) - 1;
    const place = places.get(old) ?? places.size + 1;
    places.set(old, place);
    text += `${sql.slice(copiedTo, scanner.start)}$${place}`;
    copiedTo = scanner.end;
  }
}
