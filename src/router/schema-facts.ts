import type { KeyColumn } from "../topology/key-column.js";

/** What routing wants to know of the tables; read from each shard with `SCHEMA_FACTS_SQL`, see `agreedFacts`. */
export interface ColumnFacts {
  readonly name: string;
  /** As a cast takes it, schema-qualified outside of pg_catalog, without length. */
  readonly type: string;
  /** Of a domain, what it is made of; else null or absent. */
  readonly baseType?: string | null;
  /** GENERATED ALWAYS AS (...) STORED or VIRTUAL: cannot be inserted. */
  readonly isGenerated: boolean;
  readonly isIdentity: boolean;
  /** GENERATED ALWAYS AS IDENTITY: takes a value with OVERRIDING SYSTEM VALUE only; no UPDATE may give it one. */
  readonly isAlways: boolean;
  /**
   * What gives a value where a statement gives none: the column's default, else its domain's; an identity's
   * nextval. Means the same under any search_path, PostgreSQL's own names apart.
   */
  readonly defaultSql: string | null;
  readonly isNotNull: boolean;
  /** Text of it sorts by its bytes; true for types without collation. */
  readonly isBytewise: boolean;
  /** Text of it that is equal is the same bytes; false under a collation that takes "a" and "A" for one. */
  readonly isDeterministic: boolean;
  /** Another shard has another default, or no such column. */
  readonly hasOtherDefault?: boolean;
}

/** What a view shows. */
export interface ViewFacts {
  /** Its query, every name but PostgreSQL's own with its schema. */
  readonly sql: string;
  /** A materialized view: rows as they were when it was refreshed. */
  readonly isStored: boolean;
  /** Rules or INSTEAD OF triggers of its own do something else than PostgreSQL would on a write. */
  readonly hasOwnWrites: boolean;
}

/** A foreign key that holds for every row: neither NOT VALID nor NOT ENFORCED. */
export interface ForeignKeyFacts {
  readonly columns: readonly string[];
  readonly schema: string;
  readonly table: string;
  /** The other table's columns, in the order of `columns`. */
  readonly referenced: readonly string[];
  /** MATCH FULL: where one column is NULL, all are. */
  readonly isFull: boolean;
}

/** A foreign key as the table sees it that it points to. */
export interface ReferringKeyFacts {
  /** The table that has it. */
  readonly schema: string;
  readonly table: string;
  readonly columns: readonly string[];
  /** Those here, in the order of `columns`. */
  readonly referenced: readonly string[];
  /** false: only an UPDATE of the columns meets it. */
  readonly meetsDelete: boolean;
}

/** A trigger of the application that fires for clients; ours and those of foreign keys are left out. */
export interface TriggerFacts {
  readonly name: string;
  /** PL/pgSQL of a BEFORE ROW trigger, if short; null: another kind, of which nothing is known. */
  readonly source: string | null;
}

export interface TableFacts {
  readonly schema: string;
  readonly name: string;
  /** false: a view, a materialized view or a foreign table. */
  readonly isTable: boolean;
  /** A foreign table: its rows are on a server that other shards may have, too. */
  readonly isForeign?: boolean;
  /** Of this name there is another kind on another shard, or a view of something else. */
  readonly isUnlike?: boolean;
  /** Of the primary key, else of a unique index that is as good; none: rows cannot be told apart. */
  readonly keyColumns: readonly string[];
  readonly triggers: readonly TriggerFacts[];
  /** Has our own, see `ROW_GUARDS`. */
  readonly isGuarded: boolean;
  /** Whose foreign keys change or delete their rows when rows here are changed or deleted; schema and name each. */
  readonly actsOn: readonly (readonly [schema: string, name: string])[];
  /** In their order in the table. */
  readonly columns: readonly ColumnFacts[];
  /** Foreign keys that point here and do not wait for COMMIT: they act (CASCADE, SET NULL, SET DEFAULT), or forbid. */
  readonly referringKeys: readonly ReferringKeyFacts[];
  /** Triggers of the application that fire for each row of an UPDATE. */
  readonly hasUpdateTriggers: boolean;
  /** What a view reads, or what a partition or child table is a part of; schema and name each. */
  readonly sources: readonly (readonly [schema: string, name: string])[];
  /** null: no view, or one of an extension, which shows the server and not the application's rows. */
  readonly view: ViewFacts | null;
  /** Columns of each unique index that holds for all rows. */
  readonly uniqueKeys: readonly (readonly string[])[];
  readonly foreignKeys: readonly ForeignKeyFacts[];
}

