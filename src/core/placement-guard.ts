/** The name of the CHECK by which PostgreSQL refuses rows of other shards, one per table: what pg_dump and `\d` show. */
export const PLACEMENT_GUARD = "sluice_placement";
