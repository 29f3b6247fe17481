import { type ErrorFields, Signal, SluiceError } from "../core/errors.js";
import { parseSqlState, SQLSTATE, type SqlState } from "../core/sqlstate.js";
import { decodeErrorFields } from "../wire/error-fields.js";

/** A client's wish that is refused; the SQLSTATE says what kind. The session goes on. */
export class StatementRefused extends SluiceError {
  readonly code = "SLUICE_STATEMENT_REFUSED";
  readonly sqlState: SqlState;
  readonly recovery = "never";
  constructor(sqlState: SqlState, message: string, options: ErrorFields = {}) {
    super(message, options);
    this.sqlState = sqlState;
  }
}

/** The session cannot go on (R38): the client gets FATAL and connects anew. */
export class SessionEnded extends SluiceError {
  readonly code = "SLUICE_SESSION_ENDED";
  readonly sqlState: SqlState;
  readonly recovery = "retry";
  constructor(sqlState: SqlState, message: string, options: ErrorFields = {}) {
    super(message, options);
    this.sqlState = sqlState;
  }
}

/** A client that waited for a hold to end does so no longer. Nothing was sent. */
export class HoldGivenUp extends SluiceError {
  readonly code = "SLUICE_HOLD_GIVEN_UP";
  readonly sqlState = SQLSTATE.cannotConnectNow;
  readonly recovery = "retry";
  constructor(database: string, reason: string) {
    super(`database "${database}" is on hold: ${reason}`, {
      hint: "The statement was not sent to any server. Try again.",
    });
  }
}

/** What a server, or several, answered in the place of a result: relayed to the client as it is. */
export class StatementFailed extends SluiceError {
  readonly code = "SLUICE_STATEMENT_FAILED";
  readonly sqlState: SqlState;
  readonly recovery = "never";
  /** ErrorResponse */
  readonly frame: Buffer;
  /** The message of the extended protocol that it answers. */
  readonly phase: "parse" | "bind" | "execute";
  constructor(frame: Buffer, phase: StatementFailed["phase"] = "execute") {
    const fields = decodeErrorFields(frame);
    super(fields.get("M") ?? "failed");
    this.sqlState = parseSqlState(fields.get("C")) ?? SQLSTATE.internalError;
    this.frame = frame;
    this.phase = phase;
  }
}

/** The server's error has been forwarded already; what is left is to end the pipeline. */
export class AlreadyTold extends StatementRefused {
  constructor() {
    super(SQLSTATE.internalError, "already told");
  }
}

/** The Sync that was sent with a COPY came while it waited for data, which takes no notice of it: another will end it. */
export class FailedInCopy extends Signal {
  readonly failure: unknown;
  constructor(failure: unknown) {
    super("failed in COPY");
    this.failure = failure;
  }
}

/** The statement was routed by tables as they are no more. Nothing of it was done or shown: it is to be handled anew. */
export class TablesChanged extends Signal {
  constructor() {
    super("the tables have changed");
  }
}
