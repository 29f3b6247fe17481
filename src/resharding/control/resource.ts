import type { SqlClient } from "../../backend/sql-client.js";
import type { MigrationRef } from "../model/migration.js";

/** Writes down what is about to be made. Second run: the same row. */
export async function noteResource(
  client: SqlClient,
  ref: MigrationRef,
  resource: { readonly kind: "slot" | "publication" | "origin"; readonly name: string },
): Promise<void> {
  await client.query(
    "INSERT INTO sluice.resource (migration, kind, name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    [ref.id, resource.kind, resource.name],
  );
}

/** @throws what tells a missing control schema, when the migration never was here */
export async function forgetResource(
  client: SqlClient,
  ref: MigrationRef,
  name: string,
): Promise<void> {
  await client.query("DELETE FROM sluice.resource WHERE migration = $1 AND name = $2", [
    ref.id,
    name,
  ]);
}
