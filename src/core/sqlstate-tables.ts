import { SQLSTATE } from "./sqlstate.js";

const OF_OTHER_TABLES: ReadonlySet<string> = new Set([
  // A schema, table, column, function or type that is no more, is another, or is one of several now.
  SQLSTATE.invalidSchemaName,
  SQLSTATE.undefinedTable,
  SQLSTATE.undefinedColumn,
  SQLSTATE.undefinedFunction,
  SQLSTATE.undefinedObject,
  SQLSTATE.ambiguousColumn,
  SQLSTATE.ambiguousFunction,
  SQLSTATE.wrongObjectType,
  SQLSTATE.generatedAlways,
  // Values of another type, and more or fewer than there are columns.
  SQLSTATE.datatypeMismatch,
  SQLSTATE.cannotCoerce,
  SQLSTATE.indeterminateDatatype,
  SQLSTATE.syntaxError,
  // A unique key that ON CONFLICT names.
  SQLSTATE.invalidColumnReference,
  // "cached plan must not change result type", and rows of shards that fit neither each other nor the plan.
  SQLSTATE.featureNotSupported,
  // Columns of a replayed row.
  SQLSTATE.objectNotInPrerequisiteState,
]);

/** Of a constraint that we made: it refuses rows that belong to another shard. */
const OUR_CONSTRAINT = /^sluice_/;

/**
 * Whether a statement that was written by tables as they are no more would fail so.
 * @param constraint as the error names it
 */
export function mayBeOfOtherTables(sqlState: string, constraint: string | undefined): boolean {
  if (sqlState === SQLSTATE.checkViolation) return OUR_CONSTRAINT.test(constraint ?? "");
  return OF_OTHER_TABLES.has(sqlState);
}
