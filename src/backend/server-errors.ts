import { type ErrorFields, SluiceError } from "../core/errors.js";
import { parseSqlState, SQLSTATE, type SqlState } from "../core/sqlstate.js";
import type { ErrorResponseFields } from "../wire/error-fields.js";

/** A server's own refusal of a connection, with its SQLSTATE. */
export class ServerRefused extends SluiceError {
  readonly code = "SLUICE_SERVER_REFUSED";
  readonly sqlState: SqlState;
  readonly recovery = "operator";
  readonly fields: ErrorResponseFields;
  constructor(server: string, fields: ErrorResponseFields) {
    super(`server ${server} refuses: ${fields.get("M") ?? "no message"}`, {
      hint: fields.get("H") ?? "Compare the server's user and password with users.toml.",
    });
    this.sqlState = parseSqlState(fields.get("C")) ?? SQLSTATE.serverRejectedConnection;
    this.fields = fields;
  }
}

/** The connection ended under a statement: whether that was executed is unknown. */
export class ServerConnectionLost extends SluiceError {
  readonly code = "SLUICE_SERVER_CONNECTION_LOST";
  readonly sqlState = SQLSTATE.connectionFailure;
  readonly recovery = "retry";
  constructor(server: string, options: ErrorFields = {}) {
    super(`connection to server ${server} lost`, {
      hint: "Whether the last statement was executed is not known. Look, then try again.",
      ...options,
    });
  }
}

/** No server connection became free in time. Nothing was sent. */
export class CheckoutTimedOut extends SluiceError {
  readonly code = "SLUICE_CHECKOUT_TIMED_OUT";
  readonly sqlState = SQLSTATE.tooManyConnections;
  readonly recovery = "retry";
  /** @param options a detail: why the pool could not grow to its size */
  constructor(pool: string, timeoutMs: number, size: number, options: ErrorFields = {}) {
    super(`no server connection of ${pool} became free in ${timeoutMs} ms`, {
      hint: options.detail
        ? "The server allows fewer connections than the pool may have. Raise max_connections there, or lower default_pool_size; trying again is safe."
        : `All ${size} are in use. Raise default_pool_size or shorten transactions; trying again is safe.`,
      ...options,
    });
  }
}

/** The pool's server is no longer part of the database. Nothing was sent: ask the pool that took its place. */
export class PoolRetired extends SluiceError {
  readonly code = "SLUICE_POOL_RETIRED";
  readonly sqlState = SQLSTATE.connectionFailure;
  readonly recovery = "retry";
  constructor(server: string) {
    super(`server ${server} is no longer part of this database`, { hint: "Try again." });
  }
}

/** `two_phase_commit = true`, and a server that was built up not to. Nothing has been committed. */
export class TwoPhaseUnavailable extends SluiceError {
  readonly code = "SLUICE_TWO_PHASE_UNAVAILABLE";
  readonly sqlState = SQLSTATE.objectNotInPrerequisiteState;
  readonly recovery = "operator";
  constructor(shard: number, server: string) {
    super(
      `two_phase_commit is true, and shard ${shard} (${server}) has max_prepared_transactions = 0`,
      {
        hint: 'Set max_prepared_transactions to max_connections there and restart that server, or two_phase_commit to "auto".',
      },
    );
  }
}
