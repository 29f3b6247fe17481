import { Scanner, skipBlanks } from "./scanner.js";

/** What a statement is, from its first words alone. */
export type StatementKind =
  | "empty"
  | "begin"
  /** COMMIT, END */
  | "commit"
  /** ROLLBACK, ABORT; not ROLLBACK TO */
  | "rollback"
  | "rollbackTo"
  | "savepoint"
  | "releaseSavepoint"
  /** PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED */
  | "twoPhase"
  /** SET and SET SESSION: outlives the transaction. */
  | "set"
  | "setLocal"
  /** SET TRANSACTION, SET CONSTRAINTS */
  | "setTransaction"
  | "reset"
  | "show"
  | "listen"
  | "unlisten"
  | "notify"
  | "copy"
  | "prepare"
  | "execute"
  | "deallocate"
  | "discard"
  | "declare"
  | "fetch"
  | "closeCursor"
  | "lock"
  | "select"
  | "insert"
  | "update"
  | "delete"
  | "merge"
  | "explain"
  /** CREATE, ALTER, DROP, TRUNCATE, COMMENT, GRANT, REVOKE, REINDEX, ... */
  | "ddl"
  /** VACUUM, ANALYZE, CLUSTER, CHECKPOINT, ... */
  | "maintenance"
  | "call"
  | "do"
  | "load"
  | "other";

/** One statement of a query text: `sql.slice(start, end)`, without its semicolon. */
export interface ClassifiedStatement {
  readonly kind: StatementKind;
  readonly start: number;
  readonly end: number;
}

const KINDS: ReadonlyMap<string, StatementKind> = new Map([
  ["begin", "begin"],
  ["commit", "commit"],
  ["end", "commit"],
  ["abort", "rollback"],
  ["rollback", "rollback"],
  ["savepoint", "savepoint"],
  ["release", "releaseSavepoint"],
  ["set", "set"],
  ["reset", "reset"],
  ["show", "show"],
  ["listen", "listen"],
  ["unlisten", "unlisten"],
  ["notify", "notify"],
  ["copy", "copy"],
  ["prepare", "prepare"],
  ["execute", "execute"],
  ["deallocate", "deallocate"],
  ["discard", "discard"],
  ["declare", "declare"],
  ["fetch", "fetch"],
  ["move", "fetch"],
  ["close", "closeCursor"],
  ["lock", "lock"],
  ["select", "select"],
  ["with", "select"],
  ["values", "select"],
  ["table", "select"],
  ["insert", "insert"],
  ["update", "update"],
  ["delete", "delete"],
  ["merge", "merge"],
  ["explain", "explain"],
  ["create", "ddl"],
  ["alter", "ddl"],
  ["drop", "ddl"],
  ["truncate", "ddl"],
  ["comment", "ddl"],
  ["grant", "ddl"],
  ["revoke", "ddl"],
  ["security", "ddl"],
  ["reassign", "ddl"],
  ["import", "ddl"],
  ["refresh", "ddl"],
  ["reindex", "maintenance"],
  ["vacuum", "maintenance"],
  ["analyze", "maintenance"],
  ["analyse", "maintenance"],
  ["cluster", "maintenance"],
  ["checkpoint", "maintenance"],
  ["call", "call"],
  ["do", "do"],
  ["load", "load"],
]);

/**
 * Splits a query text into its statements and says what each is. Looks at the first words only, and walks
 * the whole text only when it holds a semicolon, so it is cheap enough for traffic that is passed through.
 * "with" counts as `select` even where it writes: the router, which parses, knows better.
 * @returns at least one statement; a text without any gives one `empty`
 */
export function classify(sql: string): readonly ClassifiedStatement[] {
  const semicolon = sql.indexOf(";");
  if (semicolon < 0) return [statement(sql, 0, sql.length)];
  // The usual case of a driver that ends its statement with a semicolon.
  if (semicolon === sql.length - 1) return [statement(sql, 0, semicolon)];
  return split(sql);
}

function split(sql: string): readonly ClassifiedStatement[] {
  const found: ClassifiedStatement[] = [];
  const scanner = new Scanner(sql);
  let start = 0;
  let hasTokens = false;
  // A routine body written as BEGIN ATOMIC ... END holds semicolons of its own.
  let atomicDepth = 0;
  let isAfterBegin = false;
  for (;;) {
    const kind = scanner.next();
    if (kind === "end") break;
    if (kind === "semicolon" && atomicDepth === 0) {
      if (hasTokens) found.push(statement(sql, start, scanner.start));
      start = scanner.end;
      hasTokens = false;
      continue;
    }
    if (kind === "word") {
      const length = scanner.end - scanner.start;
      if (length === 6 && isAfterBegin && wordAt(sql, scanner) === "atomic") atomicDepth++;
      else if (atomicDepth > 0 && length === 4 && wordAt(sql, scanner) === "case") atomicDepth++;
      else if (atomicDepth > 0 && length === 3 && wordAt(sql, scanner) === "end") atomicDepth--;
      isAfterBegin = hasTokens && length === 5 && wordAt(sql, scanner) === "begin";
    } else isAfterBegin = false;
    hasTokens = true;
  }
  if (hasTokens) found.push(statement(sql, start, sql.length));
  return found.length > 0 ? found : [{ kind: "empty", start: 0, end: sql.length }];
}

function wordAt(sql: string, scanner: Scanner): string {
  return sql.slice(scanner.start, scanner.end).toLowerCase();
}

function statement(sql: string, start: number, end: number): ClassifiedStatement {
  return { kind: kindAt(sql, start, end), start, end };
}

