/** One statement of a dump, with what pg_dump said about its entry. */
export interface DumpStatement {
  /** The entry's type in pg_dump's words: TABLE, FK CONSTRAINT, INDEX ATTACH... Empty before the first entry. */
  readonly entryType: string;
  /** Without the semicolon. */
  readonly sql: string;
  /** `default_table_access_method` at this place. */
  readonly accessMethod: string | null;
}

const ENTRY = /^-- (?:Data for )?Name: .*; Type: ([A-Z][A-Z ]*); Schema: /;
const ACCESS_METHOD = /^SET default_table_access_method = ("?)(\w+)\1$/;
const SESSION_STATEMENT =
  /^(?:SET|RESET)\s|^SELECT pg_catalog\.set_config\(|^(?:BEGIN|COMMIT|START TRANSACTION)$/;

/**
 * Takes a plain-text dump apart. Statements of the session (`SET`, `set_config`) and psql's commands
 * (`\restrict`) are left out: our sessions have settings of their own.
 */
export function parseDump(text: string): readonly DumpStatement[] {
  const statements: DumpStatement[] = [];
  let accessMethod: string | null = null;
  for (const { entryType, sql } of splitDump(text)) {
    const method = ACCESS_METHOD.exec(sql)?.[2];
    if (method !== undefined) accessMethod = method;
    if (!SESSION_STATEMENT.test(sql)) statements.push({ entryType, sql, accessMethod });
  }
  return statements;
}

interface Piece {
  readonly entryType: string;
  readonly sql: string;
}

const WORD = /[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*/y;
const DOLLAR_TAG = /\$(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$/y;

/**
 * Splits at semicolons as psql does: not in quotes, dollar quotes, comments, parentheses (rules with several
 * actions) or between BEGIN ATOMIC and its END (functions with SQL bodies).
 */
export function splitDump(text: string): readonly Piece[] {
  const pieces: Piece[] = [];
  const scan = new StatementScan();
  let entryType = "";
  let start = -1;
  let at = 0;
  while (at < text.length) {
    const char = text.charAt(at);
    const isBetween = start < 0;
    if (text.startsWith("--", at)) {
      const end = endOfLine(text, at);
      if (isBetween) entryType = ENTRY.exec(text.slice(at, end))?.[1] ?? entryType;
      at = end;
    } else if (isBetween && char === "\\") {
      at = endOfLine(text, at);
    } else if (isBetween && /\s/.test(char)) {
      at += 1;
    } else if (char === ";" && scan.isComplete) {
      if (!isBetween) pieces.push({ entryType, sql: text.slice(start, at).trimEnd() });
      start = -1;
      scan.reset();
      at += 1;
    } else {
      if (isBetween) start = at;
      at = scan.token(text, at);
    }
  }
  if (start >= 0) pieces.push({ entryType, sql: text.slice(start).trimEnd() });
  return pieces;
}

/** Where in a statement we are: parentheses, and blocks of SQL bodies. */
class StatementScan {
  #parentheses = 0;
  #blocks = 0;
  #words: string[] = [];

  get isComplete(): boolean {
    return this.#parentheses === 0 && this.#blocks === 0;
  }

  reset(): void {
    this.#parentheses = 0;
    this.#blocks = 0;
    this.#words = [];
  }

  /** @returns where the token that begins at `at` ends */
  token(text: string, at: number): number {
    const char = text.charAt(at);
    switch (char) {
      case "'":
        return endOfQuoted(text, at, "'");
      case '"':
        return endOfQuoted(text, at, '"');
      case "(":
        this.#parentheses += 1;
        return at + 1;
      case ")":
        this.#parentheses = Math.max(0, this.#parentheses - 1);
        return at + 1;
      case "/":
        return text.startsWith("/*", at) ? endOfBlockComment(text, at) : at + 1;
      case "$":
        return endOfDollarQuoted(text, at);
      default:
        return this.#word(text, at);
    }
  }

  #word(text: string, at: number): number {
    WORD.lastIndex = at;
    const word = WORD.exec(text)?.[0];
    if (word === undefined) return at + 1;
    const end = at + word.length;
    if (/^e$/i.test(word) && text.charAt(end) === "'") return endOfEscapeString(text, end);
    this.#follow(word.toUpperCase());
    return end;
  }

  #follow(word: string): void {
    if (this.#words.length < 4) this.#words.push(word);
    if (!this.#isRoutine() || this.#parentheses > 0) return;
    if (word === "BEGIN") this.#blocks += 1;
    // CASE ends with END too, but counts only inside a body.
    else if (word === "CASE" && this.#blocks > 0) this.#blocks += 1;
    else if (word === "END" && this.#blocks > 0) this.#blocks -= 1;
  }

  #isRoutine(): boolean {
    const [create, ...rest] = this.#words;
    const kind = rest[0] === "OR" ? rest[2] : rest[0];
    return create === "CREATE" && (kind === "FUNCTION" || kind === "PROCEDURE");
  }
}

function endOfLine(text: string, at: number): number {
  const end = text.indexOf("\n", at);
  return end < 0 ? text.length : end;
}

/** A doubled quote looks like the end of one string and the beginning of the next, which does no harm. */
function endOfQuoted(text: string, at: number, quote: string): number {
  const end = text.indexOf(quote, at + 1);
  return end < 0 ? text.length : end + 1;
}

function endOfEscapeString(text: string, at: number): number {
  for (let index = at + 1; index < text.length; index += 1) {
    const char = text.charAt(index);
    if (char === "\\") index += 1;
    else if (char === "'") return index + 1;
  }
  return text.length;
}

function endOfDollarQuoted(text: string, at: number): number {
  DOLLAR_TAG.lastIndex = at;
  const tag = DOLLAR_TAG.exec(text)?.[0];
  if (tag === undefined) return at + 1;
  const end = text.indexOf(tag, at + tag.length);
  return end < 0 ? text.length : end + tag.length;
}

function endOfBlockComment(text: string, at: number): number {
  let depth = 0;
  for (let index = at; index < text.length; index += 1) {
    if (text.startsWith("/*", index)) {
      depth += 1;
      index += 1;
    } else if (text.startsWith("*/", index)) {
      depth -= 1;
      index += 1;
      if (depth === 0) return index + 1;
    }
  }
  return text.length;
}
