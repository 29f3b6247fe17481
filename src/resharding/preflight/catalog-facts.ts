import type { SqlClient } from "../../backend/sql-client.js";

/**
 * What the engine reads from the system catalogs. Every query is qualified (our sessions have
 * `search_path = pg_catalog`) and takes no lock on user tables.
 */
export interface PublicationFacts {
  readonly insert: boolean;
  readonly update: boolean;
  readonly delete: boolean;
  readonly truncate: boolean;
  /** FOR ALL TABLES or FOR TABLES IN SCHEMA: tables made later join by themselves. */
  readonly isOpenEnded: boolean;
  /** As the publication names them: partitioned roots stay roots. Without our own schema's tables. */
  readonly tables: readonly PublishedTable[];
}

interface PublishedTable {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly hasRowFilter: boolean;
  readonly hasColumnList: boolean;
}

export interface ColumnFacts {
  readonly name: string;
  /** `format_type` of the column. */
  readonly type: string;
  readonly typeOid: number;
  readonly notNull: boolean;
  readonly isGenerated: boolean;
  /** GENERATED AS IDENTITY; before 17 a partition's column is not, though its root's is. */
  readonly isIdentity: boolean;
  /** `pg_get_expr` of its default, with complete names; null: none, or the column is generated. */
  readonly defaultSql: string | null;
}

export interface IndexFacts {
  readonly name: string;
  readonly isPrimary: boolean;
  readonly isUnique: boolean;
  /** False for the index of a DEFERRABLE constraint. */
  readonly isImmediate: boolean;
  readonly isValid: boolean;
  readonly isReplicaIdentity: boolean;
  readonly isPartial: boolean;
  readonly isExclusion: boolean;
  /** From 15 on: two NULLs are equal to it. */
  readonly isNullsNotDistinct: boolean;
  /** Key columns in order, without INCLUDE ones; null where the key is an expression. */
  readonly columns: readonly (string | null)[];
}

interface TriggerFacts {
  readonly name: string;
  /** `pg_trigger.tgenabled`: O origin, D disabled, R replica, A always. */
  readonly enabled: "O" | "D" | "R" | "A";
}

export interface TableFacts {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  /** `pg_class.relkind`: r table, p partitioned, f foreign. */
  readonly kind: string;
  readonly isPartition: boolean;
  readonly rootSchema: string | null;
  readonly rootName: string | null;
  readonly persistence: "p" | "u" | "t";
  readonly replicaIdentity: "d" | "i" | "f" | "n";
  readonly owner: string;
  /** The owner may log in and is no superuser. */
  readonly ownerLogsIn: boolean;
  /** A row security policy would filter what this session reads (R7). */
  readonly isRowSecurityActive: boolean;
  /** In attnum order, generated ones included. */
  readonly columns: readonly ColumnFacts[];
  readonly indexes: readonly IndexFacts[];
  /** User triggers only. */
  readonly triggers: readonly TriggerFacts[];
  readonly rules: readonly string[];
  /** Inheritance that is not partitioning, as oids of the children. */
  readonly childOids: readonly number[];
}

export interface ForeignKeyFacts {
  readonly name: string;
  readonly schema: string;
  readonly table: string;
  readonly columns: readonly string[];
  readonly referencedSchema: string;
  readonly referencedTable: string;
  readonly referencedColumns: readonly string[];
  /** False for NOT VALID: rows that were there before may not fit. */
  readonly isValidated: boolean;
}

/** A type and what it is made of; enough to judge its binary form. */
export interface TypeFacts {
  readonly oid: number;
  /** `pg_type.typtype`: b base, c composite, d domain, e enum, r range, m multirange, p pseudo. */
  readonly kind: string;
  readonly isBuiltIn: boolean;
  /** Has binary send and receive functions. */
  readonly hasBinary: boolean;
  /** Its binary form is an OID of another catalog (regclass, regtype...). */
  readonly isOidAlias: boolean;
  readonly baseOid: number;
  /** Element of a true array, else 0. */
  readonly elementOid: number;
}

