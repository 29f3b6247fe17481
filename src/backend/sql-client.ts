import { setMaxListeners } from "node:events";
import pg from "pg";
import { ServerUnreachable } from "../core/errors.js";
import { SqlError } from "../core/sql-error.js";
import type { SqlState } from "../core/sqlstate.js";
import { tell } from "../core/tell.js";
import { describeAddress, type ServerAddress } from "./address.js";

/**
 * A connection for our own statements (not for client traffic), `await using` closes it. What the server refuses
 * comes as SqlError: this is the only door of the server's own words into the engine (R56).
 */
export type SqlClient = pg.Client & AsyncDisposable;

export interface SqlClientOptions {
  /** Shown in pg_stat_activity; begins with "sluice" by habit. */
  readonly applicationName: string;
  readonly connectTimeoutMs?: number;
  readonly statementTimeoutMs?: number;
  readonly lockTimeoutMs?: number;
  /** Ends the connection, which fails its running statement, when aborted. */
  readonly signal?: AbortSignal;
  /** More settings, as `name: value`. */
  readonly settings?: Readonly<Record<string, string>>;
}

const CONNECT_TIMEOUT_MS = 5_000;

/**
 * Opens a session that does not depend on the defaults of role and database:
 * - `synchronous_commit = on` (R28): with the default off, a crash took a committed decision back;
 * - `row_security = off` (R7): a policy is an error and not a filter;
 * - no timeout that would end us in the middle; text output settings as logical replication fixes them.
 * @throws ServerUnreachable with the cause, when no connection comes about
 */
export async function connectSql(
  address: ServerAddress,
  options: SqlClientOptions,
): Promise<SqlClient> {
  options.signal?.throwIfAborted();
  const client = new pg.Client({
    host: address.host,
    port: address.port,
    database: address.database,
    user: address.user,
    ...(address.password === null ? {} : { password: address.password }),
    application_name: options.applicationName,
    connectionTimeoutMillis: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
    keepAlive: true,
    options: sessionOptions(options),
  });
  // An idle connection that breaks must not end the process; the next statement fails and says so.
  client.on("error", () => {});
  const giveUp = () => destroySocket(client);
  options.signal?.addEventListener("abort", giveUp, { once: true });
  try {
    await client.connect();
  } catch (error) {
    options.signal?.throwIfAborted();
    const cause = asSqlError(error);
    throw new ServerUnreachable(describeAddress(address), { cause, detail: tell(cause) });
  } finally {
    options.signal?.removeEventListener("abort", giveUp);
  }
  // Aborted as it came about: the listener below would never be called.
  if (options.signal?.aborted === true) {
    destroySocket(client);
    options.signal.throwIfAborted();
  }
  return disposable(client, options.signal);
}

function sessionOptions(options: SqlClientOptions): string {
  const settings: Record<string, string> = {
    synchronous_commit: "on",
    row_security: "off",
    search_path: "pg_catalog",
    statement_timeout: String(options.statementTimeoutMs ?? 0),
    lock_timeout: String(options.lockTimeoutMs ?? 0),
    idle_in_transaction_session_timeout: "0",
    datestyle: "ISO",
    intervalstyle: "postgres",
    timezone: "UTC",
    extra_float_digits: "3",
    bytea_output: "hex",
    ...options.settings,
  };
  return Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value.replaceAll(/([\\ ])/g, "\\$1")}`)
    .join(" ");
}

function disposable(client: pg.Client, signal: AbortSignal | undefined): SqlClient {
  // Destroying the socket, not asking politely: a running statement would make end() wait for it.
  const abort = () => destroySocket(client);
  // Every session of an attempt listens to the attempt's signal, and a switch has many.
  if (signal) setMaxListeners(0, signal);
  signal?.addEventListener("abort", abort, { once: true });
  client.once("end", () => signal?.removeEventListener("abort", abort));
  return Object.assign(client, {
    query: throughTheDoor(client),
    [Symbol.asyncDispose]: async () => {
      signal?.removeEventListener("abort", abort);
      await client.end().catch(() => {});
    },
  });
}

function destroySocket(client: pg.Client): void {
  // `connection` is public in pg's JavaScript and in wide use, but not in its typings.
  const { connection } = client as unknown as { connection: { stream: { destroy(): void } } };
  connection.stream.destroy();
}

/** As `client.query`, but a server's error is one of ours. A submitted query is handed its errors by itself. */
function throughTheDoor(client: pg.Client): pg.Client["query"] {
  const query = client.query.bind(client) as (...input: unknown[]) => unknown;
  const through = (...input: unknown[]): unknown => {
    const answer = query(...input);
    return answer instanceof Promise ? orSqlError(answer) : answer;
  };
  return through as pg.Client["query"];
}

async function orSqlError(answer: Promise<unknown>): Promise<unknown> {
  try {
    return await answer;
  } catch (error) {
    throw asSqlError(error);
  }
}

/** What `pg` hands out when the server has sent an error; all else comes back as it is. */
export function asSqlError<E>(error: E): E | SqlError {
  return error instanceof pg.DatabaseError ? new SqlError(error) : error;
}

/** SQLSTATE of an error that PostgreSQL sent, else null. */
export function sqlStateOf(error: unknown): SqlState | null {
  return error instanceof SqlError ? error.code : null;
}
