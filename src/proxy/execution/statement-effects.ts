import { ByteCache } from "../../core/byte-cache.js";
import { SQLSTATE, type SqlState } from "../../core/sqlstate.js";
import { classify, type StatementKind, sessionTieOf, settingOf } from "../../sql/classify.js";

/** What a query text does to its session, beyond its transaction. */
export interface StatementEffects {
  /** The one statement's kind; "several" where there are more. */
  readonly kind: StatementKind | "several";
  /** BEGIN, COMMIT or ROLLBACK without anything that a server would have to judge. */
  readonly isPlainControl: boolean;
  /** Why the session needs this very server connection from here on; null: it does not. */
  readonly tie: string | null;
  /** Settings that may have another value afterwards, in lower case. */
  readonly settings: readonly string[];
  /** Settings go back to their defaults: those named in `settings`, or all. */
  readonly resets: "none" | "named" | "all";
  /** Prepared statements and, with "all", everything else is thrown away. */
  readonly discards: "none" | "statements" | "all";
  readonly changesSchema: boolean;
  /** BEGIN is among its statements. */
  readonly begins: boolean;
  /** May change settings or make temporary objects in ways that its text does not tell. */
  readonly isOpaque: boolean;
  /** LISTEN and the like, which mean nothing without a server of one's own. */
  readonly needsSession: boolean;
}

export interface Refusal {
  readonly sqlState: SqlState;
  readonly message: string;
  readonly hint: string;
}

const PLAIN: StatementEffects = {
  kind: "select",
  isPlainControl: false,
  tie: null,
  settings: [],
  resets: "none",
  discards: "none",
  changesSchema: false,
  begins: false,
  isOpaque: false,
  needsSession: false,
};

// Traffic that cannot have an effect of ours is told by its first word and one search, without a walk.
// Every expression here looks at a character a bounded number of times, whatever a client writes: two words in
// one expression, with anything between them, would not.
const ORDINARY = /^\s*(?:select|insert|update|delete|values)\b/i;
const SUSPICIOUS = /;|set_config|pg_temp|pg_settings|advisory_lock/i;
const INTO = /\binto\b/i;
const TEMPORARY = /\btemp/i;
const PLAIN_CONTROL =
  /^\s*(?:(?:begin|commit|end|rollback|abort)(?:\s+(?:work|transaction))?|start\s+transaction)\s*;?\s*$/i;
const BEGIN_WITH_MODES =
  /^\s*(?:begin(?:\s+(?:work|transaction))?|start\s+transaction)((?:[\s,]+(?:isolation\s+level\s+(?:serializable|repeatable\s+read|read\s+committed|read\s+uncommitted)|read\s+(?:only|write)|(?:not\s+)?deferrable))+)\s*;?\s*$/i;
// A longer one is the server's to answer: what may be blank at two places is tried at each.
const LONGEST_CONTROL = 200;
const SET_CONFIG = /\bset_config"?\s*\(\s*(?:'([\w.$]+)'\s*,)?/gi;
const CHARACTERISTICS = [
  "default_transaction_isolation",
  "default_transaction_read_only",
  "default_transaction_deferrable",
];

/** Of a process. */
const CACHE_BYTES = 4 * 1024 * 1024;
const BYTES_PER_ENTRY = 500;
const LONGEST_CACHED_TEXT = 1_000;
const cache = new ByteCache<string, StatementEffects>(CACHE_BYTES);

/** Pure but for a cache of what is not ordinary. */
export function effectsOf(sql: string): StatementEffects {
  if (ORDINARY.test(sql)) {
    // `INSERT INTO` is no SELECT INTO.
    const isInsert = /^\s*insert/i.test(sql);
    const makesTable = !isInsert && INTO.test(sql) && TEMPORARY.test(sql);
    if (!makesTable && !SUSPICIOUS.test(sql)) return PLAIN;
  }
  // Put together anew: a part of a long text would keep all of it.
  const key = ` ${sql}`;
  const known = cache.get(key);
  if (known) return known;
  const effects = examine(sql);
  if (sql.length <= LONGEST_CACHED_TEXT) cache.set(key, effects, BYTES_PER_ENTRY + 2 * sql.length);
  return effects;
}