/** @returns null when there is no such publication */
export async function readPublication(
  client: SqlClient,
  publication: string,
): Promise<PublicationFacts | null> {
  const found = await client.query<Omit<PublicationFacts, "tables">>(
    `SELECT p.pubinsert AS insert, p.pubupdate AS update, p.pubdelete AS delete, p.pubtruncate AS truncate,
       p.puballtables OR EXISTS (SELECT 1 FROM pg_catalog.pg_depend d
         WHERE d.refclassid = 'pg_catalog.pg_publication'::regclass AND d.refobjid = p.oid
           AND d.classid = pg_catalog.to_regclass('pg_catalog.pg_publication_namespace')) AS "isOpenEnded"
     FROM pg_catalog.pg_publication p WHERE p.pubname = $1`,
    [publication],
  );
  const facts = found.rows[0];
  if (!facts) return null;
  // Row filters and column lists exist from 15 on; to_jsonb reads the columns only where they are.
  const tables = await client.query<PublishedTable>(
    `SELECT c.oid, n.nspname AS schema, c.relname AS name,
       coalesce(pg_catalog.to_jsonb(r) ->> 'prqual' IS NOT NULL, false) AS "hasRowFilter",
       coalesce(pg_catalog.to_jsonb(r) ->> 'prattrs' IS NOT NULL, false) AS "hasColumnList"
     FROM pg_catalog.pg_publication_tables t
     JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
     JOIN pg_catalog.pg_class c ON c.relname = t.tablename AND c.relnamespace = n.oid
     LEFT JOIN pg_catalog.pg_publication p ON p.pubname = t.pubname
     LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
       AND (r.prrelid = c.oid OR r.prrelid IN (SELECT pg_catalog.pg_partition_ancestors(c.oid)))
     WHERE t.pubname = $1 AND n.nspname <> 'sluice'
     ORDER BY n.nspname, c.relname`,
    [publication],
  );
  return { ...facts, tables: tables.rows };
}

/**
 * Who publishes updates or deletes of these tables but us: PostgreSQL refuses both there while a table has no
 * replica identity.
 */
export async function readNamingPublications(
  client: SqlClient,
  oids: readonly number[],
): Promise<readonly { readonly oid: number; readonly publication: string }[]> {
  const result = await client.query<{ oid: number; publication: string }>(
    `SELECT DISTINCT c.oid, p.pubname AS publication
     FROM pg_catalog.pg_publication p
     JOIN pg_catalog.pg_publication_tables t ON t.pubname = p.pubname
     JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
     JOIN pg_catalog.pg_class named ON named.relname = t.tablename AND named.relnamespace = n.oid
     JOIN pg_catalog.pg_class c ON c.oid = named.oid
       OR named.oid IN (SELECT pg_catalog.pg_partition_ancestors(c.oid))
     WHERE (p.pubupdate OR p.pubdelete) AND c.oid = ANY ($1::oid[])
       AND NOT pg_catalog.starts_with(p.pubname, 'sluice_') ORDER BY 1, 2`,
    [oids],
  );
  return result.rows;
}

/** The tables that hold rows: partitioned tables become their leaves, others stay. */
export async function readLeafOids(
  client: SqlClient,
  oids: readonly number[],
): Promise<readonly number[]> {
  const result = await client.query<{ oid: number }>(
    `SELECT DISTINCT coalesce(p.relid::oid, t.oid) AS oid
     FROM pg_catalog.unnest($1::oid[]) AS t(oid)
     LEFT JOIN LATERAL pg_catalog.pg_partition_tree(t.oid) p ON true
     WHERE p.relid IS NULL OR p.isleaf ORDER BY 1`,
    [oids],
  );
  return result.rows.map((row) => row.oid);
}

