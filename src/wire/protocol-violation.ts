import { type ErrorFields, SluiceError } from "../core/errors.js";
import { SQLSTATE } from "../core/sqlstate.js";

/** The other side sent bytes that are no protocol message, or one that is not allowed here. */
export class ProtocolViolation extends SluiceError {
  readonly code = "SLUICE_PROTOCOL_VIOLATION";
  readonly sqlState = SQLSTATE.protocolViolation;
  readonly recovery = "never";
  constructor(what: string, options: ErrorFields = {}) {
    super(`protocol violation: ${what}`, options);
  }
}
