import { InvariantBroken } from "./assert.js";
import { Signal, SluiceError } from "./errors.js";
import { isConnectionLost, SqlError } from "./sql-error.js";

/**
 * R56: what may be said of an error in a log, a failure or an answer. Messages of our own are made without
 * values; those of the runtime are not ("Cannot convert x to a BigInt" quotes a key), so what nobody foresaw
 * is told by its name and by where it happened.
 */
export function tell(error: unknown): string {
  if (isOurs(error) || isConnectionLost(error)) return error.message;
  if (!(error instanceof Error)) return "something was thrown that is no error";
  const [frame] = framesOf(error);
  return `${error.name}, which nobody foresaw${frame === undefined ? "" : `, ${frame}`}`;
}

/** The frames of its stack, innermost first. What stands before them is the message, and left out. */
export function framesOf(error: Error): readonly string[] {
  const { message, stack = "" } = error;
  const at = stack.indexOf(message);
  if (at < 0) return [];
  return stack
    .slice(at + message.length)
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line.startsWith("at "));
}

/** Aborted and timed-out signals are the runtime's, with messages that are always the same. */
function isOurs(error: unknown): error is Error {
  if (error instanceof SluiceError || error instanceof SqlError) return true;
  if (error instanceof InvariantBroken || error instanceof Signal) return true;
  return error instanceof Error && ["AbortError", "TimeoutError"].includes(error.name);
}
