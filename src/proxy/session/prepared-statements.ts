import type { ParseMessage } from "../../wire/frontend.js";
import { encodeParse } from "../../wire/frontend.js";
import { effectsOf, type StatementEffects } from "./statement-effects.js";

/** A statement as clients prepared it; under `name` it is the same on every server connection. */
export interface PreparedStatement {
  /** Proxy-wide, never reused; "" for an unnamed one. */
  readonly name: string;
  readonly sql: string;
  readonly parameterTypes: readonly number[];
  /** The Parse message that makes it on a server. */
  readonly parse: Buffer;
  readonly effects: StatementEffects;
}

const KEPT_UNUSED = 5_000;

interface Entry {
  readonly statement: PreparedStatement;
  readonly key: string;
  users: number;
}

/**
 * All named statements of all clients: equal text and types are one statement with one name. Those that
 * no client has any more are kept for the next, up to a bound, the longest unused going first.
 */
export class PreparedStatements {
  readonly #byIdentity = new Map<string, Entry>();
  readonly #byName = new Map<string, Entry>();
  readonly #unused = new Set<Entry>();
  #lastNumber = 0;

  /** Counts the caller as a user until `drop`. */
  take(message: ParseMessage): PreparedStatement {
    const key = message.identity.toString("latin1");
    let entry = this.#byIdentity.get(key);
    if (!entry) {
      entry = { statement: makeStatement(`sluice_${++this.#lastNumber}`, message), key, users: 0 };
      this.#byIdentity.set(key, entry);
      this.#byName.set(entry.statement.name, entry);
    }
    entry.users++;
    this.#unused.delete(entry);
    return entry.statement;
  }

  drop(statement: PreparedStatement): void {
    const entry = this.#byName.get(statement.name);
    if (!entry || --entry.users > 0) return;
    this.#unused.add(entry);
    if (this.#unused.size <= KEPT_UNUSED) return;
    const [oldest] = this.#unused;
    if (!oldest) return;
    this.#unused.delete(oldest);
    this.#byIdentity.delete(oldest.key);
    this.#byName.delete(oldest.statement.name);
  }

  get count(): number {
    return this.#byIdentity.size;
  }
}

/** One that is only this client's, and on a server only until the next unnamed one. */
export function unnamedStatement(message: ParseMessage): PreparedStatement {
  return makeStatement("", message);
}

function makeStatement(name: string, message: ParseMessage): PreparedStatement {
  // Copied: the identity is a slice of what was read, which may be far larger.
  const identity = Buffer.from(message.identity);
  const sql = message.sqlBytes.toString("utf8");
  return {
    name,
    sql,
    parameterTypes: message.parameterTypes,
    parse: encodeParse(name, identity),
    effects: effectsOf(sql),
  };
}
