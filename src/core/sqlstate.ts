import { assert } from "./assert.js";
import type { Brand } from "./brand.js";

export type SqlState = Brand<string, "SqlState">;

/** What a server, or a driver, gave as an error's code; null where that is no SQLSTATE. */
export function parseSqlState(code: string | undefined): SqlState | null {
  return code !== undefined && /^[0-9A-Z]{5}$/.test(code) ? (code as SqlState) : null;
}

function state(code: string): SqlState {
  const parsed = parseSqlState(code);
  assert(parsed, `"${code}" is no SQLSTATE`);
  return parsed;
}

/**
 * SQLSTATEs that we send or act on, under PostgreSQL's condition names.
 * @see https://www.postgresql.org/docs/current/errcodes-appendix.html
 */
export const SQLSTATE = {
  successfulCompletion: state("00000"),
  connectionFailure: state("08006"),
  serverRejectedConnection: state("08004"),
  protocolViolation: state("08P01"),
  featureNotSupported: state("0A000"),
  cardinalityViolation: state("21000"),
  invalidParameterValue: state("22023"),
  invalidTextRepresentation: state("22P02"),
  invalidBinaryRepresentation: state("22P03"),
  badCopyFileFormat: state("22P04"),
  notNullViolation: state("23502"),
  foreignKeyViolation: state("23503"),
  uniqueViolation: state("23505"),
  checkViolation: state("23514"),
  exclusionViolation: state("23P01"),
  triggeredDataChangeViolation: state("27000"),
  activeSqlTransaction: state("25001"),
  noActiveSqlTransaction: state("25P01"),
  inFailedSqlTransaction: state("25P02"),
  invalidSqlStatementName: state("26000"),
  invalidCursorName: state("34000"),
  duplicateCursor: state("42P03"),
  invalidAuthorizationSpecification: state("28000"),
  invalidPassword: state("28P01"),
  invalidCatalogName: state("3D000"),
  invalidSchemaName: state("3F000"),
  serializationFailure: state("40001"),
  statementCompletionUnknown: state("40003"),
  deadlockDetected: state("40P01"),
  syntaxError: state("42601"),
  insufficientPrivilege: state("42501"),
  ambiguousColumn: state("42702"),
  ambiguousFunction: state("42725"),
  cannotCoerce: state("42846"),
  datatypeMismatch: state("42804"),
  indeterminateDatatype: state("42P18"),
  invalidColumnReference: state("42P10"),
  undefinedColumn: state("42703"),
  undefinedFunction: state("42883"),
  undefinedObject: state("42704"),
  undefinedTable: state("42P01"),
  generatedAlways: state("428C9"),
  duplicateColumn: state("42701"),
  duplicateFunction: state("42723"),
  duplicateObject: state("42710"),
  duplicatePreparedStatement: state("42P05"),
  duplicateSchema: state("42P06"),
  duplicateTable: state("42P07"),
  invalidForeignKey: state("42830"),
  invalidTableDefinition: state("42P16"),
  wrongObjectType: state("42809"),
  tooManyConnections: state("53300"),
  configurationLimitExceeded: state("53400"),
  outOfMemory: state("53200"),
  programLimitExceeded: state("54000"),
  statementTooComplex: state("54001"),
  objectNotInPrerequisiteState: state("55000"),
  objectInUse: state("55006"),
  lockNotAvailable: state("55P03"),
  queryCanceled: state("57014"),
  adminShutdown: state("57P01"),
  cannotConnectNow: state("57P03"),
  systemError: state("58000"),
  configFileError: state("F0000"),
  internalError: state("XX000"),
  /**
   * Ours: the gate of a moving table is closed. Class "SL" is free for implementations (SQL:2016 4.29.2:
   * classes beginning with I to Z). Raised by `sluice.refuse()` inside PostgreSQL.
   */
  gateClosed: state("SL001"),
} as const;
