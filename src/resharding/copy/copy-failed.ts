import { type ErrorFields, type Recovery, SluiceError } from "../../core/errors.js";
import { SqlError } from "../../core/sql-error.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import { tell } from "../../core/tell.js";
import { isTransientState } from "../../core/transient.js";

/** A range could not be copied. Nothing of it is counted as done; a repeat begins with deleting it. */
export class CopyFailed extends SluiceError {
  readonly code = "SLUICE_COPY_FAILED";
  readonly sqlState = SQLSTATE.objectNotInPrerequisiteState;
  readonly recovery: Recovery;
  constructor(message: string, fields: ErrorFields & { readonly recovery: Recovery }) {
    super(message, fields);
    this.recovery = fields.recovery;
  }
}

/** R6: a standby's snapshot lists no running transaction, so it cannot be merged with the stream. */
export class SnapshotOnStandby extends SluiceError {
  readonly code = "SLUICE_SNAPSHOT_ON_STANDBY";
  readonly sqlState = SQLSTATE.objectNotInPrerequisiteState;
  readonly recovery = "operator";
  constructor(server: string) {
    super(`${server} is a standby: its snapshots do not list running transactions`, {
      hint: "Name the primary in [[databases]]; after a failover there, start the migration again.",
    });
  }
}

/** PostgreSQL's error as one of ours, with the table's name; anything that is ours already stays. */
export function toCopyFailed(error: unknown, what: string): unknown {
  if (error instanceof SluiceError) return error;
  if (!(error instanceof Error)) return error;
  const sent = error instanceof SqlError ? error : null;
  const state = sent?.code ?? null;
  const isTransient = state === null || isTransientState(state);
  const seen =
    sent?.evidence === undefined ? "" : " SHOW EVIDENCE has what the server said of rows.";
  return new CopyFailed(`copy of ${what} failed: ${tell(error)}`, {
    recovery: isTransient ? "retry" : "operator",
    cause: error,
    hint: `${hintOf(state)}${seen}`,
    evidence: sent?.evidence,
  });
}

function hintOf(state: string | null): string {
  if (state === SQLSTATE.insufficientPrivilege)
    return "A right is missing, or row security would hide rows: the schema admin needs SELECT and BYPASSRLS where rows are read, INSERT and session_replication_role where they are written.";
  if (state === SQLSTATE.uniqueViolation)
    return "The destination holds rows that this copy did not write: is it empty but for ours?";
  if (state === SQLSTATE.protocolViolation || state === SQLSTATE.invalidBinaryRepresentation)
    return 'Column types differ: resharding_copy_format = "text" converts where binary cannot.';
  return "The range is copied again from its beginning at the next attempt.";
}
