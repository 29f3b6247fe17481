import { Scanner } from "./scanner.js";

/** A statement's text without its constants, and where they were. */
export interface LiftedText {
  /** Equal for texts that differ in constants, blanks and comments only. */
  readonly key: string;
  /** Start and end of each constant, two numbers each. */
  readonly spans: readonly number[];
}

/**
 * Takes string and number constants out of a text, so that statements which a client writes with ever other
 * values share one analysis. Comments and blanks go too: tracing comments differ on every request.
 */
export function liftLiterals(sql: string): LiftedText {
  const scanner = new Scanner(sql);
  const spans: number[] = [];
  let key = "";
  let copiedTo = 0;
  let previousEnd = 0;
  let isAfterString = false;
  for (;;) {
    const kind = scanner.next();
    if (kind === "end") break;
    // 'a' and 'b' on the next line are one constant, 'ab': rare, so such a text stands for itself.
    if (isAfterString && kind === "string") return { key: sql, spans: [] };
    isAfterString = kind === "string";
    if (scanner.start !== previousEnd) {
      key += `${sql.slice(copiedTo, previousEnd)} `;
      copiedTo = scanner.start;
    }
    if (kind === "string" || kind === "number") {
      // Strings and numbers apart: `ORDER BY 1` is a position and `ORDER BY '1'` is not.
      key += sql.slice(copiedTo, scanner.start) + (kind === "string" ? "''" : "0");
      copiedTo = scanner.end;
      spans.push(scanner.start, scanner.end);
    }
    previousEnd = scanner.end;
  }
  return { key: key + sql.slice(copiedTo, previousEnd), spans };
}

/** The value of constant number `index` as text, quotes and escapes resolved; null: not a form we read. */
export function literalText(sql: string, lifted: LiftedText, index: number): string | null {
  const start = lifted.spans[index * 2] ?? 0;
  const end = lifted.spans[index * 2 + 1] ?? 0;
  const text = sql.slice(start, end);
  const first = text.charCodeAt(0);
  if (first === 39) return text.slice(1, -1).replaceAll("''", "'");
  if (first === 36) {
    const tagLength = text.indexOf("$", 1) + 1;
    return text.slice(tagLength, text.length - tagLength);
  }
  // E'', U&'', B'', X'': an escape that we read differently from the server would be a guess.
  if (text.endsWith("'")) {
    const isPlain = /^[en]'[^\\]*$/i.test(text);
    return isPlain ? text.slice(2, -1).replaceAll("''", "'") : null;
  }
  return text;
}
