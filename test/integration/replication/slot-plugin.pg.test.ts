import { expect, it } from "vitest";
import { ensureSlot } from "../../../src/replication/slot.js";
import { startPostgres } from "../../support/postgres.js";

// In a file of its own: not every package of PostgreSQL brings a second plugin.
it("R18: a slot of another plugin is not taken", async () => {
  await using server = await startPostgres();
  await server.sql(
    "postgres",
    "SELECT pg_create_logical_replication_slot('other', 'test_decoding')",
  );
  const options = { timeoutMs: 5_000, signal: new AbortController().signal };
  const made = ensureSlot(server.address("postgres"), "other", options);
  await expect(made).rejects.toMatchObject({ code: "SLUICE_SLOT_LOST" });
});
