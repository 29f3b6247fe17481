import { SQLSTATE } from "../../core/sqlstate.js";
import {
  BIND_COMPLETE,
  CLOSE_COMPLETE,
  encodeCommandComplete,
  NO_DATA,
  PARSE_COMPLETE,
  READY,
} from "../../wire/backend.js";
import { encodeError } from "../../wire/error-fields.js";
import { decodeTarget, FRONTEND } from "../../wire/frontend.js";
import type { SendRequest } from "../single/single-executor.js";
import { forgetStatement } from "./extended-translation.js";
import type { SessionState } from "./session-state.js";
import type { StatementEffects } from "./statement-effects.js";

type ExtendedRequest = Extract<SendRequest, { kind: "extended" }>;

const FAILED = encodeError({
  sqlState: SQLSTATE.inFailedSqlTransaction,
  message: "current transaction is aborted, commands ignored until end of transaction block",
});
const ROLLED_BACK = encodeCommandComplete("ROLLBACK");

/**
 * A transaction that failed without a server (lost, refused): as PostgreSQL, everything but its end is
 * refused.
 * @returns whether a pipeline goes on after an error, so that the rest is dropped up to Sync
 */
export function answerFailed(
  request: SendRequest,
  effects: readonly StatementEffects[],
  state: SessionState,
): boolean {
  const endsIt =
    effects.length > 0 && effects.every(({ kind }) => kind === "rollback" || kind === "commit");
  if (request.kind !== "extended") {
    if (endsIt) state.transaction = "none";
    state.client.write(
      endsIt ? Buffer.concat([ROLLED_BACK, READY.I]) : Buffer.concat([FAILED, READY.E]),
    );
    return false;
  }
  const out: Buffer[] = [];
  let hasFailed = false;
  for (const { type } of request.messages) {
    if (type === FRONTEND.sync) {
      if (endsIt && !hasFailed) state.transaction = "none";
      out.push(endsIt && !hasFailed ? READY.I : READY.E);
      hasFailed = false;
    } else if (hasFailed) continue;
    else if (endsIt || type === FRONTEND.close) out.push(answerOf(type));
    else if (type !== FRONTEND.flush) {
      out.push(FAILED);
      hasFailed = true;
    }
  }
  state.client.write(Buffer.concat(out));
  return hasFailed;
}

function answerOf(type: number): Buffer {
  switch (type) {
    case FRONTEND.parse:
      return PARSE_COMPLETE;
    case FRONTEND.bind:
      return BIND_COMPLETE;
    case FRONTEND.describe:
      return NO_DATA;
    case FRONTEND.close:
      return CLOSE_COMPLETE;
    case FRONTEND.execute:
      return ROLLED_BACK;
    default:
      return Buffer.alloc(0);
  }
}

/**
 * Closing statements, and a bare Sync, need no server.
 * @returns whether that was all, and is answered
 */
export function closesOnly(request: ExtendedRequest, state: SessionState): boolean {
  const names: string[] = [];
  for (const { type, frame } of request.messages) {
    if (type === FRONTEND.sync || type === FRONTEND.flush) continue;
    if (type !== FRONTEND.close) return false;
    const { target, name } = decodeTarget(frame);
    if (target !== "statement") return false;
    names.push(name);
  }
  // A kept connection may know names that we do not.
  if (state.tie !== null && names.some((name) => !state.statements.has(name))) return false;
  for (const name of names) forgetStatement(state, name);
  const answers = names.map(() => CLOSE_COMPLETE);
  if (request.end === "sync") answers.push(state.transaction === "begun" ? READY.T : READY.I);
  if (answers.length > 0) state.client.write(Buffer.concat(answers));
  return true;
}
