import { ApplicationFailure } from "@temporalio/activity";
import { type Recovery, SluiceError } from "../src/core/errors.js";
import { SqlError } from "../src/core/sql-error.js";
import { tell } from "../src/core/tell.js";
import { isTransientState } from "../src/core/transient.js";

const PASSING_SYSTEM_ERRORS = ["ECONNREFUSED", "ECONNRESET", "EPIPE", "ETIMEDOUT", "EHOSTUNREACH"];

/** A failure that nobody planned is repeated this often before it waits for a person. */
const ATTEMPTS_AT_UNKNOWN = 5;

/**
 * What an activity throws, as Temporal keeps it: `type` is our code (or the SQLSTATE), the first detail has
 * hint and detail for people. Repeated by Temporal only where time alone may help. No cause, and no message that
 * is not ours: a history is kept for weeks, and read by more people than the rows are (R56).
 */
export function toFailure(error: unknown, attempt: number): ApplicationFailure {
  if (error instanceof ApplicationFailure) return error;
  const { type, recovery, hint, detail } = classify(error, attempt);
  return ApplicationFailure.create({
    message: tell(error),
    type,
    nonRetryable: recovery !== "retry",
    details: [{ hint, detail }],
  });
}

interface Classified {
  readonly type: string;
  readonly recovery: Recovery;
  readonly hint: string;
  readonly detail: string;
}

function classify(error: unknown, attempt: number): Classified {
  if (error instanceof SluiceError)
    return {
      type: error.code,
      recovery: error.recovery,
      hint: error.hint ?? "",
      detail: error.detail ?? "",
    };
  const code = codeOf(error);
  if (code !== null && isPassing(code))
    return { type: code, recovery: "retry", hint: "Repeated by itself.", detail: "" };
  return {
    type: code ?? (error instanceof Error ? error.name : "UNKNOWN"),
    recovery: attempt < ATTEMPTS_AT_UNKNOWN ? "retry" : "operator",
    hint:
      error instanceof SqlError && error.evidence !== undefined
        ? "SHOW EVIDENCE has what the server said of rows. Correct it, then retryStep, or abort."
        : "Not foreseen: see the log of the process that ran it, then retryStep or abort.",
    detail: "",
  };
}

/** SQLSTATE or system error code. */
function codeOf(error: unknown): string | null {
  if (typeof error !== "object" || error === null || !("code" in error)) return null;
  return typeof error.code === "string" ? error.code : null;
}

function isPassing(code: string): boolean {
  return isTransientState(code) || PASSING_SYSTEM_ERRORS.includes(code);
}
