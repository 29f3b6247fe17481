import { SluiceError } from "../../core/errors.js";

/** Tells a failure of a command on standard error: message, detail, hint; a stack for bugs of ours only. */
export function reportFailure(error: unknown): 1 {
  if (error instanceof SluiceError || isSystemError(error)) {
    process.stderr.write(`sluice: ${error.message}\n`);
    if (error instanceof SluiceError) {
      if (error.detail !== undefined) process.stderr.write(`detail: ${error.detail}\n`);
      if (error.hint !== undefined) process.stderr.write(`hint: ${error.hint}\n`);
    }
  } else {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    process.stderr.write(`sluice: ${text}\n`);
  }
  return 1;
}

/** Port taken, file missing, no right: the message says all. */
function isSystemError(error: unknown): error is Error {
  return error instanceof Error && "syscall" in error;
}
