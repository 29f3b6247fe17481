import type { QueryConfig } from "pg";
import type { SqlClient } from "../../backend/sql-client.js";
import { quoteIdentifier, quoteQualified } from "../../core/identifier.js";
import { encodeTuple, type Tuple } from "../../replication/tuple.js";
import type { TablePlan } from "../model/migration.js";

/** Values as the server's output functions write them, as the stream does; never parsed. */
const RAW = { getTypeParser: () => (value: string) => value };

/**
 * Reads rows by key as the stream would send them.
 * @returns the rows that are there, in any order
 */
export async function readRows(
  client: SqlClient,
  plan: TablePlan,
  keys: readonly (readonly string[])[],
): Promise<readonly Tuple[]> {
  const key = plan.keyColumns ?? [];
  const columns = plan.columns.map((column) => `t.${quoteIdentifier(column.name)}`);
  const conditions = key.map((name, index) => {
    const type = plan.columns.find((column) => column.name === name)?.type ?? "text";
    return `t.${quoteIdentifier(name)} = v.k${index}::${type}`;
  });
  const query: QueryConfig & { rowMode: "array" } = {
    text: `SELECT ${columns.join(", ")} FROM ONLY ${quoteQualified(plan.schema, plan.name)} AS t,
      unnest(${key.map((_, index) => `$${index + 1}::text[]`).join(", ")})
      AS v(${key.map((_, index) => `k${index}`).join(", ")}) WHERE ${conditions.join(" AND ")}`,
    values: key.map((_, index) => keys.map((texts) => texts[index] ?? "")),
    rowMode: "array",
    types: RAW,
  };
  const { rows } = await client.query<(string | null)[]>(query);
  return rows.map(encodeTuple);
}