export interface FunctionFacts {
  readonly name: string;
  /** The most of its overloads. */
  readonly volatility: "immutable" | "stable" | "volatile";
  readonly isAggregate: boolean;
  /** All of its overloads are PostgreSQL's own. */
  readonly isBuiltIn: boolean;
}

export interface SchemaFacts {
  /** By table name; several schemas may have one. */
  readonly tables: ReadonlyMap<string, readonly TableFacts[]>;
  readonly functions: ReadonlyMap<string, FunctionFacts>;
  /** Labels of enums, and of domains over them, in the enum's order; by the name of `ColumnFacts.type`. */
  readonly enums: ReadonlyMap<string, readonly string[]>;
  /** Of the database's own collation. */
  readonly isBytewise: boolean;
  /** A collation is there by which texts of other bytes may be equal. */
  readonly hasLooseCollations: boolean;
  /** Whoever asks may make the triggers of `ROW_GUARDS`. */
  readonly hasGuardFunctions: boolean;
}

// libc's "C" and "POSIX", and what sorts by code point, which in UTF-8 is by byte.
const BYTEWISE = "('C', 'POSIX', 'C.UTF-8', 'C.utf8', 'ucs_basic', 'pg_c_utf8')";
// Of an ICU database `datcollate` is what the operating system would sort by, and nothing sorts by it. As JSON, since
// `datlocprovider` came with 15 and the built-in provider's `datlocale` with 17.
const DATABASE_IS_BYTEWISE = `(
  SELECT CASE v.d->>'datlocprovider'
    WHEN 'i' THEN false
    WHEN 'b' THEN v.d->>'datlocale' IN ('C', 'C.UTF-8', 'PG_UNICODE_FAST')
    ELSE v.d->>'datcollate' IN ${BYTEWISE} END
  FROM pg_catalog.pg_database b, LATERAL (SELECT pg_catalog.to_jsonb(b)) v(d)
  WHERE b.datname = pg_catalog.current_database())`;
// One of the application's may have the name of PostgreSQL's.
const COLLATION_IS_BYTEWISE = `(l.collname IN ${BYTEWISE} AND l.collnamespace = 'pg_catalog'::pg_catalog.regnamespace)`;

const columnNames = (relation: string, numbers: string) => `(
  SELECT pg_catalog.json_agg(ka.attname ORDER BY k.n)
  FROM pg_catalog.unnest(${numbers}) WITH ORDINALITY k(attnum, n)
  JOIN pg_catalog.pg_attribute ka ON ka.attrelid = ${relation} AND ka.attnum = k.attnum)`;

// Rows of an inheritance child are read with the parent and bound by none of its keys.
const HAS_CHILDREN = (alias: string) => `(${alias}.relkind = 'r' AND ${alias}.relhassubclass)`;

const VIEW = `CASE WHEN c.relkind IN ('v', 'm') AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_depend e
    WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.objid = c.oid AND e.deptype = 'e')
  THEN pg_catalog.json_build_object(
    'sql', pg_catalog.pg_get_viewdef(c.oid),
    'isStored', c.relkind = 'm',
    'hasOwnWrites', EXISTS (
        SELECT FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type <> '1')
      OR EXISTS (SELECT FROM pg_catalog.pg_trigger t
        WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgtype & 64 <> 0)) END`;

