import { sqlStateOf } from "../../backend/sql-client.js";
import type { SluiceError } from "../../core/errors.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { EngineContext } from "../context.js";
import type { SessionUse } from "./sides.js";

/** For locks on tables of applications: short, as everybody who comes after us in the queue waits with us (R26). */
export const TABLE_LOCK_TIMEOUT_MS: NonNullable<SessionUse["lockTimeoutMs"]> = 500;
const LOCK_ATTEMPTS = 10;

export interface LockedTable {
  /** Quoted. */
  readonly table: string;
  /** For the log: what waits for it. */
  readonly what: string;
  /** What is thrown when the lock was not to be had in ten attempts. */
  readonly timedOut: (cause: unknown) => SluiceError;
}

/** Repeats what needs a table's lock, in a session with a lock timeout. @throws what `timedOut` makes */
export async function withLockRetries(
  context: EngineContext,
  { table, what, timedOut }: LockedTable,
  act: () => Promise<void>,
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    context.signal.throwIfAborted();
    try {
      await act();
      return;
    } catch (error) {
      const state = sqlStateOf(error);
      // lock_not_available or deadlock_detected: somebody was there first.
      if (state !== SQLSTATE.lockNotAvailable && state !== SQLSTATE.deadlockDetected) throw error;
      if (attempt >= LOCK_ATTEMPTS) throw timedOut(error);
      context.log.info(`${what} waits for a table`, { table, attempt });
      context.heartbeat({ waitsFor: table });
    }
  }
}
