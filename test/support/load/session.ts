import { performance } from "node:perf_hooks";
import pg from "pg";
import { LatencyLog } from "./latency.js";

export interface LoadAddress {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly password: string;
}

export interface SessionOptions {
  /** Number of the client; which address it takes follows from it. */
  readonly client: number;
  readonly addresses: readonly LoadAddress[];
}

export interface ClientError {
  readonly client: number;
  readonly atMs: number;
  readonly operation: string;
  readonly message: string;
  readonly sqlState: string | null;
}

export type Outcome = "acknowledged" | "unknown";

/** What a write would leave behind, told before it is sent. */
export interface Intent {
  readonly note: (outcome: Outcome) => void;
}

export type Operation = (intend: (intent: Intent) => void) => Promise<void>;
export type Rows = pg.QueryResult<Record<string, unknown>>;

/**
 * One client's connection, opened again when it breaks, with what its operations were told: an answer that did
 * not come makes the outcome of a write unknown; an error of the database means that nothing was done.
 */
export class LoadSession {
  readonly latency = new LatencyLog();
  readonly errors: ClientError[] = [];
  readonly #options: SessionOptions;
  #connection: pg.Client | null = null;
  #attempts: number;
  #acknowledged = 0;
  #unknown = 0;
  #isStopping = false;
  #finished: Promise<void> = Promise.resolve();

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#attempts = options.client;
  }

  /** Operations that wrote and were acknowledged; a transaction counts once. */
  get acknowledged(): number {
    return this.#acknowledged;
  }

  get unknown(): number {
    return this.#unknown;
  }

  /** Resolves when the first connection is there; then `once` runs again and again until `stop`. */
  async start(once: () => Promise<void>): Promise<void> {
    this.#connection = await this.#connect();
    this.#finished = (async () => {
      while (!this.#isStopping) await once();
    })();
  }

  /** Ends after the `once` under way, so that its answers are known. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#finished;
    await this.#connection?.end().catch(() => {});
    this.#connection = null;
  }

  /** Runs one operation to its outcome. An error is noted, not thrown. */
  async attempt(name: string, run: Operation): Promise<void> {
    const intents: Intent[] = [];
    const startedAtMs = performance.now();
    try {
      this.#connection ??= await this.#connect();
      await run((intent) => intents.push(intent));
      for (const intent of intents) intent.note("acknowledged");
      if (intents.length > 0) this.#acknowledged++;
    } catch (error) {
      if (intents.length > 0 && !isRefusal(error)) {
        for (const intent of intents) intent.note("unknown");
        this.#unknown++;
      }
      this.#failed(name, error);
      await this.#recover(error);
    } finally {
      this.latency.add(startedAtMs, performance.now() - startedAtMs);
    }
  }

  /** One statement: with values in the extended protocol, with a name prepared once, else in the simple one. */
  async query(query: pg.QueryConfig): Promise<Rows> {
    if (this.#connection === null) throw new Error("connection lost");
    return await this.#connection.query<Record<string, unknown>>(query);
  }

  /** Runs in a transaction; the outcome is known only when COMMIT is answered. */
  async transaction(body: () => Promise<void>): Promise<void> {
    await this.query({ text: "BEGIN" });
    await body();
    const { command } = await this.query({ text: "COMMIT" });
    if (command !== "COMMIT") throw new Error(`COMMIT was answered with ${command}`);
  }

  #failed(operation: string, error: unknown): void {
    this.errors.push({
      client: this.#options.client,
      atMs: performance.now(),
      operation,
      message: error instanceof Error ? error.message : String(error),
      sqlState: sqlStateOf(error),
    });
  }

  async #recover(error: unknown): Promise<void> {
    const connection = this.#connection;
    if (connection === null) return;
    if (isRefusal(error)) {
      // Out of the failed transaction, if there is one.
      const isOpen = await connection.query("ROLLBACK").then(
        () => true,
        () => false,
      );
      if (isOpen) return;
    }
    this.#connection = null;
    await connection.end().catch(() => {});
  }

  async #connect(): Promise<pg.Client> {
    const { addresses, client } = this.#options;
    // Clients are spread over the nodes; one that cannot connect tries the next.
    const address = addresses[this.#attempts++ % addresses.length];
    if (!address) throw new Error("no address");
    const connection = new pg.Client({
      ...address,
      application_name: `load-${client}`,
      connectionTimeoutMillis: 10_000,
    });
    connection.on("error", () => {
      if (this.#connection === connection) this.#connection = null;
    });
    await connection.connect();
    this.#attempts = client;
    return connection;
  }
}

/** The database answered, and not with what was acknowledged before. */
export class Stale extends Error {}

/** @throws Stale unless there is exactly one row */
export function expectOne(
  rows: readonly Record<string, unknown>[],
  what: string,
): Record<string, unknown> {
  const [row] = rows;
  if (rows.length !== 1 || !row) throw new Stale(`${rows.length} rows instead of one: ${what}`);
  return row;
}

function sqlStateOf(error: unknown): string | null {
  return error instanceof pg.DatabaseError ? (error.code ?? null) : null;
}

/**
 * An error that says that nothing was done. Not: a lost connection, and what the server sends while it
 * takes a connection away (class 08, 57P); a COMMIT under way may have happened then.
 */
function isRefusal(error: unknown): boolean {
  const state = sqlStateOf(error);
  return state !== null && !state.startsWith("08") && !state.startsWith("57P") && state !== "40003";
}
