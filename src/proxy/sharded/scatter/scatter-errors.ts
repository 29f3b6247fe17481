import { type ErrorFields, SluiceError } from "../../../core/errors.js";
import { SQLSTATE } from "../../../core/sqlstate.js";
import type { RefusedRoute } from "../../../router/route.js";

/** The shards' answers cannot be made into one; found out only when they came. */
export class UnmergeableResult extends SluiceError {
  readonly code = "SLUICE_RESULT_UNMERGEABLE";
  readonly sqlState = SQLSTATE.featureNotSupported;
  readonly recovery = "never";
  constructor(reason: string, hint: string, fields: ErrorFields = {}) {
    super(reason, { hint, ...fields });
  }
}

/** A statement over several shards would need more memory here than it may. */
export class ScatterLimitExceeded extends SluiceError {
  readonly code = "SLUICE_SCATTER_LIMIT_EXCEEDED";
  readonly sqlState = SQLSTATE.configurationLimitExceeded;
  readonly recovery = "never";
  constructor(what: string, limit: number) {
    super(`${what} exceed ${limit} bytes`, {
      hint: "Name the sharding key, or ask for fewer rows at once.",
    });
  }
}

/** An UPDATE that assigns the sharding key has found rows that it would have to move, and cannot. */
export class RowsElsewhere extends SluiceError {
  readonly code = "SLUICE_ROWS_ELSEWHERE";
  readonly sqlState = SQLSTATE.featureNotSupported;
  readonly recovery = "never";
  constructor(rows: number, { reason, hint }: Pick<RefusedRoute, "reason" | "hint">) {
    super(`${rows} rows would move to another shard: ${reason}`, { hint });
  }
}

/** Rows that are to move are referred to by others, whose foreign key does not wait for COMMIT. */
export class RowsReferredTo extends SluiceError {
  readonly code = "SLUICE_ROWS_REFERRED_TO";
  readonly sqlState = SQLSTATE.featureNotSupported;
  readonly recovery = "never";
  constructor(table: string, others: readonly string[]) {
    const list = others.map((name) => `"${name}"`).join(", ");
    super(`rows of "${table}" cannot move to another shard while rows of ${list} refer to them`, {
      hint: "A foreign key holds within one shard. In one transaction give the referring rows the new sharding key first, then these; the key must be DEFERRABLE INITIALLY DEFERRED.",
    });
  }
}

/** A row that moves has other columns than are known, and would lose some. */
export class ColumnsChanged extends SluiceError {
  readonly code = "SLUICE_COLUMNS_CHANGED";
  readonly sqlState = SQLSTATE.objectNotInPrerequisiteState;
  readonly recovery = "retry";
  constructor(table: string) {
    super(`the columns of "${table}" have changed`, {
      hint: "Repeat the transaction: the table is read anew.",
    });
  }
}

/** Data of COPY FROM STDIN that cannot be dealt out to shards. */
export class CopyDataUnroutable extends SluiceError {
  readonly code = "SLUICE_COPY_DATA_UNROUTABLE";
  readonly sqlState = SQLSTATE.badCopyFileFormat;
  readonly recovery = "never";
  constructor(reason: string, rowNumber: number, hint: string) {
    super(`COPY row ${rowNumber}: ${reason}`, { hint });
  }
}

/** A row left its shard and did not arrive on the other: the transaction must not commit. */
export class RowNotMoved extends SluiceError {
  readonly code = "SLUICE_ROW_NOT_MOVED";
  readonly sqlState = SQLSTATE.triggeredDataChangeViolation;
  readonly recovery = "never";
  constructor() {
    super("a row whose sharding key changes was not inserted on its new shard", {
      hint: "A trigger or rule of the table suppresses the INSERT; move the row without it.",
    });
  }
}
