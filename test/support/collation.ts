import type { PostgresServer } from "./postgres.js";

/** ICU's root first, as nothing orders as it does; a server that was built without ICU has others. */
const CANDIDATES = ["und-x-icu", "pg_c_utf8", "en_US.utf8", "POSIX"];

/** @returns quoted name of a collation that is not the databases' default, which is "C" */
export async function otherCollation(server: PostgresServer): Promise<string> {
  const rows = await server.sql(
    "postgres",
    "SELECT collname AS name FROM pg_collation WHERE collname = ANY ($1) ORDER BY array_position($1, collname::text)",
    [CANDIDATES],
  );
  return `"${String(rows[0]?.name)}"`;
}
