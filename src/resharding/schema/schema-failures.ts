import { type ErrorFields, type Recovery, SluiceError } from "../../core/errors.js";
import { SQLSTATE } from "../../core/sqlstate.js";

/** No fitting pg_dump, or it failed. */
export class SchemaDumpFailed extends SluiceError {
  readonly code = "SLUICE_SCHEMA_DUMP_FAILED";
  readonly sqlState = SQLSTATE.systemError;
  readonly recovery = "operator";
}

export interface FailedStatement {
  readonly sql: string;
  /** "shard 1 (host:port/database)". */
  readonly shard: string;
  /** What the server, or our comparison, said. */
  readonly reason: string;
  readonly recovery: Recovery;
}

const SHOWN_CHARACTERS = 200;

/** A statement of the schema that the destination refused. Everything before it is there. */
export class SchemaStatementFailed extends SluiceError {
  readonly code = "SLUICE_SCHEMA_STATEMENT_FAILED";
  readonly sqlState = SQLSTATE.objectNotInPrerequisiteState;
  readonly recovery: Recovery;
  constructor({ sql, shard, reason, recovery }: FailedStatement, fields: ErrorFields = {}) {
    super(`schema statement failed on ${shard}: ${reason}`, {
      detail: `Statement: ${sql.slice(0, SHOWN_CHARACTERS)}`,
      hint: "Correct the destination or the source's schema, then run it again: what is there already is kept.",
      ...fields,
    });
    this.recovery = recovery;
  }
}
