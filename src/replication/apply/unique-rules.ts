import type { SqlClient } from "../../backend/sql-client.js";
import { quoteIdentifier, quoteQualified } from "../../core/identifier.js";
import { type Tuple, tupleTexts } from "../tuple.js";
import type { AppliedTable } from "./applied-table.js";
import { keyTexts } from "./table-sql.js";

/** What keeps a row out of a table while another one is there: a unique index or an exclusion constraint. */
export interface UniqueRule {
  /** For messages: "unique (email)". */
  readonly description: string;
  /** Checked at the end of a statement or a transaction, and not at all in sessions like ours. */
  readonly isDeferrable: boolean;
  /** Plain columns; an expression is none. */
  readonly columns: readonly string[];
  readonly parts: readonly RulePart[];
  readonly predicate: string | null;
  readonly nullsAreEqual: boolean;
}

interface RulePart {
  /** Column or expression, in the table's own names. */
  readonly expression: string;
  readonly column: string | null;
  /** Two rows meet where this holds for every part. */
  readonly operator: string;
}

/** All of a table as it is on this server, its key's included. */
export async function readUniqueRules(
  client: SqlClient,
  table: Pick<AppliedTable, "schema" | "name">,
): Promise<readonly UniqueRule[]> {
  const { rows } = await client.query<
    Omit<UniqueRule, "description" | "columns"> & { readonly isExclusion: boolean }
  >(
    `SELECT i.indisexclusion AS "isExclusion", NOT i.indimmediate AS "isDeferrable",
            pg_get_expr(i.indpred, i.indrelid) AS predicate,
            coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) AS "nullsAreEqual",
            (SELECT json_agg(json_build_object(
                      'expression', pg_get_indexdef(i.indexrelid, k.at, true), 'column', a.attname,
                      'operator', format('OPERATOR(%I.%s)', n.nspname, o.oprname)) ORDER BY k.at)
               FROM generate_series(1, i.indnkeyatts) AS k(at)
               LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.at - 1] AND a.attnum > 0
               JOIN pg_operator o ON o.oid = coalesce(x.conexclop[k.at], (
                 SELECT m.amopopr FROM pg_opclass c
                   JOIN pg_amop m ON m.amopfamily = c.opcfamily AND m.amoplefttype = c.opcintype
                    AND m.amoprighttype = c.opcintype AND m.amopstrategy = 3
                  WHERE c.oid = i.indclass[k.at - 1]))
               JOIN pg_namespace n ON n.oid = o.oprnamespace) AS parts
       FROM pg_index i LEFT JOIN pg_constraint x ON x.conindid = i.indexrelid AND x.contype = 'x'
      WHERE i.indrelid = to_regclass(format('%I.%I', $1::text, $2::text))
        AND (i.indisunique OR i.indisexclusion) AND i.indisvalid
      ORDER BY i.indexrelid`,
    [table.schema, table.name],
  );
  return rows.map(({ isExclusion, ...rule }) => ({
    ...rule,
    columns: rule.parts.flatMap(({ column }) => column ?? []),
    description: `${isExclusion ? "exclusion" : "unique"} (${rule.parts.map(({ expression }) => expression).join(", ")})`,
  }));
}

/** Names that no table and no column of it has by chance. */
const V = quoteIdentifier("sluice v");
const VALUE = (index: number) => quoteIdentifier(`sluice value ${index}`);

/** A row whose columns go without a qualifier meets the values of row `V`. */
function meeting(rule: UniqueRule): string {
  const parts = rule.parts.map(({ expression, operator }, index) => {
    const value = `${V}.${VALUE(index)}`;
    const isMet = `(${expression}) ${operator} ${value}`;
    return rule.nullsAreEqual
      ? `(${isMet} OR (${expression}) IS NULL AND ${value} IS NULL)`
      : isMet;
  });
  return [...parts, ...(rule.predicate === null ? [] : [rule.predicate])].join(" AND ");
}

function valuesOf(rule: UniqueRule): string {
  return rule.parts.map(({ expression }, index) => `(${expression}) AS ${VALUE(index)}`).join(", ");
}

export interface Holder {
  readonly rule: UniqueRule;
  /** Texts of the key of the row that is there. */
  readonly key: readonly string[];
}

