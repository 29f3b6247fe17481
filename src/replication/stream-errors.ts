import { type ErrorFields, SluiceError } from "../core/errors.js";
import { SQLSTATE } from "../core/sqlstate.js";

/** The slot is missing, its WAL is gone, or it is not the one that the lanes were fed from (R18). */
export class SlotLost extends SluiceError {
  readonly code = "SLUICE_SLOT_LOST";
  readonly sqlState = SQLSTATE.objectNotInPrerequisiteState;
  readonly recovery = "operator";
  constructor(slot: string, why: string, options: ErrorFields = {}) {
    super(`replication slot "${slot}" cannot be used any more: ${why}`, {
      hint: "What the slot has not delivered is gone. Abort the migration and start it again; max_slot_wal_keep_size may be too small.",
      ...options,
    });
  }
}

/** Creating a slot waits for every transaction of the cluster that was open when it began. */
export class SlotCreationTimedOut extends SluiceError {
  readonly code = "SLUICE_SLOT_CREATION_TIMED_OUT";
  readonly sqlState = SQLSTATE.lockNotAvailable;
  readonly recovery = "retry";
  constructor(slot: string, waitsFor: string, options: ErrorFields = {}) {
    super(`slot "${slot}" was not created in time, it waits for ${waitsFor}`, {
      hint: "A new slot waits for all transactions that were open before it, in every database of the server. Let them end, or end them.",
      ...options,
    });
  }
}

/** A commit before the slot's first position may still be invisible: no range may be read yet (R2). */
export class SlotEdgeTimedOut extends SluiceError {
  readonly code = "SLUICE_SLOT_EDGE_TIMED_OUT";
  readonly sqlState = SQLSTATE.lockNotAvailable;
  readonly recovery = "retry";
  constructor(server: string, waitsFor: string, options: ErrorFields = {}) {
    super(`transactions older than the slot did not end in time on ${server}: ${waitsFor}`, {
      hint: "The copy begins only when they have ended, or rows would be in neither copy nor stream. Let them end, or end them.",
      ...options,
    });
  }
}

/** The stream carries what we do not apply. The lane goes no further, so nothing is skipped. */
export class StreamUnsupportedChange extends SluiceError {
  readonly code = "SLUICE_STREAM_UNSUPPORTED_CHANGE";
  readonly sqlState = SQLSTATE.featureNotSupported;
  readonly recovery = "operator";
}

/** The bytes are not what pgoutput writes. */
export class StreamMalformed extends SluiceError {
  readonly code = "SLUICE_STREAM_MALFORMED";
  readonly sqlState = SQLSTATE.protocolViolation;
  readonly recovery = "never";
  constructor(what: string, options: ErrorFields = {}) {
    super(`malformed replication stream: ${what}`, options);
  }
}

/** R17: an update or a delete found no row. */
export class LaneRowMissing extends SluiceError {
  readonly code = "SLUICE_LANE_ROW_MISSING";
  readonly sqlState = SQLSTATE.cardinalityViolation;
  readonly recovery = "operator";
}

/** R17: an insert met a row. */
export class LaneRowExists extends SluiceError {
  readonly code = "SLUICE_LANE_ROW_EXISTS";
  readonly sqlState = SQLSTATE.cardinalityViolation;
  readonly recovery = "operator";
}

/** The predecessor of this lane did not end (R16). */
export class LaneTaken extends SluiceError {
  readonly code = "SLUICE_LANE_TAKEN";
  readonly sqlState = SQLSTATE.objectInUse;
  readonly recovery = "retry";
}

/** R18: another server, or another history of it, answers at this address. */
export class ServerIdentityChanged extends SluiceError {
  readonly code = "SLUICE_SERVER_IDENTITY_CHANGED";
  readonly sqlState = SQLSTATE.objectNotInPrerequisiteState;
  readonly recovery = "operator";
  constructor(server: string, was: string, is: string, options: ErrorFields = {}) {
    super(`server ${server} is not the one that the stream was made on: was ${was}, is ${is}`, {
      hint: "After a failover the stream is void: before the switch abort and start again; after it, rollback is not possible.",
      ...options,
    });
  }
}
