import type { QueryOutcome, ServerConnection } from "../../backend/server-connection.js";
import { quoteIdentifier, quoteLiteral } from "../../core/identifier.js";
import type { ErrorResponseFields } from "../../wire/error-fields.js";
import { FOUND_SQL, foundOf, type SessionFound } from "./session-reading.js";
import type { StatementEffects } from "./statement-effects.js";

export type Settings = ReadonlyMap<string, string>;

/** By their own names those that the servers report, which a session may set. */
const TOLD: ReadonlyMap<string, string> = new Map(
  [
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "IntervalStyle",
    "search_path",
    "standard_conforming_strings",
    "TimeZone",
  ].map((name) => [name.toLowerCase(), name]),
);

// Of a transaction, or without a value that could be read and given again.
const NOT_KEPT = new Set([
  "seed",
  "transaction_isolation",
  "transaction_read_only",
  "transaction_deferrable",
]);

const NONE: readonly (readonly [string, string])[] = [];

// What is made without a schema is temporary.
const TEMPORARY_FIRST = /^\s*(?:"?\$user"?\s*,\s*)?"?pg_temp/i;

/** What is not folded into a statement when it is parsed or planned. */
const NOT_PARSED_UNDER: ReadonlySet<string> = new Set([
  "application_name",
  "statement_timeout",
  "lock_timeout",
  "idle_in_transaction_session_timeout",
]);

// Of a text of several statements nobody knows here what it has set for its transaction.
const LOCAL: ReadonlySet<StatementEffects["kind"]> = new Set(["setLocal", "several", "rollbackTo"]);

/**
 * The settings that a client gave its session, and their way to whatever server connection it is given.
 * Values are read back from the server after a transaction that may have changed them, so rollback, SET
 * LOCAL and set_config() come out as PostgreSQL says they do.
 */
export class SessionSettings {
  /** From the start-up packet: what RESET goes back to. */
  readonly #startup: Settings;
  /** What the client was told at its login of settings that it did not give: its statements run under these. */
  #told: Settings = new Map();
  #current: Settings;
  /** SET LOCAL in the open transaction. */
  #hasLocal = false;
  readonly #touched = new Map<string, "set" | "reset">();
  #isOpaque = false;
  #fingerprint: string | null = null;

  constructor(startup: Settings) {
    this.#startup = startup;
    this.#current = startup;
  }

  get current(): Settings {
    return this.#current;
  }

  /** Something may have changed since the server was last asked. */
  get hasTouched(): boolean {
    return this.#touched.size > 0 || this.#isOpaque;
  }

