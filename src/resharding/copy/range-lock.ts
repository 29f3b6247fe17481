import type { SqlClient } from "../../backend/sql-client.js";
import type { EngineContext } from "../context.js";
import { takeOver } from "../control/takeover.js";
import type { CopyRangeInput } from "../model/activities.js";
import { CopyFailed } from "./copy-failed.js";

const TAKEOVER_TIMEOUT_MS = 30_000;

/**
 * Makes this transaction the only one that writes the range on this shard, until it ends.
 *
 * A predecessor is ended (`takeOver`). The lock is held by the session that holds the rows, so when the lock is
 * free the predecessor's rows are either committed or gone, and will not change any more.
 * @throws CopyFailed when the predecessor does not go
 */
export async function takeRangeLock(
  context: EngineContext,
  client: SqlClient,
  input: CopyRangeInput,
): Promise<void> {
  const name = `sluice.copy_range ${input.ref.id} ${input.sourceShard} ${input.schema}.${input.table} ${input.range}`;
  const isTaken = await takeOver(client, {
    name,
    until: "transaction",
    timeoutMs: TAKEOVER_TIMEOUT_MS,
    signal: context.signal,
    onEnded: (pid) =>
      context.log.warn("ended an earlier attempt to copy a range", { pid, range: input.range }),
  });
  if (isTaken) return;
  throw new CopyFailed(`an earlier attempt to copy range ${input.range} does not end`, {
    recovery: "retry",
    hint: 'Its session is in pg_stat_activity as "sluice copy"; is pg_terminate_backend allowed to us?',
  });
}
