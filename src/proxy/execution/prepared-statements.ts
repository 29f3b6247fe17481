import { ByteCache } from "../../core/byte-cache.js";
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
  /** Text and types, as in `ParseMessage`. */
  readonly identity: Buffer;
  /** What its session had set when it was prepared; null: not known, so that it is that session's alone. */
  readonly settings: string | null;
  readonly effects: StatementEffects;
}

/** What is kept of statements that no client has. */
const UNUSED_BYTES = 16 * 1024 * 1024;
/** Text as a string and in bytes, the key, and what stands around them. */
const BYTES_PER_TEXT_BYTE = 4;
const BYTES_PER_STATEMENT = 500;

interface Entry {
  readonly statement: PreparedStatement;
  /** null: not found by its text. */
  readonly key: string | null;
  users: number;
}

/**
 * All named statements of all clients: equal text and types, prepared under equal settings, are one statement with one
 * name. PostgreSQL folds settings into what it parses ('03/04/2024'::date), so that what was parsed under others is
 * another. Those that no client has (any more) are kept for the next, 16 MB at most, the longest unused going first.
 */
export class PreparedStatements {
  readonly #byIdentity = new Map<string, Entry>();
  readonly #byName = new Map<string, Entry>();
  readonly #unused = new ByteCache<string, Entry>(UNUSED_BYTES, (entry) => this.#forget(entry));
  #lastNumber = 0;

  /** The statement of a Parse; nobody's yet. @param settings see `PreparedStatement.settings` */
  find(
    message: Pick<ParseMessage, "identity" | "sqlBytes" | "parameterTypes">,
    settings: string | null,
  ): PreparedStatement {
    // A zero byte ends every text, so nothing else makes this key.
    const key = settings === null ? null : `${message.identity.toString("latin1")}\0${settings}`;
    const known = key === null ? undefined : this.#byIdentity.get(key);
    if (known) return known.statement;
    const statement = makeStatement(`sluice_${++this.#lastNumber}`, message, settings);
    this.#keepUnused(this.#add({ statement, key, users: 0 }));
    return statement;
  }

  /** The same text as it is to be made under these settings, as PostgreSQL makes a plan again when it has to. */
  under(statement: PreparedStatement, settings: string | null): PreparedStatement {
    // Made under settings that nobody knows it is that session's alone: no other is misled by its name.
    if (statement.settings === settings) return statement;
    const { identity, parameterTypes } = statement;
    return this.find({ identity, parameterTypes, sqlBytes: Buffer.from(statement.sql) }, settings);
  }

  /** Counts the caller as a user until `drop`. */
  take(statement: PreparedStatement): void {
    // It may have been crowded out since it was found.
    const entry = this.#byName.get(statement.name) ?? this.#restore(statement);
    entry.users++;
    this.#unused.delete(statement.name);
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
    const bytes = BYTES_PER_STATEMENT + entry.statement.identity.length * BYTES_PER_TEXT_BYTE;
    this.#unused.set(entry.statement.name, entry, bytes);
  }

  #forget({ key, statement }: Entry): void {
    if (key !== null) this.#byIdentity.delete(key);
    this.#byName.delete(statement.name);
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
  const identity = parse.subarray(parse.length - message.identity.length);
  return {
    name: "",
    sql,
    parameterTypes,
    parse,
    identity,
    settings: null,
    effects: effectsOf(sql),
  };
}

function makeStatement(
  name: string,
  {
    sqlBytes,
    identity,
    parameterTypes,
  }: Pick<ParseMessage, "identity" | "sqlBytes" | "parameterTypes">,
  settings: string | null,
): PreparedStatement {
  const sql = sqlBytes.toString("utf8");
  const parse = encodeParse(name, identity);
  return {
    name,
    sql,
    parameterTypes,
    parse,
    identity: parse.subarray(parse.length - identity.length),
    settings,
    effects: effectsOf(sql),
  };
}
