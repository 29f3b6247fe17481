import type { SqlClient } from "../../backend/sql-client.js";
import { RowEvidence } from "../../core/row-evidence.js";
import { type EvidencePlace, forgetEvidence, writeEvidence } from "../control/evidence.js";
import { tableLabel } from "../copy/range-sql.js";
import type { MigrationRef, StreamNumber, TablePlan } from "../model/migration.js";
import type { Difference } from "./settle.js";
import type { TableComparison } from "./table-compare.js";

export interface ReceiptInput {
  readonly ref: MigrationRef;
  readonly stream: StreamNumber;
  readonly pass: number;
  readonly table: TablePlan;
  readonly startedAt: Date;
  readonly comparison: TableComparison;
  /** See `compareFromShards`. */
  readonly shardFindings: readonly string[];
}

const SHOWN_KEYS = 10;

/**
 * One receipt per table and to-shard. The keys are named beside it as evidence, in the user's own database, and
 * nowhere else: results travel through Temporal's history, which must hold no row data (R56).
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
    await noteKeys(client, { ...input, shard, wrong });
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
        ...[wholeTableFindings(input).join("\n"), startedAt],
      ],
    );
  }
  return findings;
}

/** The latest pass's word: a clean one takes back what an earlier one has noted. */
async function noteKeys(
  client: SqlClient,
  input: ReceiptInput & { readonly shard: number; readonly wrong: readonly Difference[] },
): Promise<void> {
  const { ref, stream, pass, table, shard, wrong } = input;
  const scope = `${tableLabel(table)}, stream ${stream}, shard ${shard}`;
  const place: EvidencePlace = { ref, step: "verify", scope, table };
  if (wrong.length === 0) return await forgetEvidence(client, place);
  const keys = wrong
    .slice(0, SHOWN_KEYS)
    .map(
      ({ key, expected, found }) =>
        `${key}: expected ${placeOf(expected.value)}, found ${placeOf(found.value)}`,
    );
  await writeEvidence(client, place, {
    code: "",
    reason: `${wrong.length} keys differ in pass ${pass}`,
    evidence: new RowEvidence(keys.join("\n")),
  });
}

function wholeTableFindings({ table, comparison, shardFindings }: ReceiptInput): readonly string[] {
  const { movingCount, unplacedRows, uncheckedCount } = comparison;
  const name = tableLabel(table);
  return [
    ...(movingCount > 0
      ? [`${name}: not clean: ${movingCount} keys still moving or set aside`]
      : []),
    ...(unplacedRows > 0 ? [`${name}: ${unplacedRows} rows without a sharding key`] : []),
    ...(uncheckedCount > 0 ? [`${name}: too many differences, not all were looked at`] : []),
    ...shardFindings,
  ];
}

/** Values are "shard:hash" lists. */
function rowsOn(shard: number, value: string): string {
  const rows = value.split(" ").filter((row) => row.startsWith(`${shard}:`));
  return rows.join(" ");
}

function placeOf(value: string): string {
  return value === "" ? "no row" : value;
}
