import type { SqlClient } from "../../backend/sql-client.js";
import { tableLabel } from "../copy/range-sql.js";
import type { MigrationRef, StreamNumber, TablePlan } from "../model/migration.js";
import type { TableComparison } from "./table-compare.js";

export interface ReceiptInput {
  readonly ref: MigrationRef;
  readonly stream: StreamNumber;
  readonly pass: number;
  readonly table: TablePlan;
  readonly startedAt: Date;
  readonly comparison: TableComparison;
}

const KEYS_IN_DETAIL = 10;

/**
 * One receipt per table and to-shard. The keys are named here, in the user's own database, and nowhere else:
 * results travel through Temporal's history, which must hold no row data.
 * @returns what is wrong, without keys; empty when the table is clean
 */
export async function writeReceipts(
  client: SqlClient,
  input: ReceiptInput,
): Promise<readonly string[]> {
  const { ref, stream, pass, table, startedAt, comparison } = input;
  const findings: string[] = [...wholeTableFindings(input)];
  const isTableClean = findings.length === 0;
  for (const [shard, total] of comparison.expected.entries()) {
    const wrong = comparison.differences.filter(
      ({ expected, found }) => rowsOn(shard, expected.value) !== rowsOn(shard, found.value),
    );
    if (wrong.length > 0)
      findings.push(`${tableLabel(table)}: ${wrong.length} keys differ on shard ${shard}`);
    const detail = wrong
      .slice(0, KEYS_IN_DETAIL)
      .map(
        ({ key, expected, found }) =>
          `${key}: expected ${place(expected.value)}, found ${place(found.value)}`,
      );
    await client.query(
      `INSERT INTO sluice.receipt (migration, stream, pass, schema_name, table_name, shard,
         row_count, hash, is_clean, detail, started_at)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
       ON CONFLICT (migration, stream, pass, schema_name, table_name, shard) DO UPDATE
         SET row_count = excluded.row_count, hash = excluded.hash, is_clean = excluded.is_clean,
             detail = excluded.detail, started_at = excluded.started_at,
             finished_at = clock_timestamp()`,
      [
        ...[ref.id, stream, pass, table.schema, table.name, shard],
        ...[total.rowCount, total.hash.toString(), isTableClean && wrong.length === 0],
        ...[[...wholeTableFindings(input), ...detail].join("\n"), startedAt],
      ],
    );
  }
  return findings;
}

function wholeTableFindings({ table, comparison }: ReceiptInput): readonly string[] {
  const { movingCount, unplacedRows, uncheckedCount } = comparison;
  const name = tableLabel(table);
  return [
    ...(movingCount > 0 ? [`${name}: not clean: ${movingCount} keys still moving`] : []),
    ...(unplacedRows > 0 ? [`${name}: ${unplacedRows} rows without a sharding key`] : []),
    ...(uncheckedCount > 0 ? [`${name}: too many differences, not all were looked at`] : []),
  ];
}

/** Values are "shard:hash" lists. */
function rowsOn(shard: number, value: string): string {
  const rows = value.split(" ").filter((row) => row.startsWith(`${shard}:`));
  return rows.join(" ");
}

function place(value: string): string {
  return value === "" ? "no row" : value;
}