/** Every partitioned table above the given ones. */
export async function readAncestorOids(
  client: SqlClient,
  oids: readonly number[],
): Promise<readonly number[]> {
  const result = await client.query<{ oid: number }>(
    `SELECT DISTINCT a.relid::oid AS oid FROM pg_catalog.unnest($1::oid[]) AS t(oid)
     CROSS JOIN LATERAL pg_catalog.pg_partition_ancestors(t.oid) a(relid)
     WHERE a.relid <> t.oid ORDER BY 1`,
    [oids],
  );
  return result.rows.map((row) => row.oid);
}

/** OIDs of the tables of these names that exist here. */
export async function findTableOids(
  client: SqlClient,
  tables: readonly { readonly schema: string; readonly name: string }[],
): Promise<readonly number[]> {
  const result = await client.query<{ oid: number }>(
    `SELECT c.oid FROM unnest($1::text[], $2::text[]) AS t(schema, name)
     JOIN pg_catalog.pg_namespace n ON n.nspname = t.schema
     JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.name
     WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') ORDER BY 1`,
    [tables.map((table) => table.schema), tables.map((table) => table.name)],
  );
  return result.rows.map((row) => row.oid);
}

const COLUMNS = `(SELECT coalesce(json_agg(json_build_object('name', a.attname,
    'type', format_type(a.atttypid, a.atttypmod), 'typeOid', a.atttypid::int8,
    'notNull', a.attnotnull, 'isGenerated', a.attgenerated <> '', 'isIdentity', a.attidentity <> '',
    'defaultSql', CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END) ORDER BY a.attnum), '[]')
  FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)`;

const INDEXES = `(SELECT coalesce(json_agg(json_build_object('name', ic.relname,
    'isPrimary', i.indisprimary, 'isUnique', i.indisunique, 'isImmediate', i.indimmediate,
    'isValid', i.indisvalid, 'isReplicaIdentity', i.indisreplident,
    'isPartial', i.indpred IS NOT NULL, 'isExclusion', i.indisexclusion,
    'isNullsNotDistinct', coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false),
    'columns', (SELECT json_agg(a.attname ORDER BY k.position)
      FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position)
      LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum AND k.attnum > 0
      WHERE k.position <= i.indnkeyatts)) ORDER BY ic.relname), '[]')
  FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid WHERE i.indrelid = c.oid)`;

/** Everything that checks and plans ask of a table, in order of qualified name. */
export async function readTables(
  client: SqlClient,
  oids: readonly number[],
): Promise<readonly TableFacts[]> {
  const result = await client.query<TableFacts>(
    `SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind AS kind,
       c.relispartition AS "isPartition", rn.nspname AS "rootSchema", rc.relname AS "rootName",
       c.relpersistence AS persistence, c.relreplident AS "replicaIdentity",
       o.rolname AS owner, o.rolcanlogin AND NOT o.rolsuper AS "ownerLogsIn",
       row_security_active(c.oid) AS "isRowSecurityActive",
       ${COLUMNS} AS columns, ${INDEXES} AS indexes,
       (SELECT coalesce(json_agg(json_build_object('name', t.tgname, 'enabled', t.tgenabled)
          ORDER BY t.tgname), '[]') FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal) AS triggers,
       (SELECT coalesce(json_agg(w.rulename ORDER BY w.rulename), '[]') FROM pg_rewrite w
        WHERE w.ev_class = c.oid AND w.ev_type <> '1') AS rules,
       (SELECT coalesce(json_agg(h.inhrelid::int8), '[]') FROM pg_inherits h
        JOIN pg_class child ON child.oid = h.inhrelid
        WHERE h.inhparent = c.oid AND NOT child.relispartition AND child.relkind <> 'i') AS "childOids"
     FROM pg_class c
     JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_roles o ON o.oid = c.relowner
     LEFT JOIN pg_class rc ON c.relispartition AND rc.oid = pg_partition_root(c.oid)
     LEFT JOIN pg_namespace rn ON rn.oid = rc.relnamespace
     WHERE c.oid = ANY ($1::oid[]) ORDER BY n.nspname, c.relname`,
    [oids],
  );
  return result.rows;
}

