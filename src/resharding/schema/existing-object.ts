import type { SqlClient } from "../../backend/sql-client.js";
import type { SchemaObject } from "./statement.js";

/**
 * What an object is, as text that is equal on both sides when the object is the same; null: it is not there.
 * Of relations the kind and the columns' names, since preflight accepts (and names) other types.
 */
export async function describeObject(
  client: SqlClient,
  object: SchemaObject,
): Promise<string | null> {
  const { text, values } = queryFor(object);
  const result = await client.query<{ definition: string }>(text, [...values]);
  return result.rows[0]?.definition ?? null;
}

interface Query {
  readonly text: string;
  readonly values: readonly string[];
}

const IN_TABLE = `JOIN pg_class c ON c.relname = $2
  JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1`;

function queryFor(object: SchemaObject): Query {
  switch (object.kind) {
    case "relation":
      return { text: RELATION, values: [object.name.schema, object.name.name] };
    case "type":
      return { text: TYPE, values: [object.name.schema, object.name.name] };
    case "index":
      return { text: INDEX, values: [object.name.schema, object.name.name] };
    case "constraint":
      return { text: CONSTRAINT, values: [object.table.schema, object.table.name, object.name] };
    case "trigger":
      return { text: TRIGGER, values: [object.table.schema, object.table.name, object.name] };
    case "identity":
      return { text: IDENTITY, values: [object.table.schema, object.table.name, object.column] };
    case "attachment":
      return { text: ATTACHMENT, values: [object.child.schema, object.child.name] };
    case "other":
      return { text: "SELECT '' AS definition", values: [] };
  }
}

// A sequence's columns are the same everywhere; a view's and a table's are what others rely on.
const RELATION = `SELECT c.relkind::text || ' (' || coalesce((SELECT string_agg(quote_ident(a.attname) || ' ' || a.attgenerated::text, ',' ORDER BY a.attname)
    FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '') || ')' AS definition
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2`;

const TYPE = `SELECT t.typtype::text || ' ' || coalesce(
    (SELECT string_agg(quote_literal(e.enumlabel), ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
    (SELECT string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod), ',' ORDER BY a.attnum)
       FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped),
    format_type(nullif(t.typbasetype, 0), t.typtypmod), '') AS definition
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = $1 AND t.typname = $2`;

const INDEX = `SELECT pg_get_indexdef(c.oid) AS definition
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('i', 'I')`;

// Whether it has been validated is not what it means.
const CONSTRAINT = `SELECT regexp_replace(pg_get_constraintdef(o.oid), ' NOT VALID$', '') AS definition
  FROM pg_constraint o ${IN_TABLE} WHERE o.conrelid = c.oid AND o.conname = $3`;

const TRIGGER = `SELECT pg_get_triggerdef(t.oid) AS definition
  FROM pg_trigger t ${IN_TABLE} WHERE t.tgrelid = c.oid AND t.tgname = $3`;

const IDENTITY = `SELECT a.attidentity::text AS definition
  FROM pg_attribute a ${IN_TABLE} WHERE a.attrelid = c.oid AND a.attname = $3`;

const ATTACHMENT = `SELECT quote_ident(pn.nspname) || '.' || quote_ident(p.relname) || ' ' || pg_get_expr(c.relpartbound, c.oid) AS definition
  FROM pg_inherits h ${IN_TABLE} JOIN pg_class p ON p.oid = h.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
  WHERE h.inhrelid = c.oid`;