const UNIQUE_KEYS = `(
  SELECT coalesce(pg_catalog.json_agg(${columnNames("i.indrelid", "i.indkey[0:i.indnkeyatts - 1]")} ORDER BY ui.relname), '[]')
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class ui ON ui.oid = i.indexrelid
  WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
    AND i.indexprs IS NULL AND NOT ${HAS_CHILDREN("c")})`;

const FOREIGN_KEYS = `(
  SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
    'columns', ${columnNames("f.conrelid", "f.conkey")},
    'schema', rn.nspname,
    'table', r.relname,
    'referenced', ${columnNames("f.confrelid", "f.confkey")},
    'isFull', f.confmatchtype = 'f') ORDER BY f.conname), '[]')
  FROM pg_catalog.pg_constraint f
  JOIN pg_catalog.pg_class r ON r.oid = f.confrelid
  JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
  WHERE f.conrelid = c.oid AND f.contype = 'f' AND f.convalidated
    AND NOT ${HAS_CHILDREN("c")} AND NOT ${HAS_CHILDREN("r")})`;

const REFERRING_KEYS = `(
  SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
    'schema', rn.nspname,
    'table', r.relname,
    'columns', ${columnNames("f.conrelid", "f.conkey")},
    'referenced', ${columnNames("f.confrelid", "f.confkey")},
    'meetsDelete', f.confdeltype IN ('c', 'n', 'd') OR NOT f.condeferrable) ORDER BY rn.nspname, r.relname, f.conname), '[]')
  FROM pg_catalog.pg_constraint f
  JOIN pg_catalog.pg_class r ON r.oid = f.conrelid
  JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
  WHERE f.confrelid = c.oid AND f.contype = 'f' AND f.conparentid = 0
    AND (f.confdeltype IN ('c', 'n', 'd') OR f.confupdtype IN ('c', 'n', 'd') OR NOT f.condeferrable))`;

const ENUMS = `(
  SELECT coalesce(pg_catalog.json_object_agg(
    pg_catalog.quote_ident(yn.nspname) || '.' || pg_catalog.quote_ident(y.typname), (
      SELECT coalesce(pg_catalog.json_agg(v.enumlabel ORDER BY v.enumsortorder), '[]')
      FROM pg_catalog.pg_enum v WHERE v.enumtypid = e.oid) ORDER BY yn.nspname, y.typname), '{}')
  FROM pg_catalog.pg_type y
  JOIN pg_catalog.pg_namespace yn ON yn.oid = y.typnamespace
  JOIN pg_catalog.pg_type e ON e.typtype = 'e'
    AND e.oid = CASE y.typtype WHEN 'd' THEN y.typbasetype ELSE y.oid END)`;

/**
 * One row, one column `facts`: JSON text for `parseSchemaFacts`, the same on shards with the same tables. Takes 20 ms with
 * 20 tables, 100 ms with 400; read again when SCHEMA_VERSION_SQL says something else.
 */
