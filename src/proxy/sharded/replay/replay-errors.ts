import { type ErrorFields, SluiceError } from "../../../core/errors.js";
import { SQLSTATE, type SqlState } from "../../../core/sqlstate.js";

/** Rows of an omnisharded table cannot be brought to the other shards as they are: the transaction must not commit. */
export class RowsNotReplayed extends SluiceError {
  readonly code = "SLUICE_ROWS_NOT_REPLAYED";
  readonly sqlState: SqlState;
  readonly recovery = "never";
  constructor(sqlState: SqlState, reason: string, fields: ErrorFields) {
    super(reason, fields);
    this.sqlState = sqlState;
  }
}

/** @param obstacle as the deciding shard said it, see `withReturnedRows` */
export function notReplayable(table: string, obstacle: string): RowsNotReplayed {
  if (obstacle === "columns")
    return new RowsNotReplayed(
      SQLSTATE.objectNotInPrerequisiteState,
      `the columns of omnisharded table "${table}" have changed`,
      { hint: "RELOAD after a table was changed by other means than this proxy." },
    );
  return new RowsNotReplayed(
    SQLSTATE.featureNotSupported,
    `with this ${obstacle}, text of a row of omnisharded table "${table}" may not be the whole row`,
    { hint: `Write omnisharded tables with the default of ${obstacle}.` },
  );
}

export interface Difference {
  readonly table: string;
  readonly shard: number;
  readonly isGuarded: boolean;
  /** The transaction's snapshots may be of different moments. */
  readonly isSnapshotKept: boolean;
}

export function cameOutOtherwise(difference: Difference): RowsNotReplayed {
  const { table, shard, isGuarded, isSnapshotKept } = difference;
  if (isSnapshotKept)
    return new RowsNotReplayed(
      SQLSTATE.serializationFailure,
      `rows of omnisharded table "${table}" were changed since shard ${shard} was first read`,
      { hint: "Try the transaction again." },
    );
  return new RowsNotReplayed(
    SQLSTATE.triggeredDataChangeViolation,
    `rows of omnisharded table "${table}" came out otherwise on shard ${shard}`,
    {
      hint: isGuarded
        ? "A trigger changes them there again: see docs/omnisharded.md. Compare the shards with sluice verify --omnisharded."
        : "Compare the shards with sluice verify --omnisharded.",
    },
  );
}