/** Transaction control, settings and the like: not for one shard's server to answer alone. */
export function isOfSession(effects: StatementEffects | undefined): boolean {
  switch (effects?.kind) {
    case "begin":
    case "commit":
    case "rollback":
    case "rollbackTo":
    case "savepoint":
    case "releaseSavepoint":
    case "set":
    case "setLocal":
    case "setTransaction":
    case "reset":
    case "deallocate":
    case "discard":
      return true;
    default:
      return false;
  }
}

/** What is refused where servers are shared between clients; null: nothing. */
export function refusalOf(effects: StatementEffects): Refusal | null {
  if (!effects.needsSession) return null;
  return {
    sqlState: SQLSTATE.featureNotSupported,
    message: "LISTEN needs a server connection of its own, which transaction pooling does not give",
    hint: 'Set pooler_mode = "session" for this user or database, or connect to the server directly.',
  };
}

function examine(sql: string): StatementEffects {
  const statements = classify(sql);
  const [first] = statements;
  const kind = statements.length === 1 && first ? first.kind : "several";
  const settings = new Set<string>();
  let resets: StatementEffects["resets"] = "none";
  let discards: StatementEffects["discards"] = "none";
  let tie: string | null = sessionTieOf(sql);
  let changesSchema = false;
  let needsSession = false;
  let isOpaque = false;
  for (const { kind: each, start, end } of statements) {
    const text = sql.slice(start, end);
    if (isOpaqueText(each, text)) isOpaque = true;
    if (MAKES_TEMPORARY.test(text) && /\bpg_temp\b/i.test(text)) tie ??= "temporary object";
    if (each === "set" || each === "reset") {
      const change = settingOf(text);
      if (change?.name === "session_authorization") tie = "session authorization";
      else if (change?.name === "all") resets = "all";
      else if (change) settings.add(change.name);
      else for (const name of CHARACTERISTICS) settings.add(name);
      if (change?.value === null && resets === "none") resets = "named";
    } else if (each === "prepare") tie = "statement made by SQL's PREPARE";
    else if (each === "listen") {
      needsSession = true;
      tie = "LISTEN";
    } else if (each === "discard" || each === "deallocate") {
      const words = text.toLowerCase().split(/\s+/);
      if (each === "discard" && words.includes("all")) discards = "all";
      else if (each === "deallocate" && words.includes("all")) discards = "statements";
    } else if (each === "ddl") changesSchema = true;
  }
  for (const match of sql.matchAll(SET_CONFIG)) {
    if (match[1]?.toLowerCase() === "session_authorization") tie ??= "session authorization";
    else if (match[1]) settings.add(match[1].toLowerCase());
    else tie ??= "set_config() with a computed name";
  }
  const isPlainControl =
    kind !== "several" &&
    sql.length <= LONGEST_CONTROL &&
    (PLAIN_CONTROL.test(sql) || BEGIN_WITH_MODES.test(sql));
  return {
    kind,
    isPlainControl,
    tie,
    settings: [...settings],
    resets,
    discards,
    changesSchema,
    begins: statements.some((each) => each.kind === "begin"),
    isOpaque,
    needsSession,
  };
}

const MAKES_TEMPORARY = /^\s*create\b|\binto\b/i;

/** What a session holds after it is asked for: there are more ways to a temporary table than its word. */
function isOpaqueText(kind: StatementKind, text: string): boolean {
  switch (kind) {
    case "do":
    case "call":
      return true;
    case "ddl":
      return /^\s*create\b/i.test(text) || /\bpg_temp\b/i.test(text);
    case "select":
      return (/\binto\b/i.test(text) && /temp/i.test(text)) || /\bpg_temp\b/i.test(text);
    case "update":
      return /\bpg_settings\b/i.test(text);
    default:
      return false;
  }
}
