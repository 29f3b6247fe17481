import { SQLSTATE } from "../../core/sqlstate.js";
import { CLOSE_COMPLETE, encodeCommandComplete, READY } from "../../wire/backend.js";
import { encodeNotice } from "../../wire/error-fields.js";
import {
  type DecodedPipeline,
  type DecodedRequest,
  textsOf,
} from "../execution/decoded-request.js";
import { forgetStatement, type SessionState } from "../execution/session-state.js";
import type { StatementEffects } from "../execution/statement-effects.js";
import { answerFailedPipeline, FAILED, ROLLED_BACK } from "./failed-answers.js";

const AND_CHAIN = /\band\s+chain\b/i;
const NO_TRANSACTION = encodeNotice({
  severity: "WARNING",
  sqlState: SQLSTATE.noActiveSqlTransaction,
  message: "there is no transaction in progress",
});

export type LocalAnswer =
  /** A server must answer it. */
  | "none"
  | "answered"
  /** With an error in a pipeline: the rest of it is dropped up to Sync. */
  | "failed";

/**
 * Answers what needs no server, while none is at work for the session: BEGIN is put off until one is needed, what
 * ends a transaction that never began needs none, and one that failed without its server takes nothing but its end.
 */
export function answerLocally(request: DecodedRequest, state: SessionState): LocalAnswer {
  if (state.transaction === "failed") return answerFailed(request, state);
  switch (request.kind) {
    case "extended":
      return closesOnly(request, state) ? "answered" : "none";
    case "query":
      return answerControl(request, state) ? "answered" : "none";
    case "function":
      return "none";
  }
}

/** Of a transaction that failed and whose servers wait: whatever does not end it, and does not go back to a savepoint. */
export function isRefusedAsFailed(request: DecodedRequest, state: SessionState): boolean {
  if (state.transaction !== "failed") return false;
  const isWayOut = ({ kind }: StatementEffects) => WAYS_OUT.has(kind);
  const [first] = request.effects;
  if (first !== undefined) return !isWayOut(first);
  // Nothing that a server must do. Its own status is not that of the transaction: another shard has failed.
  return true;
}

const WAYS_OUT: ReadonlySet<StatementEffects["kind"]> = new Set([
  "rollback",
  "rollbackTo",
  "commit",
]);

function answerControl(
  { sql, effects }: Extract<DecodedRequest, { kind: "query" }>,
  state: SessionState,
): boolean {
  const [only] = effects;
  if (!only?.isPlainControl) return false;
  if (only.kind === "begin") {
    if (state.transaction === "begun" || state.mode === "statement") return false;
    state.transaction = "begun";
    state.beginSql = sql;
    const tag = /^\s*start/i.test(sql) ? "START TRANSACTION" : "BEGIN";
    state.client.write(Buffer.concat([encodeCommandComplete(tag), READY.T]));
    return true;
  }
  const tag = encodeCommandComplete(only.kind === "commit" ? "COMMIT" : "ROLLBACK");
  const before = state.transaction === "begun" ? [] : [NO_TRANSACTION];
  state.client.write(Buffer.concat([...before, tag, READY.I]));
  state.transaction = "none";
  return true;
}

/** A transaction that failed without a server (lost, refused): as PostgreSQL, all but its end is refused. */
function answerFailed(request: DecodedRequest, state: SessionState): LocalAnswer {
  if (request.kind === "extended") return answerFailedPipeline(request, state);
  const { effects } = request;
  const endsIt =
    effects.length > 0 && effects.every(({ kind }) => kind === "rollback" || kind === "commit");
  const isChained =
    endsIt && request.kind !== "function" && textsOf(request).some((sql) => AND_CHAIN.test(sql));
  const end = isChained ? READY.T : READY.I;
  if (endsIt) state.transaction = isChained ? "begun" : "none";
  state.client.write(endsIt ? Buffer.concat([ROLLED_BACK, end]) : Buffer.concat([FAILED, READY.E]));
  return "answered";
}

/** @returns whether closing statements, and a bare Sync, was all; then it is answered */
function closesOnly({ parts, end }: DecodedPipeline, state: SessionState): boolean {
  const names: string[] = [];
  for (const part of parts) {
    if (part.kind === "sync" || part.kind === "flush") continue;
    if (part.kind !== "close" || part.target !== "statement") return false;
    names.push(part.name);
  }
  // A kept connection may know names that we do not.
  if (state.tie !== null && names.some((name) => !state.statements.has(name))) return false;
  for (const name of names) forgetStatement(state, name);
  const answers = names.map(() => CLOSE_COMPLETE);
  if (end === "sync") answers.push(state.transaction === "begun" ? READY.T : READY.I);
  if (answers.length > 0) state.client.write(Buffer.concat(answers));
  return true;
}
