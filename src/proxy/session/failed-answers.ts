import { assertNever } from "../../core/assert.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import {
  BIND_COMPLETE,
  CLOSE_COMPLETE,
  encodeCommandComplete,
  NO_DATA,
  NO_PARAMETERS,
  PARSE_COMPLETE,
  READY,
} from "../../wire/backend.js";
import { encodeError } from "../../wire/error-fields.js";
import type { DecodedPipeline, PipelinePart } from "../execution/decoded-request.js";
import type { PreparedStatement } from "../execution/prepared-statements.js";
import { forgetStatement, type SessionState } from "../execution/session-state.js";

export const FAILED = encodeError({
  sqlState: SQLSTATE.inFailedSqlTransaction,
  message: "current transaction is aborted, commands ignored until end of transaction block",
});
const NO_STATEMENT = encodeError({
  sqlState: SQLSTATE.invalidSqlStatementName,
  message: "prepared statement does not exist",
});
const DUPLICATE_STATEMENT = encodeError({
  sqlState: SQLSTATE.duplicatePreparedStatement,
  message: "prepared statement already exists",
});
const NO_PORTAL = encodeError({
  sqlState: SQLSTATE.invalidCursorName,
  message: "portal does not exist",
});
const ERRORS: ReadonlySet<Buffer> = new Set([FAILED, NO_STATEMENT, DUPLICATE_STATEMENT, NO_PORTAL]);
export const ROLLED_BACK = encodeCommandComplete("ROLLBACK");
const NOTHING = Buffer.alloc(0);
const AND_CHAIN = /\band\s+chain\b/i;

/**
 * A pipeline in a transaction that failed and has no server any more, message by message as PostgreSQL does it: what ends
 * the transaction can be prepared, described, bound and executed, also in pipelines of their own (drivers prepare ROLLBACK),
 * statements can be closed, and all else is refused up to Sync.
 * @returns "failed" when the rest of it, up to a Sync that is to come, is dropped
 */
export function answerFailedPipeline(
  { parts }: DecodedPipeline,
  state: SessionState,
): "answered" | "failed" {
  const out: Buffer[] = [];
  const portals = new Map<string, PreparedStatement>();
  let hasFailed = false;
  for (const part of parts) {
    if (part.kind === "sync") hasFailed = false;
    if (hasFailed) continue;
    const answer = answerOf(part, state, portals);
    hasFailed = ERRORS.has(answer);
    out.push(answer);
  }
  state.client.write(Buffer.concat(out));
  return hasFailed ? "failed" : "answered";
}

function statusOf({ transaction }: SessionState): "I" | "T" | "E" {
  if (transaction === "failed") return "E";
  return transaction === "none" ? "I" : "T";
}

function answerOf(
  part: PipelinePart,
  state: SessionState,
  portals: Map<string, PreparedStatement>,
): Buffer {
  switch (part.kind) {
    case "parse": {
      const { name, statement } = part;
      if (!isWayOut(statement)) return FAILED;
      if (name !== "") {
        if (state.statements.has(name)) return DUPLICATE_STATEMENT;
        state.registry.take(statement);
      }
      state.statements.set(name, statement);
      return PARSE_COMPLETE;
    }
    case "bind": {
      const statement = state.statements.get(part.statementName);
      if (!statement) return NO_STATEMENT;
      if (!isEnd(statement)) return FAILED;
      portals.set(part.portal, statement);
      return BIND_COMPLETE;
    }
    case "describe": {
      const isStatement = part.target === "statement";
      const known = (isStatement ? state.statements : portals).get(part.name);
      if (!known) return isStatement ? NO_STATEMENT : NO_PORTAL;
      if (!isWayOut(known)) return FAILED;
      return isStatement ? Buffer.concat([NO_PARAMETERS, NO_DATA]) : NO_DATA;
    }
    case "close":
      if (part.target === "statement") forgetStatement(state, part.name);
      else portals.delete(part.name);
      return CLOSE_COMPLETE;
    case "execute": {
      const statement = portals.get(part.portal);
      if (!statement) return NO_PORTAL;
      // With it its portals are gone.
      portals.clear();
      state.transaction = AND_CHAIN.test(statement.sql) ? "begun" : "none";
      return ROLLED_BACK;
    }
    case "sync":
      return READY[statusOf(state)];
    case "flush":
      return NOTHING;
    default:
      return assertNever(part, "part of a pipeline");
  }
}

function isEnd({ effects }: PreparedStatement): boolean {
  return effects.kind === "rollback" || effects.kind === "commit";
}

/** Going back to a savepoint can be prepared; only a server can do it. */
function isWayOut(statement: PreparedStatement): boolean {
  return isEnd(statement) || statement.effects.kind === "rollbackTo";
}