export const SCHEMA_FACTS_SQL = `
SELECT pg_catalog.json_build_object(
  'isBytewise', ${DATABASE_IS_BYTEWISE},
  'hasLooseCollations', EXISTS (SELECT FROM pg_catalog.pg_collation l WHERE NOT l.collisdeterministic),
  'hasGuardFunctions', coalesce((
    SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE') FROM pg_catalog.pg_namespace n
    JOIN pg_catalog.pg_proc p ON p.pronamespace = n.oid
    WHERE n.nspname = 'sluice' AND p.proname = 'replay_capture'), false),
  'enums', ${ENUMS},
  'tables', (
    SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
      'schema', n.nspname,
      'name', c.relname,
      'isTable', c.relkind IN ('r', 'p'),
      'isForeign', c.relkind = 'f',
      'keyColumns', (
        SELECT coalesce((
          SELECT pg_catalog.json_agg(ka.attname ORDER BY ka.attnum)
          FROM pg_catalog.pg_index i
          JOIN pg_catalog.pg_attribute ka ON ka.attrelid = c.oid AND ka.attnum = ANY (i.indkey[0 : i.indnkeyatts - 1])
          WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL
            AND 0 <> ALL (i.indkey[0 : i.indnkeyatts - 1])
          GROUP BY i.indexrelid, i.indisprimary HAVING pg_catalog.bool_and(ka.attnotnull)
          ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1), '[]')),
      'triggers', (
        SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
          'name', t.tgname,
          'source', CASE WHEN t.tgtype & 3 = 3 AND tl.lanname = 'plpgsql'
            AND pg_catalog.length(tp.prosrc) < 2000 THEN tp.prosrc END) ORDER BY t.tgname), '[]')
        FROM pg_catalog.pg_trigger t
        JOIN pg_catalog.pg_proc tp ON tp.oid = t.tgfoid
        JOIN pg_catalog.pg_language tl ON tl.oid = tp.prolang
        JOIN pg_catalog.pg_namespace tpn ON tpn.oid = tp.pronamespace
        WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
          AND tpn.nspname <> 'sluice'),
      'isGuarded', (
        SELECT count(*) = 3 FROM pg_catalog.pg_trigger t
        JOIN pg_catalog.pg_proc tp ON tp.oid = t.tgfoid
        JOIN pg_catalog.pg_namespace tpn ON tpn.oid = tp.pronamespace
        WHERE t.tgrelid = c.oid AND t.tgenabled IN ('O', 'A') AND tpn.nspname = 'sluice'
          AND tp.proname IN ('replay_keep', 'replay_restore', 'replay_capture')),
      'actsOn', (
        SELECT coalesce(pg_catalog.json_agg(DISTINCT pg_catalog.jsonb_build_array(fn.nspname, fc.relname)), '[]')
        FROM pg_catalog.pg_constraint f
        JOIN pg_catalog.pg_class fc ON fc.oid = f.conrelid
        JOIN pg_catalog.pg_namespace fn ON fn.oid = fc.relnamespace
        WHERE f.confrelid = c.oid AND f.contype = 'f'
          AND (f.confdeltype IN ('c', 'n', 'd') OR f.confupdtype IN ('c', 'n', 'd'))),
      'referringKeys', ${REFERRING_KEYS},
      'hasUpdateTriggers', EXISTS (
        SELECT FROM pg_catalog.pg_trigger t
        JOIN pg_catalog.pg_proc tp ON tp.oid = t.tgfoid
        JOIN pg_catalog.pg_namespace tpn ON tpn.oid = tp.pronamespace
        WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
          AND t.tgtype & 17 = 17 AND tpn.nspname <> 'sluice'),
      'sources', (
        SELECT coalesce(pg_catalog.json_agg(DISTINCT pg_catalog.jsonb_build_array(sn.nspname, s.relname)), '[]')
        FROM (
          SELECT d.refobjid AS oid FROM pg_catalog.pg_rewrite w
          JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
            AND d.objid = w.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
          WHERE w.ev_class = c.oid AND d.refobjid <> c.oid AND c.relkind IN ('v', 'm')
          UNION SELECT h.inhparent FROM pg_catalog.pg_inherits h WHERE h.inhrelid = c.oid) o
        JOIN pg_catalog.pg_class s ON s.oid = o.oid
        JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace),
      'view', ${VIEW},
      'uniqueKeys', ${UNIQUE_KEYS},
      'foreignKeys', ${FOREIGN_KEYS},
      'columns', (
        SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
          'name', a.attname,
          'type', CASE WHEN tn.nspname = 'pg_catalog' THEN pg_catalog.format_type(a.atttypid, -1)
            ELSE pg_catalog.quote_ident(tn.nspname) || '.' || CASE
              WHEN y.typelem <> 0 AND y.typlen = -1 AND y.typcategory = 'A' THEN
                (SELECT pg_catalog.quote_ident(e.typname) || '[]' FROM pg_catalog.pg_type e WHERE e.oid = y.typelem)
              ELSE pg_catalog.quote_ident(y.typname) END END,
          'baseType', CASE WHEN y.typtype = 'd' THEN (
            WITH RECURSIVE base AS (
              SELECT y.typtype, y.typbasetype AS oid
              UNION ALL SELECT t.typtype, CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END FROM base
                JOIN pg_catalog.pg_type t ON base.typtype = 'd' AND t.oid = base.oid)
            SELECT pg_catalog.format_type(oid, NULL) FROM base WHERE typtype <> 'd') END,
          'isGenerated', a.attgenerated <> '',
          'isIdentity', a.attidentity <> '',
          'isNotNull', a.attnotnull,
          'isAlways', a.attidentity = 'a',
          'defaultSql', CASE WHEN a.attidentity <> '' THEN
              (SELECT pg_catalog.format('nextval(%L::regclass)', q)
                FROM pg_catalog.pg_get_serial_sequence(
                  pg_catalog.format('%I.%I', n.nspname, c.relname), a.attname) q WHERE q IS NOT NULL)
            WHEN d.adbin IS NULL THEN pg_catalog.pg_get_expr(y.typdefaultbin, 0)
            ELSE pg_catalog.pg_get_expr(d.adbin, d.adrelid) END,
          'isBytewise', CASE WHEN a.attcollation = 0 THEN true
            WHEN l.collprovider = 'd' THEN ${DATABASE_IS_BYTEWISE}
            ELSE ${COLLATION_IS_BYTEWISE} END,
          'isDeterministic', coalesce(l.collisdeterministic, true)) ORDER BY a.attnum), '[]')
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
        JOIN pg_catalog.pg_namespace tn ON tn.oid = y.typnamespace
        LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
        LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)) ORDER BY n.nspname, c.relname), '[]')
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%'
      AND n.nspname NOT IN ('information_schema', 'sluice')),
  'functions', (
    SELECT pg_catalog.json_agg(f ORDER BY f.name) FROM (
      SELECT p.proname AS name,
        CASE pg_catalog.max(pg_catalog.strpos('isv', p.provolatile::pg_catalog.text))
          WHEN 1 THEN 'immutable' WHEN 2 THEN 'stable' ELSE 'volatile' END AS volatility,
        pg_catalog.bool_or(p.prokind = 'a') AS "isAggregate",
        pg_catalog.bool_and(n.nspname = 'pg_catalog') AS "isBuiltIn"
      FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
      WHERE p.prorettype <> 'pg_catalog.trigger'::pg_catalog.regtype
      GROUP BY p.proname) f))::pg_catalog.text AS facts
-- Read before the output is made: names in expressions come with their schemas, whoever runs them.
FROM pg_catalog.set_config('search_path', '', true)`;

/** A column as its values compare. */
export function equalityOf({ type, baseType, isDeterministic }: ColumnFacts): KeyColumn {
  return { type: baseType ?? type, isDeterministic };
}

/** @param json the answer to SCHEMA_FACTS_SQL */
export function parseSchemaFacts(json: string): SchemaFacts {
  return schemaFacts(JSON.parse(json) as SchemaFactsLists);
}

export interface SchemaFactsLists {
  readonly tables: readonly TableFacts[];
  readonly functions: readonly FunctionFacts[];
  readonly enums: Readonly<Record<string, readonly string[]>>;
  readonly isBytewise: boolean;
  readonly hasLooseCollations: boolean;
  readonly hasGuardFunctions: boolean;
}

export function schemaFacts(lists: SchemaFactsLists): SchemaFacts {
  const { tables, functions, enums, ...flags } = lists;
  const byName = new Map<string, TableFacts[]>();
  for (const table of tables) byName.set(table.name, [...(byName.get(table.name) ?? []), table]);
  return {
    tables: byName,
    functions: new Map(functions.map((one) => [one.name, one])),
    enums: new Map(Object.entries(enums)),
    ...flags,
  };
}
