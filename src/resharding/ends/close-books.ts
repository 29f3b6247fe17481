import { forgetEvidence } from "../control/evidence.js";
import type { MigrationRef } from "../model/migration.js";

/** Frees the tables for the next migration; the row and its decisions stay for nodes that boot (R32). */
export async function closeBooks(
  client: { query(text: string, values: unknown[]): Promise<unknown> },
  ref: MigrationRef,
  state: "aborted" | "finalized",
): Promise<void> {
  await client.query("DELETE FROM sluice.moving_table WHERE migration = $1", [ref.id]);
  await client.query("DELETE FROM sluice.copy_chunk WHERE migration = $1", [ref.id]);
  await forgetEvidence(client, { ref });
  await client.query("UPDATE sluice.migration SET state = $2 WHERE id = $1", [ref.id, state]);
}
