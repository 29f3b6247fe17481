import type { ServerConnection } from "../../backend/server-connection.js";
import { ServerConnectionLost } from "../../backend/server-errors.js";
import type { DecodedRequest } from "../execution/decoded-request.js";

// What a server's session holds that cannot be made again elsewhere.
const UNBUILDABLE = `SELECT
  EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid()),
  EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema())
    OR EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace = pg_catalog.pg_my_temp_schema())
    OR EXISTS (SELECT FROM pg_catalog.pg_type WHERE typnamespace = pg_catalog.pg_my_temp_schema()),
  EXISTS (SELECT FROM pg_catalog.pg_listening_channels()),
  EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable),
  EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)`;
const NAMES = ["advisory lock", "temporary table", "LISTEN", "cursor WITH HOLD", "PREPARE"];

/**
 * Asks a server's session, outside of a transaction, for what ties a client to it; null: nothing.
 * Gone with its server: null, and what statements told us must do.
 */
export async function unbuildableState(server: ServerConnection): Promise<string | null> {
  try {
    const { rows } = await server.query(UNBUILDABLE);
    const found = rows[0]?.indexOf("t") ?? -1;
    return found < 0 ? null : (NAMES[found] ?? null);
  } catch (error) {
    if (error instanceof ServerConnectionLost) return null;
    throw error;
  }
}

/** Whether the catalogs tell that a tie's reason is over. Where not it holds until DISCARD ALL. */
export function isTellable(tie: string): boolean {
  return !/^(?:session authorization|set_config|LOAD)/.test(tie);
}

const MAY_UNTIE =
  /\b(?:unlisten|drop|pg_advisory_unlock\w*|deallocate|close|discard|commit|end|rollback|abort)\b/i;

/**
 * When to ask whether a tie's reason still holds: after a statement that may have ended it, and else after 1, 2, 4, 8,
 * ... transactions, so that what ended unseen (ON COMMIT DROP, inside a function) is found, at a price that is none.
 */
export class TieWatch {
  #transactions = 0;
  #nextAt = 1;

  /** A tie has begun, or another one. */
  restart(): void {
    this.#transactions = 0;
    this.#nextAt = 1;
  }

  /** After a transaction, with its last request. */
  isDue(tie: string, request: DecodedRequest): boolean {
    if (!isTellable(tie)) return false;
    this.#transactions++;
    if (mayUntie(request)) return true;
    if (this.#transactions < this.#nextAt) return false;
    this.#nextAt *= 2;
    return true;
  }
}

function mayUntie(request: DecodedRequest): boolean {
  if (request.kind === "query") return MAY_UNTIE.test(request.sql);
  if (request.kind === "function") return false;
  return request.parts.some(
    (part) => part.kind === "bind" && part.statement && MAY_UNTIE.test(part.statement.sql),
  );
}
