import { NotReady } from "../../core/errors.js";
import type { EngineContext } from "../context.js";
import { connectEngine } from "../control/sides.js";
import type { MigrationRef } from "../model/migration.js";
import { removeGate } from "../switch/install-gates-step.js";

/**
 * Takes the fence from a side that a finalized migration left: applications may write it again, apart from the
 * side that serves. Only on a person's word (R36).
 * @throws NotReady when this database serves, or its migration is not finalized
 */
export async function unfence(context: EngineContext, database: string): Promise<number> {
  const cluster = context.cluster(database);
  let fences = 0;
  for (const address of cluster.shards) {
    await using client = await connectEngine(context, address, "unfence", { lockTimeoutMs: 500 });
    const fenced = await client.query<MigrationRef & { state: string }>(
      `SELECT m.id, m.source, m.destination, m.publication, m.state
         FROM sluice.gate g JOIN sluice.migration m ON m.id = g.migration WHERE NOT g.is_open`,
    );
    for (const { state, ...ref } of fenced.rows) {
      if (state !== "finalized") {
        throw new NotReady(`migration ${ref.id} of "${database}" is ${state}, not finalized`, {
          hint: "STOP_TASK <reverse task> finalizes; before that the fence is what keeps both sides apart.",
        });
      }
      await removeGate(client, { ref, context });
      fences++;
    }
  }
  return fences;
}
