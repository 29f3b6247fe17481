import { Scanner } from "../sql/scanner.js";

interface Clause {
  readonly start: number;
  readonly end: number;
  readonly value: string;
}

interface OuterClauses {
  readonly limit: Clause | null;
  readonly offset: Clause | null;
}

/**
 * The text for the shards: each gives LIMIT + OFFSET rows from its first on, as any of them may be among
 * those that the client wants. Parameters stay where they are, so that Bind stays as it is.
 * @param isKept true: the shards give all rows, because what LIMIT counts is made of several shards' rows
 * @returns null for FETCH FIRST and whatever else is not LIMIT n OFFSET n
 */
export function rewriteLimit(sql: string, isKept: boolean): string | null {
  const clauses = outerClauses(sql);
  if (clauses === null) return null;
  const { limit, offset } = clauses;
  // NULL is no limit, and n * 0 keeps the type and the number of a parameter.
  const widened = limit && offset ? `${limit.value} + ${offset.value}` : (limit?.value ?? "");
  const changes: { readonly clause: Clause; readonly text: string }[] = [];
  if (limit) {
    const text = isKept ? `NULL::int8 + ${limit.value}` : widened;
    changes.push({ clause: limit, text: `LIMIT (${text})` });
  }
  if (offset) changes.push({ clause: offset, text: `OFFSET (0 * ${offset.value})` });
  changes.sort((one, other) => other.clause.start - one.clause.start);
  let text = sql;
  for (const change of changes) {
    text = text.slice(0, change.clause.start) + change.text + text.slice(change.clause.end);
  }
  return text;
}

function outerClauses(sql: string): OuterClauses | null {
  const scanner = new Scanner(sql);
  let depth = 0;
  let limit: Clause | null = null;
  let offset: Clause | null = null;
  for (;;) {
    const kind = scanner.next();
    if (kind === "end") return limit === null && offset === null ? null : { limit, offset };
    const symbol = kind === "symbol" ? sql[scanner.start] : "";
    if (symbol === "(" || symbol === "[") depth++;
    else if (symbol === ")" || symbol === "]") depth--;
    if (kind !== "word" || depth > 0) continue;
    const { start } = scanner;
    const word = sql.slice(start, scanner.end).toLowerCase();
    if (word === "fetch") return null;
    if (word !== "limit" && word !== "offset") continue;
    const value = valueAfter(sql, scanner);
    if (value === null) return null;
    const clause = { start, end: scanner.end, value };
    if (word === "limit") limit = clause;
    else offset = clause;
  }
}

function valueAfter(sql: string, scanner: Scanner): string | null {
  const kind = scanner.next();
  const { start } = scanner;
  const isNull = kind === "word" && sql.slice(start, scanner.end).toLowerCase() === "null";
  if (kind !== "number" && kind !== "parameter" && !isNull) return null;
  // A cast stays: it gives a parameter its type.
  const cast = /^\s*::\s*(?:bigint|int8|integer|int|int4|smallint|int2)\b/i.exec(
    sql.slice(scanner.end),
  );
  const valueEnd = scanner.end + (cast?.[0].length ?? 0);
  const rows = /^\s+rows?\b/i.exec(sql.slice(valueEnd));
  scanner.end = valueEnd + (rows?.[0].length ?? 0);
  return `(${sql.slice(start, valueEnd)})::int8`;
}
