import type { SqlClient } from "../../backend/sql-client.js";
import { quoteIdentifier, quoteQualified } from "../../core/identifier.js";

interface QualifiedName {
  readonly schema: string;
  readonly name: string;
}

/** A column of a moving table that takes its values from a sequence as they are. */
export interface FedColumn {
  readonly schema: string;
  /** The root of a partitioned table: `max()` over it sees all leaves. */
  readonly table: string;
  readonly column: string;
  /** Of its range; a value beyond it cannot be in the column. */
  readonly type: "smallint" | "integer" | "bigint" | "numeric";
  /** The highest and the lowest value are at an end of an index. */
  readonly isIndexed: boolean;
  /** Of an identity column: PostgreSQL finds its sequence by the column, whatever its name. */
  readonly isIdentity: boolean;
}

/** Why a sequence stays where it is; "travels" it does otherwise. */
export type SequenceFate = "travels" | "its table stays" | "belongs to an extension";

export interface SequenceFacts extends QualifiedName {
  readonly oid: number;
  readonly fate: SequenceFate;
  readonly type: "smallint" | "integer" | "bigint";
  readonly start: bigint;
  readonly increment: bigint;
  readonly min: bigint;
  readonly max: bigint;
  readonly cache: bigint;
  readonly cycles: boolean;
  /** It feeds a moving table in some way, as it is or in an expression. */
  readonly isFeeding: boolean;
  readonly columns: readonly FedColumn[];
}

interface SequenceRow extends Omit<SequenceFacts, "start" | "increment" | "min" | "max" | "cache"> {
  readonly start: string;
  readonly increment: string;
  readonly min: string;
  readonly max: string;
  readonly cache: string;
}

/**
 * Every sequence of the database (R49), not only those that a default names: application code calls `nextval`
 * too. One stays that belongs to a table that stays, or to an extension; temporary ones and ours are not named.
 * @param tables the moving ones, leaves of partitioned tables; tables above them count as moving
 */
export async function readSequences(
  client: SqlClient,
  tables: readonly QualifiedName[],
): Promise<readonly SequenceFacts[]> {
  const { rows } = await client.query<SequenceRow>(SEQUENCES, [
    tables.map((table) => table.schema),
    tables.map((table) => table.name),
  ]);
  return rows.map((row) => ({
    ...row,
    start: BigInt(row.start),
    increment: BigInt(row.increment),
    min: BigInt(row.min),
    max: BigInt(row.max),
    cache: BigInt(row.cache),
  }));
}

/**
 * A feed is plain when the column takes what `nextval` gives: an identity, a default that is `nextval` and
 * nothing else, or an owner without a default (frameworks that call it themselves). Only then has the column's
 * highest value to do with the sequence's.
 */
