import { SQLSTATE } from "./sqlstate.js";

/** Classes where time alone may help: connection, rollback, resources, an operator's hand, the system. */
const CLASSES: readonly string[] = ["08", "40", "53", "57", "58"];
const STATES: readonly string[] = [SQLSTATE.objectInUse, SQLSTATE.lockNotAvailable];

/** Whether PostgreSQL's refusal may be gone at the next attempt, without anybody's help. */
export function isTransientState(sqlState: string): boolean {
  return (
    STATES.includes(sqlState) || (sqlState.length === 5 && CLASSES.includes(sqlState.slice(0, 2)))
  );
}
