import type { SqlClient } from "../../backend/sql-client.js";
import { type ErrorFields, SluiceError } from "../../core/errors.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { ServerIdentity } from "../../replication/walsender.js";
import type { StepTimings } from "../model/activities.js";
import type { MigrationRef, Side } from "../model/migration.js";
import type { DecisionCopy, StoredState } from "../model/protocol.js";

/** A row of `sluice.decision`; what its states mean is in `model/protocol.ts`. */
export interface Decision extends DecisionCopy {
  readonly serving: Side;
  readonly stream: number;
  readonly token: string;
  readonly capMs: number;
  readonly openTransactions: "wait" | "end";
  readonly reason: string;
  readonly systemIdentifier: string;
  readonly timeline: number;
  readonly timings: DecisionTimings;
}

/** Written after the fact by `switchTraffic`, for people. */
export interface DecisionTimings {
  readonly pauseMs?: number;
  readonly steps?: StepTimings;
}

/** The control database is not the server that it was, or the row is gone, and no witness answers yet. */
export class DecisionLost extends SluiceError {
  readonly code = "SLUICE_DECISION_LOST";
  readonly sqlState = SQLSTATE.objectNotInPrerequisiteState;
  readonly recovery = "retry";
  constructor(epoch: number, options: ErrorFields = {}) {
    super(
      `the decision of epoch ${epoch} is not on its server; waiting for every destination shard`,
      {
        hint: "A destination shard that opened its gate for this epoch is the witness; bring all of them up.",
        ...options,
      },
    );
  }
}

const COLUMNS = `epoch, serving, stream, state, token, cap_ms AS "capMs", reason,
  open_transactions AS "openTransactions",
  system_identifier AS "systemIdentifier", timeline, opened_at IS NOT NULL AS "isOpened", timings,
  (extract(epoch FROM expires_at - clock_timestamp()) * 1000)::float8 AS "expiresInMs"`;

export async function readDecision(
  client: SqlClient,
  ref: Pick<MigrationRef, "id">,
  epoch: number,
): Promise<Decision | null> {
  const result = await client.query<Decision>(
    `SELECT ${COLUMNS} FROM sluice.decision WHERE migration = $1 AND epoch = $2`,
    [ref.id, epoch],
  );
  return result.rows[0] ?? null;
}

/** All decisions of a migration that this server has, by epoch. */
export async function readDecisions(
  client: SqlClient,
  ref: Pick<MigrationRef, "id">,
): Promise<readonly Decision[]> {
  const result = await client.query<Decision>(
    `SELECT ${COLUMNS} FROM sluice.decision WHERE migration = $1 ORDER BY epoch`,
    [ref.id],
  );
  return result.rows;
}

/** What a compare-and-set names. */
export interface DecisionKey {
  readonly ref: Pick<MigrationRef, "id">;
  readonly epoch: number;
  readonly token: string;
}

/**
 * The next epoch as `planned`; `planned` rows before it are aborted in the same transaction, so that their
 * holder can prepare nothing. What was read before is asked again in the statement itself: a run that was
 * frozen since would give the gates of a switch under way, or of one that has happened, to its own epoch (R46).
 * @param knownEpoch the highest committed epoch that the caller has seen
 * @returns false when another attempt has taken the epoch, is prepared, or has committed meanwhile
 */
export async function planDecision(
  client: SqlClient,
  ref: Pick<MigrationRef, "id">,
  row: Pick<Decision, "epoch" | "token" | "serving" | "stream" | "capMs" | "openTransactions"> &
    ServerIdentity,
  knownEpoch: number,
): Promise<boolean> {
  await client.query("BEGIN");
  await client.query(
    `UPDATE sluice.decision SET state = 'aborted', reason = 'replaced', decided_at = clock_timestamp()
      WHERE migration = $1 AND state = 'planned' AND epoch < $2`,
    [ref.id, row.epoch],
  );
  // Its own snapshot, after the update has waited for whoever was preparing one of those rows.
  const inserted = await client.query(
    `INSERT INTO sluice.decision (migration, epoch, serving, stream, state, token, cap_ms,
                                  open_transactions, system_identifier, timeline)
     SELECT $1, $2, $3, $4, 'planned', $5, $6, $7, $8, $9
      WHERE NOT EXISTS (SELECT FROM sluice.decision
                         WHERE migration = $1
                           AND (state = 'prepared' OR state = 'committed' AND epoch > $10))
         ON CONFLICT (migration, epoch) DO NOTHING`,
    [
      ref.id,
      row.epoch,
      row.serving,
      row.stream,
      row.token,
      row.capMs,
      row.openTransactions,
      row.systemIdentifier,
      row.timeline,
      knownEpoch,
    ],
  );
  const isPlanned = inserted.rowCount === 1;
  await client.query(isPlanned ? "COMMIT" : "ROLLBACK");
  return isPlanned;
}

