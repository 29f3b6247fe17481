import type { ServerAddress } from "../../backend/address.js";
import { connectSql, type SqlClient } from "../../backend/sql-client.js";
import { SCHEMA_FACTS_SQL } from "../../router/schema-facts.js";
import { SCHEMA_VERSION_SQL } from "../../router/schema-version.js";

/** Told by a plane that has seen DDL committed, on the first shard, to the planes of all nodes. */
const CHANNEL = "sluice_tables";
/** Long enough for a loaded server; a silent one is not waited for again and again. */
const STATEMENT_TIMEOUT_MS = 5_000;
/** A server that was silent is asked again after this. */
const SILENCE_MS = 2_000;

/**
 * Questions to one shard about its tables, over a session that stands while they are asked. Not from the pool: whoever
 * asks may hold connections of it already.
 */
export class CatalogSession {
  readonly #address: ServerAddress;
  readonly #connectTimeoutMs: number;
  /** null: it does not listen. */
  #onHeard: (() => void) | null = null;
  #client: Promise<SqlClient> | null = null;
  #end: AbortController | null = null;
  #silent: { readonly untilMs: number; readonly because: unknown } | null = null;

  constructor(address: ServerAddress, connectTimeoutMs: number) {
    this.#address = address;
    this.#connectTimeoutMs = connectTimeoutMs;
  }

  /** Before the first question. @param onHeard another session has told that tables have changed */
  listen(onHeard: () => void): void {
    this.#onHeard = onHeard;
  }

  /** @throws ServerUnreachable, SqlError; for a while after that at once */
  async version(): Promise<string> {
    return await this.#ask(SCHEMA_VERSION_SQL, "version");
  }

  /** @throws ServerUnreachable, SqlError */
  async facts(): Promise<string> {
    return await this.#ask(SCHEMA_FACTS_SQL, "facts");
  }

  /** Tells the other planes; they find out by themselves where it fails. Never throws. */
  async notify(): Promise<void> {
    try {
      await (await this.#session()).query(`NOTIFY ${CHANNEL}`);
    } catch {
      this.close();
    }
  }

  close(): void {
    const end = this.#end;
    this.#client = null;
    this.#end = null;
    end?.abort();
  }

  async #ask(sql: string, column: string): Promise<string> {
    const silent = this.#silent;
    if (silent !== null && performance.now() < silent.untilMs) throw silent.because;
    // A server that is stopped does not keep its own time.
    const timer = setTimeout(() => this.close(), STATEMENT_TIMEOUT_MS * 2);
    try {
      const client = await this.#session();
      const { rows } = await client.query<Record<string, string | null>>(sql);
      this.#silent = null;
      return rows[0]?.[column] ?? "";
    } catch (because) {
      this.#silent = { untilMs: performance.now() + SILENCE_MS, because };
      this.close();
      throw because;
    } finally {
      clearTimeout(timer);
    }
  }

  async #session(): Promise<SqlClient> {
    this.#client ??= this.#open();
    return await this.#client;
  }

  async #open(): Promise<SqlClient> {
    const end = new AbortController();
    this.#end = end;
    const client = await connectSql(this.#address, {
      applicationName: "sluice tables",
      connectTimeoutMs: this.#connectTimeoutMs,
      statementTimeoutMs: STATEMENT_TIMEOUT_MS,
      signal: end.signal,
    });
    client.once("end", () => {
      if (this.#end === end) this.close();
    });
    if (this.#onHeard === null) return client;
    // Before the first question: what is told from here on is heard, and what was before is in the answer.
    await client.query(`LISTEN ${CHANNEL}`);
    const { rows } = await client.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
    const [own] = rows;
    client.on("notification", ({ processId }) => {
      if (processId !== own?.pid) this.#onHeard?.();
    });
    return client;
  }
}
