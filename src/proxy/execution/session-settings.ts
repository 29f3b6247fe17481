import type { QueryOutcome, ServerConnection } from "../../backend/server-connection.js";
import { quoteIdentifier, quoteLiteral } from "../../core/identifier.js";
import type { ErrorResponseFields } from "../../wire/error-fields.js";
import type { StatementEffects } from "./statement-effects.js";

export type Settings = ReadonlyMap<string, string>;

/**
 * The settings that a client gave its session, and their way to whatever server connection it is given.
 * Values are read back from the server after a transaction that may have changed them, so rollback, SET
 * LOCAL and set_config() come out as PostgreSQL says they do.
 */
export class SessionSettings {
  /** From the start-up packet: what RESET goes back to. */
  readonly #startup: Settings;
  #current: Settings;
  readonly #touched = new Map<string, "set" | "reset">();

  constructor(startup: Settings) {
    this.#startup = startup;
    this.#current = startup;
  }

  get current(): Settings {
    return this.#current;
  }

  get hasTouched(): boolean {
    return this.#touched.size > 0;
  }

  /** A statement with these effects is about to run. */
  note(effects: StatementEffects): void {
    const how = effects.resets === "none" ? "set" : "reset";
    for (const name of effects.settings) this.#touched.set(name, how);
    if (effects.resets === "all" || effects.discards === "all")
      for (const name of this.#current.keys()) this.#touched.set(name, "reset");
  }

  /** Back to the start-up values, as after DISCARD ALL. */
  restart(): void {
    this.#current = this.#startup;
    this.#touched.clear();
  }

  /**
   * After a transaction, outside of one: takes over what the server says.
   * @throws ServerConnectionLost
   */
  async readBack(server: ServerConnection): Promise<void> {
    const names = [...this.#touched.keys()];
    const columns = names.map((name) => `pg_catalog.current_setting(${quoteLiteral(name)}, true)`);
    const { rows, error } = await server.query(`SELECT ${columns.join(", ")}`);
    if (error) return this.#forget(server, names);
    const next = new Map(this.#current);
    const applied = new Map(server.appliedSettings);
    names.forEach((name, index) => {
      const value = rows[0]?.[index] ?? null;
      if (value === null) return;
      applied.set(name, value);
      const wasRolledBack = this.#current.get(name) === value;
      if (this.#touched.get(name) === "set" || wasRolledBack) next.set(name, value);
      else if (this.#startup.has(name)) next.set(name, this.#startup.get(name) ?? "");
      else next.delete(name);
    });
    this.#touched.clear();
    this.#current = next;
    server.appliedSettings = applied;
  }

  /** A name that cannot be read is none; the session on the server is then not to be trusted. */
  #forget(server: ServerConnection, names: readonly string[]): void {
    server.isSoiled = true;
    for (const name of names) this.#touched.delete(name);
  }
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
    const outcome: QueryOutcome = await server.query(statements.join("; "));
    if (outcome.error) return outcome.error;
  }
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
    const call = `pg_catalog.set_config(${quoteLiteral(name)}, ${quoteLiteral(value)}, false)`;
    // Last, as the role may not be allowed to set the others.
    if (name === "role") role = call;
    else calls.push(call);
  }
  // The old role may not be allowed to either.
  if (role !== null || calls.length > 0) {
    if (applied.has("role") && !resets.includes('RESET "role"')) resets.unshift('RESET "role"');
    if (role === null && applied.has("role") && wanted.has("role"))
      role = `pg_catalog.set_config('role', ${quoteLiteral(wanted.get("role") ?? "none")}, false)`;
  }
  const sets = role === null ? calls : [...calls, role];
  return sets.length > 0 ? [...resets, `SELECT ${sets.join(", ")}`] : resets;
}

const NOT_SETTINGS = new Set(["user", "database", "replication", "options"]);

/**
 * Settings of a start-up packet, its `options` (-c name=value, --name=value) included.
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
