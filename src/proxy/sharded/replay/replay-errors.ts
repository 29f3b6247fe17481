import type { ServerConnection } from "../../../backend/server-connection.js";
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
      { hint: "Repeat the transaction: the table is read anew." },
    );
  return new RowsNotReplayed(
    SQLSTATE.featureNotSupported,
    `with this ${obstacle}, text of a row of omnisharded table "${table}" may not be the whole row`,
    { hint: `Write omnisharded tables with the default of ${obstacle}.` },
  );
}

/** What to tell of rows that are not on a shard as they are on the first, asked of its server. */
export async function differenceOf(
  table: string,
  shard: number,
  server: ServerConnection,
): Promise<RowsNotReplayed> {
  const { rows } = await server.query("SHOW transaction_isolation");
  // Snapshots of the shards may be of different moments.
  if (/^(repeatable read|serializable)$/.test(rows[0]?.[0] ?? ""))
    return new RowsNotReplayed(
      SQLSTATE.serializationFailure,
      `rows of omnisharded table "${table}" were changed since shard ${shard} was first read`,
      { hint: "Try the transaction again." },
    );
  return new RowsNotReplayed(
    SQLSTATE.triggeredDataChangeViolation,
    `rows of omnisharded table "${table}" came out otherwise on shard ${shard}`,
    {
      hint: "The shards differed before, or a trigger changes rows there: compare them with sluice verify --omnisharded, and see docs/omnisharded.md.",
    },
  );
}
