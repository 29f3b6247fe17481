import { SluiceError } from "../core/errors.js";
import { SQLSTATE } from "../core/sqlstate.js";

/** A word of an admin command, in the case it was written in. */
export interface Token {
  readonly text: string;
  /** "x" or 'x': never a keyword. */
  readonly isQuoted: boolean;
}

/** A statement that is not in the language of the admin database. PgDog answers with this SQLSTATE, too. */
export class AdminSyntaxError extends SluiceError {
  readonly code = "SLUICE_ADMIN_SYNTAX_ERROR";
  readonly sqlState = SQLSTATE.protocolViolation;
  readonly recovery = "never";
  constructor(detail: string, hint: string) {
    super("syntax error in admin command", { detail, hint });
  }
}

const WHITE_SPACE = /\s/u;

/**
 * Splits an admin command into words: white space of any length separates, "double" and 'single' quotes keep
 * a name with blanks or keywords together (doubled inside: the quote itself), `=` and `,` stand alone, comments
 * of both kinds are skipped, and one statement may end in semicolons.
 * @throws AdminSyntaxError for an open quote or comment, or for a second statement
 */
export function tokenize(sql: string): readonly Token[] {
  const tokens: Token[] = [];
  let at = 0;
  let isEnded = false;
  while (at < sql.length) {
    const char = sql.charAt(at);
    const comment = commentEnd(sql, at);
    if (comment > at) at = comment;
    else if (WHITE_SPACE.test(char)) at += 1;
    else if (char === ";") {
      isEnded = true;
      at += 1;
    } else {
      if (isEnded)
        throw new AdminSyntaxError("more than one statement", "Send admin commands one at a time.");
      const [token, next] = tokenAt(sql, at);
      tokens.push(token);
      at = next;
    }
  }
  return tokens;
}

function tokenAt(sql: string, start: number): [Token, number] {
  const char = sql.charAt(start);
  if (char === '"' || char === "'") return quotedAt(sql, start, char);
  if (char === "=" || char === ",") return [{ text: char, isQuoted: false }, start + 1];
  let end = start;
  while (end < sql.length && !/[\s;=,"']/u.test(sql.charAt(end)) && commentEnd(sql, end) === end)
    end += 1;
  return [{ text: sql.slice(start, end), isQuoted: false }, end];
}

function quotedAt(sql: string, start: number, quote: string): [Token, number] {
  let text = "";
  for (let at = start + 1; at < sql.length; at += 1) {
    const char = sql.charAt(at);
    if (char !== quote) text += char;
    else if (sql.charAt(at + 1) === quote) {
      text += quote;
      at += 1;
    } else return [{ text, isQuoted: true }, at + 1];
  }
  throw new AdminSyntaxError(`unterminated ${quote}`, `Close the name with ${quote}.`);
}

/** Where the comment that begins here ends, or `start` when none begins here. */
function commentEnd(sql: string, start: number): number {
  if (sql.startsWith("--", start)) {
    const newline = sql.indexOf("\n", start);
    return newline < 0 ? sql.length : newline + 1;
  }
  if (!sql.startsWith("/*", start)) return start;
  const end = sql.indexOf("*/", start + 2);
  if (end < 0) throw new AdminSyntaxError("unterminated /* comment", "Close the comment with */.");
  return end + 2;
}
