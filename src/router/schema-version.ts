// Every change of a catalog's row leaves another row version, with a younger transaction id in xmin: as long as their
// number and the sum of these are the same, so are the rows. VACUUM changes neither, statistics are written in place.
// Temporary tables are left out, as in the facts.
const of = (kind: number, catalog: string, relation: string) =>
  `UNION ALL SELECT ${kind}, x.xmin FROM pg_catalog.${catalog} x JOIN own ON own.oid = x.${relation}`;

/**
 * One row, one column `version`: text that is another one after any change of what SCHEMA_FACTS_SQL reads, by whomever
 * it was made. Takes 4 ms with 20 tables, 9 ms with 400, in a new session of psql, and no lock but those of reading the catalogs.
 */
export const SCHEMA_VERSION_SQL = `
WITH own AS (
  SELECT c.oid, c.xmin FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%'
    AND n.nspname NOT IN ('information_schema', 'sluice')),
seen(kind, xmin) AS (
  SELECT 1, xmin FROM own
  ${of(2, "pg_attribute", "attrelid")} WHERE x.attnum > 0
  ${of(3, "pg_attrdef", "adrelid")}
  ${of(4, "pg_constraint", "conrelid")}
  ${of(5, "pg_index", "indrelid")}
  ${of(6, "pg_trigger", "tgrelid")}
  ${of(7, "pg_rewrite", "ev_class")}
  ${of(8, "pg_inherits", "inhrelid")}
  UNION ALL SELECT 9, p.xmin FROM pg_catalog.pg_proc p WHERE p.oid >= 16384
  UNION ALL SELECT 10, y.xmin FROM pg_catalog.pg_type y WHERE y.typtype IN ('e', 'd') AND y.oid >= 16384
  UNION ALL SELECT 11, e.xmin FROM pg_catalog.pg_enum e
  UNION ALL SELECT 12, l.xmin FROM pg_catalog.pg_collation l WHERE l.oid >= 16384
  UNION ALL SELECT 13, n.xmin FROM pg_catalog.pg_namespace n WHERE n.nspname NOT LIKE 'pg\\_%')
SELECT pg_catalog.string_agg(
  pg_catalog.concat_ws(':', s.kind, s.rows, s.sum), ' ' ORDER BY s.kind) AS version
FROM (
  SELECT kind, pg_catalog.count(*) AS rows, pg_catalog.sum(xmin::pg_catalog.text::pg_catalog.int8) AS sum
  FROM seen GROUP BY kind) s`;