function kindAt(sql: string, start: number, end: number): StatementKind {
  let at = skipBlanks(sql, start);
  // (SELECT ...) UNION ..., and `((SELECT`.
  while (at < end && sql.charCodeAt(at) === 40) at = skipBlanks(sql, at + 1);
  if (at >= end) return "empty";
  const first = keywordFrom(sql, at);
  const kind = KINDS.get(first) ?? "other";
  switch (kind) {
    case "set":
      return setKind(sql, at + first.length);
    case "prepare":
      return second(sql, at + first.length) === "transaction" ? "twoPhase" : kind;
    case "commit":
      return second(sql, at + first.length) === "prepared" ? "twoPhase" : kind;
    case "rollback":
      return rollbackKind(sql, at + first.length);
    default:
      return kind === "other" ? startKind(sql, first, at) : kind;
  }
}

function startKind(sql: string, first: string, at: number): StatementKind {
  return first === "start" && second(sql, at + 5) === "transaction" ? "begin" : "other";
}

function setKind(sql: string, from: number): StatementKind {
  const word = second(sql, from);
  if (word === "local") return "setLocal";
  if (word === "transaction" || word === "constraints") return "setTransaction";
  return "set";
}

/** ROLLBACK [WORK | TRANSACTION] TO [SAVEPOINT] name */
function rollbackKind(sql: string, from: number): StatementKind {
  let at = skipBlanks(sql, from);
  let word = keywordFrom(sql, at);
  if (word === "work" || word === "transaction") {
    at = skipBlanks(sql, at + word.length);
    word = keywordFrom(sql, at);
  }
  if (word === "to") return "rollbackTo";
  return word === "prepared" ? "twoPhase" : "rollback";
}

function second(sql: string, from: number): string {
  return keywordFrom(sql, skipBlanks(sql, from));
}

const LONGEST_KEYWORD = 16;

function keywordFrom(sql: string, at: number): string {
  let end = at;
  const bound = Math.min(sql.length, at + LONGEST_KEYWORD);
  while (end < bound && isLetter(sql.charCodeAt(end))) end++;
  return sql.slice(at, end).toLowerCase();
}

function isLetter(code: number): boolean {
  const lower = code | 32;
  return lower >= 97 && lower <= 122;
}

/** A setting that outlives its statement, for sessions that are rebuilt on another server connection. */
export interface SettingChange {
  /** Lower case; "all" for RESET ALL. The special forms go by the setting they change. */
  readonly name: string;
  /** The value as written (quotes and list included); null: back to the default. */
  readonly value: string | null;
}

const SPECIAL_SETTINGS: ReadonlyMap<string, string> = new Map([
  ["names", "client_encoding"],
  ["role", "role"],
  ["schema", "search_path"],
  ["seed", "seed"],
]);

/**
 * What a statement of kind `set`, `setLocal` or `reset` changes.
 * @returns null for what is no single setting (SET SESSION CHARACTERISTICS, SET XML OPTION)
 */
export function settingOf(sql: string): SettingChange | null {
  const words = /^(set|reset)\s+(?:(session|local)\s+(?!authorization|characteristics))?/i;
  const text = sql.slice(skipBlanks(sql, 0), contentEnd(sql));
  const head = words.exec(text);
  if (head === null) return null;
  const rest = text.slice(head[0].length).trimStart();
  const special = /^(time\s+zone|session\s+authorization)\b\s*(.*)$/is.exec(rest);
  if (special !== null) {
    const isZone = (special[1] ?? "").toLowerCase().startsWith("time");
    return change(isZone ? "timezone" : "session_authorization", special[2] ?? "");
  }
  if (head[1]?.toLowerCase() === "reset") return change(unquote(rest), "");
  const single = /^(names|role|schema|seed)\s+(?!to\b|=)(.*)$/is.exec(rest);
  if (single !== null) {
    return change(SPECIAL_SETTINGS.get((single[1] ?? "").toLowerCase()) ?? "", single[2] ?? "");
  }
  const plain = /^([\w$.]+|"[^"]+")\s*(?:=|\bto\b)\s*(.*)$/is.exec(rest);
  return plain === null ? null : change(unquote(plain[1] ?? ""), plain[2] ?? "");
}

/** Without what ends a statement. Not an expression: one bound to the end alone is tried at every blank. */
function contentEnd(sql: string): number {
  let end = sql.length;
  while (end > 0 && /[;\s]/.test(sql.charAt(end - 1))) end--;
  return end;
}

function change(name: string, value: string): SettingChange {
  const trimmed = value.trim();
  const isDefault = trimmed === "" || trimmed.toLowerCase() === "default";
  return { name: name.toLowerCase(), value: isDefault ? null : trimmed };
}

function unquote(name: string): string {
  return name.startsWith('"') ? name.slice(1, -1) : name;
}

/** What ties a session to its server connection beyond the transaction. */
export type SessionTie = "advisory lock" | "temporary object" | "cursor WITH HOLD" | "LOAD";

const TIES =
  /\bpg_(?:try_)?advisory_lock|\b(?:create|into)\s+(?:(?:global|local)\s+)?(?:or\s+replace\s+)?temp|\bwith\s+hold\b|^\s*load\b/i;

/**
 * What in the text needs the same server connection after the transaction, or null. One pass of a regular
 * expression: may see a tie in a string or a comment, which costs a pinned connection and no more.
 */
export function sessionTieOf(sql: string): SessionTie | null {
  const match = TIES.exec(sql);
  if (match === null) return null;
  const found = match[0].trimStart().toLowerCase();
  if (found.startsWith("pg_")) return "advisory lock";
  if (found.startsWith("with")) return "cursor WITH HOLD";
  return found === "load" ? "LOAD" : "temporary object";
}
