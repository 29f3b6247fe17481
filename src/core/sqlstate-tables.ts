/**
 * What PostgreSQL says, and what we say, to a statement that was written by tables as they are no more. A table of codes:
 * nothing else acts on one here, so they have no names in sqlstate.ts.
 */
const OF_OTHER_TABLES = new Set([
  // "cached plan must not change result type", and rows of shards that do not fit each other or the plan.
  "0A000",
  // A schema, column, function, table, type or position that is no more, or of another type.
  ...["3F000", "42601", "42702", "42703", "42725", "42804", "42809", "42846", "42883", "42704"],
  ...["42P01", "42P10", "42P18", "428C9"],
  // Columns of a replayed row, found to be others.
  "55000",
]);

/** Of a constraint that we made: a row on a shard where it does not belong. */
const PLACEMENT = /^sluice_/;
const CHECK_VIOLATION = "23514";

/** @param constraint as the error names it */
export function mayBeOfOtherTables(sqlState: string, constraint: string | undefined): boolean {
  if (sqlState === CHECK_VIOLATION) return PLACEMENT.test(constraint ?? "");
  return OF_OTHER_TABLES.has(sqlState);
}