const SEQUENCES = `WITH RECURSIVE
  moving(oid) AS (
    SELECT c.oid FROM unnest($1::text[], $2::text[]) AS t(schema_name, table_name)
      JOIN pg_namespace n ON n.nspname = t.schema_name
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.table_name AND c.relkind IN ('r', 'p')
    UNION SELECT i.inhparent FROM pg_inherits i JOIN moving ON i.inhrelid = moving.oid),
  feed AS (
    SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS attnum, d.deptype = 'i' AS is_identity,
           d.deptype = 'i' OR NOT EXISTS (SELECT FROM pg_attrdef f
             WHERE f.adrelid = d.refobjid AND f.adnum = d.refobjsubid) AS is_plain
      FROM pg_depend d
     WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
       AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
    UNION ALL
    SELECT d.refobjid, f.adrelid, f.adnum, false,
           pg_get_expr(f.adbin, f.adrelid) ~ '^nextval\\(''[^'']*(''''[^'']*)*''::regclass\\)$'
      FROM pg_attrdef f
      JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
     WHERE d.refclassid = 'pg_class'::regclass AND d.deptype = 'n'),
  owned AS (
    SELECT d.objid AS sequence, bool_or(d.refobjid IN (SELECT oid FROM moving)) AS moves FROM pg_depend d
     WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
       AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0 GROUP BY d.objid)
  SELECT s.oid, n.nspname AS schema, s.relname AS name, format_type(q.seqtypid, NULL) AS type,
    q.seqstart::text AS start, q.seqincrement::text AS increment, q.seqmin::text AS min, q.seqmax::text AS max,
    q.seqcache::text AS cache, q.seqcycle AS cycles,
    used.is_feeding AS "isFeeding", used.columns,
    CASE WHEN used.is_feeding THEN 'travels'
         WHEN EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = s.oid
                        AND e.deptype = 'e') THEN 'belongs to an extension'
         WHEN NOT coalesce(owned.moves, true) THEN 'its table stays'
         ELSE 'travels' END AS fate
  FROM pg_class s
  JOIN pg_sequence q ON q.seqrelid = s.oid
  JOIN pg_namespace n ON n.oid = s.relnamespace
  LEFT JOIN owned ON owned.sequence = s.oid
  CROSS JOIN LATERAL (
    SELECT count(*) > 0 AS is_feeding,
      coalesce(json_agg(DISTINCT jsonb_build_object('schema', rn.nspname, 'table', r.relname,
          'column', a.attname, 'type', format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL),
          'isIdentity', feed.is_identity, 'isIndexed', EXISTS (
            SELECT FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am m ON m.oid = ic.relam
             WHERE i.indrelid = r.oid AND i.indkey[0] = ra.attnum AND i.indisvalid AND i.indpred IS NULL
               AND m.amname = 'btree')))
        FILTER (WHERE feed.is_plain AND coalesce(nullif(t.typbasetype, 0), t.oid) IN
          ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)), '[]') AS columns
    FROM feed
    JOIN moving ON moving.oid = feed.relation
    JOIN pg_class c ON c.oid = feed.relation
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = feed.attnum
    JOIN pg_type t ON t.oid = a.atttypid
    JOIN pg_class r ON r.oid = CASE WHEN c.relispartition THEN pg_partition_root(c.oid)::oid ELSE c.oid END
    JOIN pg_namespace rn ON rn.oid = r.relnamespace
    JOIN pg_attribute ra ON ra.attrelid = r.oid AND ra.attname = a.attname
    WHERE feed.sequence = s.oid) used
  WHERE s.relkind = 'S' AND s.relpersistence <> 't' AND n.nspname <> 'sluice'
  ORDER BY n.nspname, s.relname`;

/** Where a sequence stands. */
export interface SequenceState {
  readonly last: bigint;
  /** False: `last` has not been given out yet. */
  readonly isCalled: boolean;
}

/**
 * In one statement for all of them: `pg_sequence_last_value` says nothing of a sequence that was set and not used.
 * @param sequences of this database, as just read. @throws when one was dropped since
 */
export async function readSequenceStates(
  client: SqlClient,
  sequences: readonly QualifiedName[],
): Promise<readonly SequenceState[]> {
  if (sequences.length === 0) return [];
  const parts = sequences.map(
    ({ schema, name }, index) =>
      `SELECT ${index} AS at, last_value::text AS last, is_called FROM ${quoteQualified(schema, name)}`,
  );
  const { rows } = await client.query<{ last: string; is_called: boolean }>(
    `${parts.join(" UNION ALL ")} ORDER BY at`,
  );
  return rows.map((row) => ({ last: BigInt(row.last), isCalled: row.is_called }));
}

/** Rows beyond these are left aside: see `readExtremes`. */
export interface ExtremeQuestion {
  readonly column: FedColumn;
  /** The lowest value instead of the highest: of a sequence that counts down. */
  readonly isLowest: boolean;
  readonly limit: bigint;
}

/**
 * The highest (or lowest) ids that are there, up to a limit; null where there is none.
 * @throws what the servers say: a scan may meet `statement_timeout`
 */
export async function readExtremes(
  client: SqlClient,
  questions: readonly ExtremeQuestion[],
): Promise<readonly (bigint | null)[]> {
  if (questions.length === 0) return [];
  const parts = questions.map(({ column, isLowest, limit }) => {
    const name = quoteIdentifier(column.column);
    const table = quoteQualified(column.schema, column.table);
    return `(SELECT trunc(${isLowest ? "min" : "max"}(${name}))::text FROM ${table} WHERE ${name} ${isLowest ? ">=" : "<="} ${limit})`;
  });
  const { rows } = await client.query<{ values: readonly (string | null)[] }>(
    `SELECT ARRAY[${parts.join(", ")}] AS values`,
  );
  return (rows[0]?.values ?? []).map((value) => (value === null ? null : BigInt(value)));
}
