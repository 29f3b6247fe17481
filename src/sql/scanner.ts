/** Kinds of tokens, as far as routing needs to tell them apart. */
export type TokenKind =
  | "end"
  /** Unquoted: a keyword or a name. */
  | "word"
  | "quotedName"
  /** Any string constant, with its prefix (E, U&, B, X, N) and its quotes. */
  | "string"
  | "number"
  /** `$1` */
  | "parameter"
  | "semicolon"
  /** Any other single character. */
  | "symbol";

const TAB = 9;
const SPACE = 32;
const BACKSLASH = 92;
const QUOTE = 39;
const DOUBLE_QUOTE = 34;
const DOLLAR = 36;
const DASH = 45;
const DOT = 46;
const STAR = 42;
const SLASH = 47;
const SEMICOLON = 59;

/**
 * Walks through SQL as PostgreSQL's own lexer splits it: comments (nested ones too), dollar quotes, E''
 * strings, quoted names, positional parameters. One object and no allocation per token: the position of
 * the last token is in `start` and `end`, in UTF-16 units.
 *
 * Malformed text (a string without end) gives a token up to the end: the server has the last word on it.
 */
export class Scanner {
  readonly #sql: string;
  readonly #isStandardConforming: boolean;
  start = 0;
  end: number;
  /** The last `string` token had a prefix or was dollar quoted, or holds a backslash escape. */
  isPlainString = false;

  /** @param isStandardConforming the session's `standard_conforming_strings`: off gives `\` a meaning in '' */
  constructor(sql: string, options: ScannerOptions = {}) {
    this.#sql = sql;
    this.#isStandardConforming = options.isStandardConforming ?? true;
    this.end = options.from ?? 0;
  }

  next(): TokenKind {
    const sql = this.#sql;
    const at = skipBlanks(sql, this.end);
    this.start = at;
    if (at >= sql.length) {
      this.end = at;
      return "end";
    }
    const code = sql.charCodeAt(at);
    if (isWordStart(code)) return this.#word(at, code);
    if (isDigit(code) || (code === DOT && isDigit(sql.charCodeAt(at + 1)))) {
      this.end = numberEnd(sql, at);
      return "number";
    }
    switch (code) {
      case QUOTE:
        return this.#string(at, !this.#isStandardConforming);
      case DOUBLE_QUOTE:
        this.end = quotedEnd(sql, at, DOUBLE_QUOTE);
        return "quotedName";
      case DOLLAR:
        return this.#dollar(at);
      case SEMICOLON:
        this.end = at + 1;
        return "semicolon";
      default:
        this.end = at + 1;
        return "symbol";
    }
  }

  #word(at: number, code: number): TokenKind {
    const sql = this.#sql;
    const following = sql.charCodeAt(at + 1);
    const lower = code | 32;
    if (following === QUOTE && (lower === 101 || lower === 98 || lower === 120 || lower === 110)) {
      return this.#prefixed(at, 1, lower === 101);
    }
    // U&'...' and U&"..."
    if (lower === 117 && following === 38) {
      if (sql.charCodeAt(at + 2) === QUOTE) return this.#prefixed(at, 2, false);
      if (sql.charCodeAt(at + 2) === DOUBLE_QUOTE) {
        this.end = quotedEnd(sql, at + 2, DOUBLE_QUOTE);
        return "quotedName";
      }
    }
    let end = at + 1;
    while (end < sql.length && isWordPart(sql.charCodeAt(end))) end++;
    this.end = end;
    return "word";
  }

  #prefixed(at: number, prefixLength: number, hasEscapes: boolean): TokenKind {
    this.#string(at + prefixLength, hasEscapes);
    this.isPlainString = false;
    return "string";
  }

  #string(at: number, hasEscapes: boolean): TokenKind {
    this.end = hasEscapes ? escapedEnd(this.#sql, at) : quotedEnd(this.#sql, at, QUOTE);
    this.isPlainString = !hasEscapes;
    return "string";
  }

  #dollar(at: number): TokenKind {
    const sql = this.#sql;
    let end = at + 1;
    if (isDigit(sql.charCodeAt(end))) {
      while (isDigit(sql.charCodeAt(end))) end++;
      this.end = end;
      return "parameter";
    }
    while (end < sql.length && isTagPart(sql.charCodeAt(end))) end++;
    if (sql.charCodeAt(end) !== DOLLAR) {
      this.end = at + 1;
      return "symbol";
    }
    const tag = sql.slice(at, end + 1);
    const close = sql.indexOf(tag, end + 1);
    this.end = close < 0 ? sql.length : close + tag.length;
    this.isPlainString = false;
    return "string";
  }
}

