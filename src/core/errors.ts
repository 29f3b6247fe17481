import type { RowEvidence } from "./row-evidence.js";
import { SQLSTATE, type SqlState } from "./sqlstate.js";

/** Who can make the next attempt succeed. */
export type Recovery =
  | "retry" // Time alone.
  | "operator" // A person.
  | "never"; // The input or our code is wrong.

/**
 * For tests, alerts and docs/errors.md. Never renamed or reused: one code, one meaning, one class (or one
 * workflow) that throws it. Every code has a heading in docs/errors.md, held to it by a test; add yours to the
 * list and to the page in the same commit.
 */
export const ERROR_CODES = [
  "SLUICE_CONFIG_INVALID",
  "SLUICE_CONFIG_NOT_SAVED",
  "SLUICE_CONFIG_CONTRADICTS_DECISION",
  "SLUICE_KEY_COLUMN_UNFIT",
  "SLUICE_SETTING_UNKNOWN",
  "SLUICE_SETTING_INVALID",
  "SLUICE_SCHEMA_OWNER_MISSING",
  "SLUICE_SCHEMA_OWNER_REFUSED",
  "SLUICE_ADMIN_SYNTAX_ERROR",
  "SLUICE_COMMAND_UNSUPPORTED",
  "SLUICE_CONFIRMATION_MISSING",
  "SLUICE_DATABASE_UNKNOWN",
  "SLUICE_SAME_DATABASE",
  "SLUICE_PUBLICATION_UNKNOWN",
  "SLUICE_PREFLIGHT_FAILED",
  "SLUICE_MIGRATION_EXISTS",
  "SLUICE_MIGRATION_UNKNOWN",
  "SLUICE_SCHEMA_STATEMENT_FAILED",
  "SLUICE_SCHEMA_DUMP_FAILED",
  "SLUICE_COPY_FAILED",
  "SLUICE_COPY_STREAM_MALFORMED",
  "SLUICE_SNAPSHOT_ON_STANDBY",
  "SLUICE_SLOT_LOST",
  "SLUICE_SLOT_EDGE_TIMED_OUT",
  "SLUICE_SLOT_CREATION_TIMED_OUT",
  "SLUICE_STREAM_UNSUPPORTED_CHANGE",
  "SLUICE_STREAM_MALFORMED",
  "SLUICE_TABLES_CHANGED",
  "SLUICE_TABLES_ADDED",
  "SLUICE_LANE_ROW_MISSING",
  "SLUICE_LANE_ROW_EXISTS",
  "SLUICE_LANE_TAKEN",
  "SLUICE_SERVER_IDENTITY_CHANGED",
  "SLUICE_MARKER_NOT_PASSED",
  "SLUICE_IDENTITY_LOCK_TIMED_OUT",
  "SLUICE_IDENTITY_DIFFERS",
  "SLUICE_GATE_LOCK_TIMED_OUT",
  "SLUICE_GATE_INCOMPLETE",
  "SLUICE_GATE_UNREADABLE",
  "SLUICE_BARRIER_TIMED_OUT",
  "SLUICE_DRAIN_TIMED_OUT",
  "SLUICE_KEYS_UNSETTLED",
  "SLUICE_SEQUENCES_UNSET",
  "SLUICE_HOLD_TIMED_OUT",
  "SLUICE_HOLD_GIVEN_UP",
  "SLUICE_DECISION_LOST",
  "SLUICE_NOT_READY",
  "SLUICE_TEMPORAL_UNREACHABLE",
  "SLUICE_TASK_UNKNOWN",
  "SLUICE_TASK_EXISTS",
  "SLUICE_NODE_NOT_ARMED",
  "SLUICE_STANDBY_NOT_READING",
  "SLUICE_SERVER_UNREACHABLE",
  "SLUICE_SERVER_REFUSED",
  "SLUICE_SERVER_CONNECTION_LOST",
  "SLUICE_POOL_RETIRED",
  "SLUICE_CHECKOUT_TIMED_OUT",
  "SLUICE_TWO_PHASE_UNAVAILABLE",
  "SLUICE_PROTOCOL_VIOLATION",
  "SLUICE_SESSION_ENDED",
  "SLUICE_STATEMENT_REFUSED",
  "SLUICE_STATEMENT_FAILED",
  "SLUICE_RESULT_UNMERGEABLE",
  "SLUICE_SCATTER_LIMIT_EXCEEDED",
  "SLUICE_COPY_DATA_UNROUTABLE",
  "SLUICE_ROWS_ELSEWHERE",
  "SLUICE_ROWS_REFERRED_TO",
  "SLUICE_COLUMNS_CHANGED",
  "SLUICE_ROW_NOT_MOVED",
  "SLUICE_ROWS_NOT_REPLAYED",
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/** What a client sees beside the message; none of it may hold values of a row (R56). */
export interface ErrorFields extends ErrorOptions {
  readonly detail?: string;
  /** What to do next. */
  readonly hint?: string;
  /** What may hold them, and no client sees. */
  readonly evidence?: RowEvidence | undefined;
}

/** Base of every error that we throw on purpose. Anything else that is thrown is a bug. */
export abstract class SluiceError extends Error {
  abstract readonly code: ErrorCode;
  abstract readonly sqlState: SqlState;
  abstract readonly recovery: Recovery;
  readonly detail: string | undefined;
  readonly hint: string | undefined;
  readonly evidence: RowEvidence | undefined;
  constructor(message: string, fields: ErrorFields = {}) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.detail = fields.detail;
    this.hint = fields.hint;
    this.evidence = fields.evidence;
  }
  override get name(): string {
    return this.constructor.name;
  }
}

/** Expected control flow that unwinds as an error does, and is none. Its message is ours. */
export abstract class Signal extends Error {}

/** A `[[databases]]` name that the configuration does not have. */
export class DatabaseUnknown extends SluiceError {
  readonly code = "SLUICE_DATABASE_UNKNOWN";
  readonly sqlState = SQLSTATE.invalidCatalogName;
  readonly recovery = "operator";
  constructor(database: string, options: ErrorFields = {}) {
    super(`database "${database}" is not configured`, {
      hint: "Names are those of [[databases]] in pgdog.toml; SHOW POOLS lists them.",
      ...options,
    });
  }
}

/** A server that we need cannot be reached now. */
export class ServerUnreachable extends SluiceError {
  readonly code = "SLUICE_SERVER_UNREACHABLE";
  readonly sqlState = SQLSTATE.connectionFailure;
  readonly recovery = "retry";
  constructor(server: string, options: ErrorFields = {}) {
    super(`cannot reach server ${server}`, options);
  }
}

/** The operation is right but its time has not come. */
export class NotReady extends SluiceError {
  readonly code = "SLUICE_NOT_READY";
  readonly sqlState = SQLSTATE.objectNotInPrerequisiteState;
  readonly recovery = "operator";
}
