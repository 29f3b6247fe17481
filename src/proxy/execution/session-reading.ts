/** What a session was found to hold beside settings. */
export interface SessionFound {
  /** Why it cannot be given away as it is; null: it can. */
  readonly tie: string | null;
}

/**
 * Columns that say what a statement has left in its session whose text does not tell. Which settings were set within
 * the session is asked of PostgreSQL, which lists all but those with a dot in their name.
 */
export const FOUND_SQL: readonly string[] = [
  `(SELECT pg_catalog.json_object_agg(pg_catalog.lower(name), pg_catalog.current_setting(name))
      FROM pg_catalog.pg_settings WHERE source = 'session')`,
  `CASE WHEN pg_catalog.pg_my_temp_schema() = 0 THEN false ELSE
   EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema())
   OR EXISTS (SELECT FROM pg_catalog.pg_type WHERE typnamespace = pg_catalog.pg_my_temp_schema())
   OR EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace = pg_catalog.pg_my_temp_schema()) END`,
  `EXISTS (SELECT FROM pg_catalog.pg_locks
            WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid())`,
  "EXISTS (SELECT FROM pg_catalog.pg_listening_channels())",
  "EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)",
  "EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)",
];

const TIES = ["temporary object", "advisory lock", "LISTEN", "cursor WITH HOLD", "PREPARE"];

/** @param row the answer to FOUND_SQL, or nothing, which was not asked then */
export function foundOf(row: readonly (string | null)[]): SessionFound & {
  readonly settings: ReadonlyMap<string, string> | null;
} {
  if (row.length === 0) return { settings: null, tie: null };
  const listed: unknown = JSON.parse(row[0] ?? "{}");
  const settings = new Map(Object.entries(listed as Readonly<Record<string, string>>));
  const at = row.slice(1, FOUND_SQL.length).indexOf("t");
  return { settings, tie: TIES[at] ?? null };
}