  /**
   * The same text under the same of these is the same statement: all that the session has set, or was told, but for its
   * name and what only ends waits. No list of what PostgreSQL folds in could be sure to be whole. Null: a setting may have
   * changed in the open transaction, so that nobody can say what a statement would be parsed under.
   */
  get fingerprint(): string | null {
    if (this.hasTouched || this.#hasLocal) return null;
    this.#fingerprint ??= JSON.stringify(
      [...new Map([...this.#told, ...this.#current])]
        .filter(([name]) => !NOT_PARSED_UNDER.has(name))
        .sort(([one], [other]) => (one < other ? -1 : 1)),
    );
    return this.#fingerprint;
  }

  /** The transaction is over, and with it what SET LOCAL has set. */
  endTransaction(): void {
    this.#hasLocal = false;
  }

  /** What the login told of the servers. */
  greeted(parameters: ReadonlyMap<string, string>): void {
    const told = new Map<string, string>();
    for (const [name, parameter] of TOLD) {
      const value = parameters.get(parameter);
      if (value !== undefined && !this.#startup.has(name)) told.set(name, value);
    }
    this.#told = told;
    this.#fingerprint = null;
  }

  /** A statement with these effects is about to run there: until `readBack`, nobody else is given the connection. */
  note(effects: StatementEffects, server?: ServerConnection): void {
    const how = effects.resets === "none" ? "set" : "reset";
    for (const name of effects.settings) if (!NOT_KEPT.has(name)) this.#touched.set(name, how);
    if (LOCAL.has(effects.kind)) this.#hasLocal = true;
    if (effects.resets === "all" || effects.discards === "all")
      for (const name of this.#current.keys()) this.#touched.set(name, "reset");
    const makesTemporary = TEMPORARY_FIRST.test(this.#current.get("search_path") ?? "");
    if (effects.isOpaque || makesTemporary) this.#isOpaque = true;
    if (server && this.hasTouched) server.areSettingsUnknown = true;
  }

  /** A statement is about to run that may change these settings, and others, by what it calls. */
  noteHidden(names: readonly string[], server?: ServerConnection): void {
    for (const name of names) if (!NOT_KEPT.has(name)) this.#touched.set(name, "set");
    this.#isOpaque = true;
    if (server) server.areSettingsUnknown = true;
  }

  /**
   * What goes back to the client's start-up values where the server would go back to its own: a statement that does it.
   * Null: nothing.
   */
  restoring(effects: readonly StatementEffects[], server: ServerConnection): string | null {
    const isReset = (name: string) =>
      effects.some(
        ({ resets, settings }) =>
          resets === "all" || (resets === "named" && settings.includes(name)),
      );
    const own = [...this.#startup, ...this.#toldBeyond(server)];
    const calls = own.flatMap(([name, value]) => (isReset(name) ? [setConfig(name, value)] : []));
    return calls.length === 0 ? null : `SELECT ${calls.join(", ")}`;
  }

  /** Of a parameter that a server reports: it is about to be put back, see `restoring`. */
  isResetting(parameter: string): boolean {
    return this.#touched.get(parameter.toLowerCase()) === "reset";
  }

  /**
   * What gives other servers of a transaction what a statement has set on this one: a statement of ours.
   * Null: nothing was set.
   * @throws ServerConnectionLost
   */
  async spreading(server: ServerConnection, isLocal: boolean): Promise<string | null> {
    const names = this.#isOpaque ? [...this.#touched.keys(), "role"] : [...this.#touched.keys()];
    const columns = names.map((name) => `pg_catalog.current_setting(${quoteLiteral(name)}, true)`);
    const found = this.#isOpaque ? FOUND_SQL : [];
    const { rows, error } = await server.query(`SELECT ${[...found, ...columns].join(", ")}`);
    const row = rows[0];
    if (error || !row) return null;
    const { settings } = foundOf(this.#isOpaque ? row : []);
    const values = new Map(settings ?? []);
    names.forEach((name, index) => {
      const value = row[found.length + index] ?? null;
      if (value !== null) values.set(name, value);
    });
    const calls = [...values].map(([name, value]) => setConfig(name, value, isLocal));
    return calls.length === 0 ? null : `SELECT ${calls.join(", ")}`;
  }

  /** Back to the start-up values, as after DISCARD ALL. */
  restart(): void {
    this.#current = this.#startup;
    this.#fingerprint = null;
    this.#touched.clear();
    this.#isOpaque = false;
  }

  /**
   * After a transaction, outside of one: takes over what the server says.
   * @returns what else the session was found to hold, where it could be anything
   * @throws ServerConnectionLost
   */
  async readBack(server: ServerConnection): Promise<SessionFound> {
    const names = new Set(this.#touched.keys());
    const isOpaque = this.#isOpaque;
    // Settings with a dot are in no list of the server's.
    if (isOpaque) for (const name of [...this.#current.keys(), "role"]) names.add(name);
    const asked = [...names];
    const columns = asked.map((name) => `pg_catalog.current_setting(${quoteLiteral(name)}, true)`);
    const found = isOpaque ? FOUND_SQL : [];
    const { rows, error } = await server.query(`SELECT ${[...found, ...columns].join(", ")}`);
    this.#isOpaque = false;
    this.#fingerprint = null;
    const row = rows[0];
    if (error || !row) {
      this.#touched.clear();
      return { tie: null };
    }
    const { settings, tie } = foundOf(isOpaque ? row : []);
    this.#take(server, {
      read: new Map(asked.map((name, index) => [name, row[found.length + index] ?? null])),
      listed: settings,
    });
    server.areSettingsUnknown = false;
    return { tie };
  }

  #take(
    server: ServerConnection,
    said: { readonly read: ReadonlyMap<string, string | null>; readonly listed: Settings | null },
  ): void {
    const next = new Map(this.#current);
    const applied = new Map(server.appliedSettings);
    for (const [name, value] of said.read) {
      if (value === null) continue;
      const how = this.#touched.get(name);
      if (name !== "role" || value !== "none" || applied.has("role")) applied.set(name, value);
      const wasRolledBack = this.#current.get(name) === value;
      if (how === "set" || wasRolledBack) next.set(name, value);
      else if (how === "reset") this.#putBack(next, name);
      else if (name.includes(".") || said.listed?.has(name)) next.set(name, value);
      else if (name !== "role") this.#putBack(next, name);
      else if (value !== "none" || next.has("role")) next.set(name, value);
    }
    for (const [name, value] of said.listed ?? []) {
      if (said.read.has(name) || NOT_KEPT.has(name)) continue;
      applied.set(name, value);
      if (this.#told.get(name) !== value) next.set(name, value);
    }
    this.#touched.clear();
    this.#current = next;
    server.appliedSettings = applied;
  }

  #putBack(next: Map<string, string>, name: string): void {
    const value = this.#startup.get(name);
    if (value === undefined) next.delete(name);
    else next.set(name, value);
  }

  /** Beyond the defaults of that connection, which may be others than those that the client was told. */
  wantedOn(server: ServerConnection): Settings {
    const told = this.#toldBeyond(server);
    return told.length === 0 ? this.#current : new Map([...told, ...this.#current]);
  }

  #toldBeyond(server: ServerConnection): readonly (readonly [string, string])[] {
    let beyond: (readonly [string, string])[] | null = null;
    for (const entry of this.#told) {
      if (server.defaults.get(TOLD.get(entry[0]) ?? "") === entry[1]) continue;
      beyond ??= [];
      beyond.push(entry);
    }
    return beyond ?? NONE;
  }
}

function setConfig(name: string, value: string, isLocal = false): string {
  return `pg_catalog.set_config(${quoteLiteral(name)}, ${quoteLiteral(value)}, ${isLocal})`;
}

/**
 * Makes the server's session have exactly these settings beyond its defaults.
 * @returns the server's refusal (an invalid start-up value), else null
 * @throws ServerConnectionLost
 */
export async function applySettings(
  server: ServerConnection,
  wanted: Settings,
): Promise<ErrorResponseFields | null> {
  if (server.appliedSettings === wanted) return null;
  const statements = differences(server.appliedSettings, wanted);
  if (statements.length > 0) {
    server.areSettingsUnknown = true;
    const outcome: QueryOutcome = await server.query(statements.join("; "));
    // Several statements in one text are one transaction: nothing was changed.
    if (outcome.error) {
      server.areSettingsUnknown = false;
      return outcome.error;
    }
  }
  server.areSettingsUnknown = false;
  server.appliedSettings = wanted;
  return null;
}

function differences(applied: Settings, wanted: Settings): readonly string[] {
  const resets: string[] = [];
  for (const name of applied.keys())
    if (!wanted.has(name)) resets.push(`RESET ${quoteIdentifier(name)}`);
  const calls: string[] = [];
  let role: string | null = null;
  for (const [name, value] of wanted) {
    if (applied.get(name) === value) continue;
    const call = setConfig(name, value);
    // Last, as the role may not be allowed to set the others.
    if (name === "role") role = call;
    else calls.push(call);
  }
  // The old role may not be allowed to either.
  if (role !== null || calls.length > 0) {
    if (applied.has("role") && !resets.includes('RESET "role"')) resets.unshift('RESET "role"');
    if (role === null && applied.has("role") && wanted.has("role"))
      role = setConfig("role", wanted.get("role") ?? "none");
  }
  const sets = role === null ? calls : [...calls, role];
  return sets.length > 0 ? [...resets, `SELECT ${sets.join(", ")}`] : resets;
}

const NOT_SETTINGS = new Set(["user", "database", "replication", "options"]);

/**
 * Settings of a start-up packet, its `options` (-c name=value, --name=value) included. The name of the application is
 * always one of them: without it a session would go by the name of the proxy.
 * @see https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS
 */
export function startupSettings(parameters: ReadonlyMap<string, string>): Settings {
  const settings = new Map<string, string>();
  for (const [name, value] of optionSettings(parameters.get("options") ?? ""))
    settings.set(name.toLowerCase(), value);
  for (const [name, value] of parameters) {
    if (NOT_SETTINGS.has(name) || name.startsWith("_pq_.")) continue;
    // By its letters and digits, as PostgreSQL reads it: asyncpg sends it in quotes.
    const letters = value.replaceAll(/[^a-z0-9]/gi, "");
    const isDefault = name === "client_encoding" && /^(utf8|unicode)$/i.test(letters);
    if (!isDefault) settings.set(name.toLowerCase(), value);
  }
  if (!settings.has("application_name")) settings.set("application_name", "");
  return settings;
}

function* optionSettings(options: string): Iterable<readonly [string, string]> {
  const words = options.match(/(?:\\.|[^\s\\])+/g) ?? [];
  for (let index = 0; index < words.length; index++) {
    let word = (words[index] ?? "").replaceAll(/\\(.)/g, "$1");
    if (word === "-c") word = (words[++index] ?? "").replaceAll(/\\(.)/g, "$1");
    else if (word.startsWith("-c")) word = word.slice(2);
    else if (word.startsWith("--")) word = word.slice(2);
    else continue;
    const equals = word.indexOf("=");
    if (equals > 0) yield [word.slice(0, equals).replaceAll("-", "_"), word.slice(equals + 1)];
  }
}