export interface ScannerOptions {
  readonly isStandardConforming?: boolean;
  readonly from?: number;
}

/** Position of the first character that is neither blank nor in a comment. */
export function skipBlanks(sql: string, from: number): number {
  let at = from;
  for (;;) {
    const code = sql.charCodeAt(at);
    if (code === SPACE || (code >= TAB && code <= 13)) at++;
    else if (code === DASH && sql.charCodeAt(at + 1) === DASH) at = lineEnd(sql, at);
    else if (code === SLASH && sql.charCodeAt(at + 1) === STAR) at = commentEnd(sql, at);
    else return at;
  }
}

function lineEnd(sql: string, from: number): number {
  let at = from;
  // PostgreSQL ends a comment at either of the two.
  while (at < sql.length && sql.charCodeAt(at) !== 10 && sql.charCodeAt(at) !== 13) at++;
  return at;
}

function commentEnd(sql: string, from: number): number {
  let depth = 1;
  let at = from + 2;
  while (at < sql.length && depth > 0) {
    const code = sql.charCodeAt(at);
    const following = sql.charCodeAt(at + 1);
    if (code === SLASH && following === STAR) {
      depth++;
      at += 2;
    } else if (code === STAR && following === SLASH) {
      depth--;
      at += 2;
    } else at++;
  }
  return Math.min(at, sql.length);
}

/** A doubled quote needs no care: it ends one string and begins the next, which ends where both end. */
function quotedEnd(sql: string, at: number, quote: number): number {
  const mark = quote === QUOTE ? "'" : '"';
  let from = at + 1;
  for (;;) {
    const close = sql.indexOf(mark, from);
    if (close < 0) return sql.length;
    if (sql.charCodeAt(close + 1) !== quote) return close + 1;
    from = close + 2;
  }
}

function escapedEnd(sql: string, at: number): number {
  let end = at + 1;
  while (end < sql.length) {
    const code = sql.charCodeAt(end);
    if (code === BACKSLASH) end += 2;
    else if (code !== QUOTE) end++;
    else if (sql.charCodeAt(end + 1) === QUOTE) end += 2;
    else return end + 1;
  }
  return sql.length;
}

/** Also takes in what only looks like a number (`1abc`): the server refuses that, we need not. */
function numberEnd(sql: string, at: number): number {
  let end = at;
  while (end < sql.length) {
    const code = sql.charCodeAt(end);
    if (isDigit(code) || code === 95) end++;
    // `1..2` is a range in PL/pgSQL only, so a second dot ends the number.
    else if (code === DOT && sql.charCodeAt(end + 1) !== DOT) end++;
    else if ((code | 32) === 101 && hasExponent(sql, end)) end += 2;
    else if (isWordStart(code)) end++;
    else break;
  }
  return end;
}

function hasExponent(sql: string, at: number): boolean {
  const following = sql.charCodeAt(at + 1);
  if (isDigit(following)) return true;
  return (following === 43 || following === DASH) && isDigit(sql.charCodeAt(at + 2));
}

function isDigit(code: number): boolean {
  return code >= 48 && code <= 57;
}

function isWordStart(code: number): boolean {
  const lower = code | 32;
  return (lower >= 97 && lower <= 122) || code === 95 || code >= 128;
}

function isTagPart(code: number): boolean {
  return isWordStart(code) || isDigit(code);
}

function isWordPart(code: number): boolean {
  return isTagPart(code) || code === DOLLAR;
}