/** The row that keeps this one out, by the first rule that does; null: none does (any more). */
export async function findHolder(
  client: SqlClient,
  table: AppliedTable,
  input: { readonly rules: readonly UniqueRule[]; readonly row: Tuple },
): Promise<Holder | null> {
  const values = tupleTexts(input.row).map((value) => value ?? null);
  const columns = table.columns.map(
    ({ name, type }, index) => `$${index + 1}::text::${type} AS ${quoteIdentifier(name)}`,
  );
  const generated = await readGenerated(client, table);
  const row = `SELECT n.*${generated.map((column) => `, ${column}`).join("")}
    FROM (SELECT ${columns.join(", ")}) AS n`;
  for (const rule of input.rules) {
    const own = table.keyColumns?.map((index) => {
      const { name = "", type = "text" } = table.columns[index] ?? {};
      return `${quoteIdentifier(name)} = $${index + 1}::text::${type}`;
    });
    const { rows } = await client.query<{ key: string[] }>(
      `WITH ${V} AS MATERIALIZED (SELECT ${valuesOf(rule)} FROM (${row}) AS r
         WHERE ${rule.predicate ?? "true"})
       SELECT ${keyTexts(table, "")} FROM ONLY ${quoteQualified(table.schema, table.name)}, ${V}
        WHERE ${meeting(rule)} AND NOT (${own?.join(" AND ") ?? "false"}) LIMIT 1`,
      values,
    );
    if (rows[0]) return { rule, key: rows[0].key };
  }
  return null;
}

/** Generated columns as expressions: they are not sent, and rules may name them. */
async function readGenerated(client: SqlClient, table: AppliedTable): Promise<readonly string[]> {
  const { rows } = await client.query<{ text: string }>(
    `SELECT format('(%s) AS %I', pg_get_expr(d.adbin, d.adrelid), a.attname) AS text
       FROM pg_attribute a JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
      WHERE a.attrelid = to_regclass(format('%I.%I', $1::text, $2::text)) AND a.attgenerated <> ''
        AND NOT a.attisdropped ORDER BY a.attnum`,
    [table.schema, table.name],
  );
  return rows.map(({ text }) => text);
}

/**
 * Takes out the rows of these keys that another row meets by one of the rules. PostgreSQL checks deferrable
 * constraints by a trigger, which does not fire in sessions with `session_replication_role = replica`.
 * @returns the keys of the rows that are gone, as texts
 */
export async function takeOutDoubles(
  client: SqlClient,
  table: AppliedTable,
  input: { readonly rules: readonly UniqueRule[]; readonly keys: readonly (readonly string[])[] },
): Promise<readonly (readonly string[])[]> {
  const taken: (readonly string[])[] = [];
  const name = quoteQualified(table.schema, table.name);
  const key = (table.keyColumns ?? []).map((index) => table.columns[index]);
  const isKey = (row: string, other: string) =>
    key
      .map((column, index) => {
        const value = `${other}.${quoteIdentifier(`sluice key ${index}`)}`;
        return `${row}${quoteIdentifier(column?.name ?? "")} = ${value}`;
      })
      .join(" AND ");
  const names = key.map((_, index) => `k${index}`);
  const arrays = names.map((_, index) => `$${index + 1}::text[]`);
  const keys = key.map(
    (column, index) =>
      `k.k${index}::${column?.type ?? "text"} AS ${quoteIdentifier(`sluice key ${index}`)}`,
  );
  for (const rule of input.rules) {
    const { rows } = await client.query<{ key: string[] }>(
      `WITH ${V} AS MATERIALIZED (
         SELECT ${keys.join(", ")}, r.* FROM unnest(${arrays.join(", ")}) AS k(${names.join(", ")})
         CROSS JOIN LATERAL (SELECT ${valuesOf(rule)} FROM ONLY ${name}
           WHERE ${key.map((column, index) => `${quoteIdentifier(column?.name ?? "")} = k.k${index}::${column?.type ?? "text"}`).join(" AND ")}
             AND ${rule.predicate ?? "true"}) AS r),
       doubled AS (
         SELECT ${V}.* FROM ${V} WHERE EXISTS (
           SELECT FROM ONLY ${name} WHERE ${meeting(rule)} AND NOT (${isKey("", V)})))
       DELETE FROM ONLY ${name} AS t USING doubled WHERE ${isKey("t.", "doubled")}
       RETURNING ${keyTexts(table, "t.")}`,
      key.map((_, index) => input.keys.map((texts) => texts[index] ?? "")),
    );
    taken.push(...rows.map((row) => row.key));
  }
  return taken;
}
