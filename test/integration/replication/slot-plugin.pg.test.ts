import { expect, it } from "vitest";
import { connectSql } from "../../../src/backend/sql-client.js";
import { ensureSlot } from "../../../src/replication/slot.js";
import { startPostgres } from "../../support/postgres.js";

// In a file of its own: not every package of PostgreSQL brings a second plugin.
it("R18: a slot of another plugin is not taken", async () => {
  await using server = await startPostgres();
  await server.sql(
    "postgres",
    "SELECT pg_create_logical_replication_slot('other', 'test_decoding')",
  );
  await using client = await connectSql(server.address("postgres"), { applicationName: "test" });
  const made = ensureSlot(client, "other", { timeoutMs: 5_000 });
  await expect(made).rejects.toMatchObject({ code: "SLUICE_SLOT_LOST" });
});