/**
 * planned -> prepared, with an expiry by this database's clock. The hold begins here.
 * @returns the new decision, or null when somebody else was there first: do nothing more
 */
export async function markPrepared(client: SqlClient, key: DecisionKey): Promise<Decision | null> {
  const result = await client.query<Decision>(
    `UPDATE sluice.decision
        SET state = 'prepared', expires_at = clock_timestamp() + cap_ms * interval '1 ms'
      WHERE migration = $1 AND epoch = $2 AND token = $3 AND state = 'planned'
  RETURNING ${COLUMNS}`,
    [key.ref.id, key.epoch, key.token],
  );
  return result.rows[0] ?? null;
}

/**
 * prepared -> committed, if not expired: THE switch. One statement, one fsync (`synchronous_commit = on`
 * in every session of ours, R28). If this throws, the outcome is unknown: probe with `readDecision` on a
 * new connection.
 * @returns false when it is not ours to commit any more
 */
export async function markCommitted(client: SqlClient, key: DecisionKey): Promise<boolean> {
  const result = await client.query(
    `UPDATE sluice.decision SET state = 'committed', decided_at = clock_timestamp()
      WHERE migration = $1 AND epoch = $2 AND token = $3 AND state = 'prepared'
        AND expires_at > clock_timestamp()`,
    [key.ref.id, key.epoch, key.token],
  );
  return result.rowCount === 1;
}

/**
 * -> aborted: from planned or prepared ("always": the coordinator has ended, or gives up itself), or from
 * expired only ("expired": anybody). One winner between this and `markCommitted`.
 */
export async function markAborted(
  client: SqlClient,
  key: Omit<DecisionKey, "token">,
  input: { readonly reason: string; readonly when: "expired" | "always" },
): Promise<boolean> {
  const result = await client.query(
    `UPDATE sluice.decision SET state = 'aborted', decided_at = clock_timestamp(), reason = $3
      WHERE migration = $1 AND epoch = $2
        AND (state = 'planned' AND $4 OR state = 'prepared' AND ($4 OR expires_at <= clock_timestamp()))`,
    [key.ref.id, key.epoch, input.reason, input.when === "always"],
  );
  return result.rowCount === 1;
}

/** What a copy of a decision on another shard says; the timings stay where they were measured. */
const COPY_SQL = `INSERT INTO sluice.decision (migration, epoch, serving, stream, state, token, cap_ms,
                                  open_transactions, system_identifier, timeline, decided_at)
  SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, clock_timestamp() `;
const COPY_CONFLICT_SQL = `ON CONFLICT (migration, epoch) DO UPDATE
     SET state = excluded.state, serving = excluded.serving, stream = excluded.stream,
         system_identifier = excluded.system_identifier, timeline = excluded.timeline`;

function copyValues(
  ref: Pick<MigrationRef, "id">,
  decision: Decision,
  state: StoredState,
): unknown[] {
  const { epoch, serving, stream, token, capMs, openTransactions, systemIdentifier, timeline } =
    decision;
  return [
    ref.id,
    epoch,
    serving,
    stream,
    state,
    token,
    capMs,
    openTransactions,
    systemIdentifier,
    timeline,
  ];
}

/** Copies a final decision to a shard, for nodes that boot (R32). */
export async function storeFinal(
  client: SqlClient,
  ref: Pick<MigrationRef, "id">,
  decision: Decision & { readonly state: "committed" | "aborted" },
): Promise<void> {
  await client.query(`${COPY_SQL} ${COPY_CONFLICT_SQL}`, copyValues(ref, decision, decision.state));
}

/**
 * Makes a shard that will serve the second witness (R30): the `committed` row is there, durably, whenever
 * its gate was open. Only while the gate still has `gateToken`: whoever looked for witnesses and found none
 * has rotated it first, and then this writes nothing.
 */
export async function storeWitness(
  client: SqlClient,
  ref: Pick<MigrationRef, "id">,
  input: { readonly decision: Decision; readonly gateToken: string },
): Promise<boolean> {
  const result = await client.query(
    `${COPY_SQL} FROM sluice.gate g WHERE g.migration = $1 AND g.epoch = $2 AND g.token = $11 FOR UPDATE
     ${COPY_CONFLICT_SQL}`,
    [...copyValues(ref, input.decision, "committed"), input.gateToken],
  );
  return result.rowCount === 1;
}

/** Channel of the hint that a decision has changed; the payload is the migration's id. */
export const DECISION_CHANNEL = "sluice_decision";

export async function hintDecision(
  client: SqlClient,
  ref: Pick<MigrationRef, "id">,
): Promise<void> {
  await client.query("SELECT pg_notify($1, $2)", [DECISION_CHANNEL, ref.id]);
}