/** Foreign keys of the given tables as they were declared, without the copies that partitions carry. */
export async function readForeignKeys(
  client: SqlClient,
  oids: readonly number[],
): Promise<readonly ForeignKeyFacts[]> {
  const names = (table: string, keys: string) => `(SELECT json_agg(a.attname ORDER BY k.position)
    FROM unnest(f.${keys}) WITH ORDINALITY AS k(attnum, position)
    JOIN pg_attribute a ON a.attrelid = f.${table} AND a.attnum = k.attnum)`;
  const result = await client.query<ForeignKeyFacts>(
    `SELECT f.conname AS name, f.convalidated AS "isValidated", n.nspname AS schema, c.relname AS "table",
       ${names("conrelid", "conkey")} AS columns,
       rn.nspname AS "referencedSchema", r.relname AS "referencedTable",
       ${names("confrelid", "confkey")} AS "referencedColumns"
     FROM pg_constraint f
     JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_class r ON r.oid = f.confrelid JOIN pg_namespace rn ON rn.oid = r.relnamespace
     WHERE f.contype = 'f' AND f.conparentid = 0 AND f.conrelid = ANY ($1::oid[])
     ORDER BY n.nspname, c.relname, f.conname`,
    [oids],
  );
  return result.rows;
}

/** The given types and all that they consist of, by oid. */
export async function readTypes(
  client: SqlClient,
  typeOids: readonly number[],
): Promise<ReadonlyMap<number, TypeFacts>> {
  const result = await client.query<TypeFacts>(
    `WITH RECURSIVE reached(oid) AS (
       SELECT unnest($1::oid[])
       UNION
       SELECT part.oid FROM reached JOIN pg_type t ON t.oid = reached.oid
       CROSS JOIN LATERAL (VALUES (t.typbasetype), (t.typelem)) AS part(oid) WHERE part.oid <> 0)
     SELECT t.oid, t.typtype AS kind, n.nspname = 'pg_catalog' AS "isBuiltIn",
       t.typsend <> 0 AND t.typreceive <> 0 AS "hasBinary",
       t.typname LIKE 'reg%' AND n.nspname = 'pg_catalog' AS "isOidAlias",
       t.typbasetype AS "baseOid",
       CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE 0::oid END AS "elementOid"
     FROM reached JOIN pg_type t ON t.oid = reached.oid JOIN pg_namespace n ON n.oid = t.typnamespace`,
    [typeOids],
  );
  return new Map(result.rows.map((row) => [row.oid, row]));
}

/**
 * Which of these types (as `format_type` gives them) have no extended hash function. Asked of
 * `hash_record_extended` itself, inside a block that catches the refusal: nothing appears in the log.
 */
export async function readUnhashableTypes(
  client: SqlClient,
  types: readonly string[],
): Promise<ReadonlySet<string>> {
  await client.query("BEGIN");
  try {
    await client.query("SELECT set_config('sluice.types', $1, true)", [JSON.stringify(types)]);
    await client.query(`DO $do$
      DECLARE type_name text; refused jsonb := '[]';
      BEGIN
        FOR type_name IN SELECT jsonb_array_elements_text(current_setting('sluice.types')::jsonb) LOOP
          BEGIN
            EXECUTE 'SELECT hash_record_extended(ROW(NULL::' || type_name || '), 0)';
          EXCEPTION WHEN undefined_function THEN refused := refused || to_jsonb(type_name);
          END;
        END LOOP;
        PERFORM set_config('sluice.types', refused::text, true);
      END $do$`);
    const result = await client.query<{ refused: string }>(
      "SELECT current_setting('sluice.types') AS refused",
    );
    const refused: unknown = JSON.parse(result.rows[0]?.refused ?? "[]");
    return new Set(Array.isArray(refused) ? refused.map(String) : []);
  } finally {
    await client.query("ROLLBACK");
  }
}
