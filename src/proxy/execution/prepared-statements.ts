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
  /** null: no longer found by its text. */
  readonly key: string | null;
  users: number;
}

/**
 * All named statements of all clients: equal text and types are one statement with one name. Those that
 * no client has (any more) are kept for the next, up to a bound, the longest unused going first.
 */
export class PreparedStatements {
  readonly #byIdentity = new Map<string, Entry>();
  readonly #byName = new Map<string, Entry>();
  readonly #unused = new Set<Entry>();
  #lastNumber = 0;

  /** The statement of a Parse; nobody's yet. */
  find(message: ParseMessage): PreparedStatement {
    const key = message.identity.toString("latin1");
    const known = this.#byIdentity.get(key);
    if (known) return known.statement;
    const statement = makeStatement(`sluice_${++this.#lastNumber}`, message);
    this.#keepUnused(this.#add({ statement, key, users: 0 }));
    return statement;
  }

  /** Counts the caller as a user until `drop`. */
  take(statement: PreparedStatement): void {
    // It may have been crowded out since it was found.
    const entry = this.#byName.get(statement.name) ?? this.#restore(statement);
    entry.users++;
    this.#unused.delete(entry);
  }

  drop(statement: PreparedStatement): void {
    const entry = this.#byName.get(statement.name);
    if (entry && --entry.users <= 0) this.#keepUnused(entry);
  }

  #restore(statement: PreparedStatement): Entry {
    // Not found by its text any more: a second entry of that may be there.
    return this.#add({ statement, key: null, users: 0 });
  }

  #add(entry: Entry): Entry {
    if (entry.key !== null) this.#byIdentity.set(entry.key, entry);
    this.#byName.set(entry.statement.name, entry);
    return entry;
  }

  #keepUnused(entry: Entry): void {
    this.#unused.add(entry);
    if (this.#unused.size <= KEPT_UNUSED) return;
    const [oldest] = this.#unused;
    if (!oldest) return;
    this.#unused.delete(oldest);
    if (oldest.key !== null) this.#byIdentity.delete(oldest.key);
    this.#byName.delete(oldest.statement.name);
  }
}

/**
 * One that is only this client's, and on a server only until the next unnamed one.
 * @param frame the Parse message itself
 */
export function unnamedStatement(message: ParseMessage, frame: Buffer): PreparedStatement {
  const sql = message.sqlBytes.toString("utf8");
  // Copied: what was read may be far larger.
  const parse = Buffer.from(frame);
  const { parameterTypes } = message;
  return { name: "", sql, parameterTypes, parse, effects: effectsOf(sql) };
}

function makeStatement(name: string, message: ParseMessage): PreparedStatement {
  const sql = message.sqlBytes.toString("utf8");
  return {
    name,
    sql,
    parameterTypes: message.parameterTypes,
    parse: encodeParse(name, message.identity),
    effects: effectsOf(sql),
  };
}
