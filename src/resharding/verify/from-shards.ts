import { sqlStateOf } from "../../backend/sql-client.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { SessionUse, Sides } from "../control/sides.js";
import { tableLabel } from "../copy/range-sql.js";
import { type StreamNumber, streamFrom, type TablePlan } from "../model/migration.js";
import { compareOmnisharded, describeDifference } from "./omnisharded-shards.js";

/** Who writes the table waits behind us as long as we wait, so not for long. */
const VERIFY_SHARDS: SessionUse = { purpose: "verify shards", lockTimeoutMs: 500 };
const LOCK_ATTEMPTS = 10;

/**
 * An omnisharded table over the shards that rows come from. Only the owner's rows count where they go (R13), so a
 * comparison of the sides would not see that the others have something else. Asked of the way back alone: there
 * every writer comes through the proxy, which keeps the shards the same; on the way forward preflight has compared
 * them, and the owner's rows are what the destination gets.
 * @returns what is wrong, without values; empty when the shards are the same
 */
export async function compareFromShards(
  sides: Sides,
  { stream, table }: { readonly stream: StreamNumber; readonly table: TablePlan },
): Promise<readonly string[]> {
  const side = streamFrom(stream);
  if (side === "source" || table.kind !== "omnisharded") return [];
  const clients = await sides.sessions(side, VERIFY_SHARDS);
  const named = { schema: table.schema, name: table.name, keyColumns: table.keyColumns ?? [] };
  for (let attempt = 1; attempt <= LOCK_ATTEMPTS; attempt++) {
    try {
      return (await compareOmnisharded(clients, [named])).map(describeDifference);
    } catch (error) {
      if (sqlStateOf(error) !== SQLSTATE.lockNotAvailable) throw error;
    }
  }
  return [`${tableLabel(table)}: not clean: its shards were written all the time`];
}
