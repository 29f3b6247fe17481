import { setTimeout as delay } from "node:timers/promises";
import type { SqlClient } from "../../../backend/sql-client.js";
import { NotReady } from "../../../core/errors.js";
import { LSN_ZERO, type Lsn, parseLsn } from "../../../core/lsn.js";
import { ensureOrigin, setupOrigin } from "../../../replication/origin.js";
import {
  LaneRowExists,
  LaneRowMissing,
  LaneTaken,
  ServerIdentityChanged,
  StreamUnsupportedChange,
} from "../../../replication/stream-errors.js";
import type { ServerIdentity } from "../../../replication/walsender.js";
import type { EngineContext } from "../../context.js";
import { upgradeControlSchema } from "../../control/control-schema.js";
import { describeIdentity, sameServer } from "../../control/identity.js";
import type { SessionUse, Sides } from "../../control/sides.js";
import { endHolders, listHolders, takeOver } from "../../control/takeover.js";
import {
  type MigrationRef,
  otherSide,
  type StreamNumber,
  streamFrom,
} from "../../model/migration.js";

/** Which lane: one from-shard into one to-shard. */
export interface LaneId {
  readonly ref: MigrationRef;
  readonly stream: StreamNumber;
  readonly fromShard: number;
  readonly toShard: number;
}

export type LaneState = "standby" | "applying";

/** The one session that may write for a lane, for as long as its activity lives. */
export interface LaneSession {
  readonly id: LaneId;
  readonly client: SqlClient;
  /** Everything before it is durable here. */
  readonly positionLsn: Lsn;
  readonly state: LaneState;
  readonly slot: string;
  readonly identity: ServerIdentity;
  /** Transactions that commit from here on are in no copied range; null: not noted yet. */
  readonly copiedLsn: Lsn | null;
}

const TAKEOVER_TIMEOUT_MS = 15_000;

/**
 * Performance, section 2: without these a plan for a large array may scan the table. `replica`: neither
 * triggers, foreign keys nor the gate are for rows that have passed them where they come from.
 */
const LANE_SETTINGS = {
  session_replication_role: "replica",
  plan_cache_mode: "force_generic_plan",
  enable_hashjoin: "off",
  enable_mergejoin: "off",
  enable_seqscan: "off",
  enable_material: "off",
  jit: "off",
} as const;

function laneLockName(id: LaneId): string {
  return `sluice.lane ${id.ref.id} ${id.stream} ${id.fromShard} ${id.toShard}`;
}

/**
 * Held by each batch of a stream's lanes on one shard, so that settlement (R33) runs between two of them;
 * shared by lanes that have no row in common.
 */
export function batchLockName(id: Pick<LaneId, "ref" | "stream" | "toShard">): string {
  return `sluice.batch ${id.ref.id} ${id.stream} ${id.toShard}`;
}

/**
 * R16: takes a lane over. A predecessor, frozen or merely slow, is ended on the server and waited for; then
 * the lane's advisory lock is ours for as long as the session lives, and the position is what the origin
 * says, never what anybody remembers.
 * @throws LaneTaken when the predecessor does not go; NotReady when the stream does not exist;
 *   LaneRowMissing, LaneRowExists or StreamUnsupportedChange when the lane was stopped and nobody has dealt
 *   with it
 */
export async function openLane(
  context: EngineContext,
  sides: Sides,
  id: LaneId,
): Promise<LaneSession> {
  const use: SessionUse = {
    purpose: `lane ${id.stream} ${id.fromShard} ${id.toShard}`,
    settings: LANE_SETTINGS,
  };
  const client = await sides.session(otherSide(streamFrom(id.stream)), id.toShard, use);
  await takeLock(context, client, id);
  await upgradeControlSchema(client);
  const row = await registerLane(context, client, id);
  refuseStopped(row, id);
  await ensureOrigin(client, row.origin);
  const originLsn = await takeOrigin(context, client, row.origin);
  const startLsn = row.start_lsn === null ? LSN_ZERO : parseLsn(row.start_lsn);
  const hasBegun = originLsn >= startLsn;
  return {
    id,
    client,
    positionLsn: hasBegun ? originLsn : startLsn,
    state: row.state === "standby" ? "standby" : "applying",
    slot: row.slot,
    identity: { systemIdentifier: row.system_identifier, timeline: row.timeline },
    copiedLsn: row.copied_lsn === null ? null : parseLsn(row.copied_lsn),
  };
}

async function takeLock(context: EngineContext, client: SqlClient, id: LaneId): Promise<void> {
  const lock = {
    name: laneLockName(id),
    until: "session",
    timeoutMs: TAKEOVER_TIMEOUT_MS,
  } as const;
  if (await takeOver(client, { ...lock, signal: context.signal })) return;
  throw new LaneTaken(
    `lane ${id.fromShard} -> ${id.toShard} is held by ${await describeHolder(client, id)}`,
    {
      hint: "The session was told to end and has not: is its server stuck?",
    },
  );
}

/** Ends whoever holds the lane, on the server: its process may be frozen and never answer. */
export async function endLaneSessions(client: SqlClient, id: LaneId): Promise<void> {
  await endHolders(client, laneLockName(id));
}

async function describeHolder(client: SqlClient, id: LaneId): Promise<string> {
  const pids = await listHolders(client, laneLockName(id));
  return pids.map((pid) => `pid ${pid}`).join(", ") || "nobody any more";
}

interface LaneRow {
  readonly slot: string;
  readonly origin: string;
  readonly system_identifier: string;
  readonly timeline: number;
  readonly state: "standby" | "applying" | "stopped";
  readonly start_lsn: string | null;
  readonly copied_lsn: string | null;
  readonly stopped_code: string | null;
  readonly stopped_reason: string | null;
}

async function registerLane(
  context: EngineContext,
  client: SqlClient,
  id: LaneId,
): Promise<LaneRow> {
  const { rows } = await client.query<LaneRow>(
    `UPDATE sluice.lane
     SET backend_pid = pg_backend_pid(), incarnation = $5, updated_at = clock_timestamp(),
         backend_start = (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())
     WHERE migration = $1 AND stream = $2 AND from_shard = $3 AND to_shard = $4
     RETURNING slot, origin, system_identifier, timeline, state, start_lsn::text, copied_lsn::text,
               stopped_code, stopped_reason`,
    [id.ref.id, id.stream, id.fromShard, id.toShard, context.incarnation],
  );
  const row = rows[0];
  if (!row)
    throw new NotReady(`stream ${id.stream} of migration ${id.ref.id} is not there (any more)`, {
      detail: `no lane ${id.fromShard} -> ${id.toShard}`,
    });
  return row;
}

function refuseStopped(row: LaneRow, id: LaneId): void {
  if (row.state !== "stopped") return;
  const message = `lane ${id.fromShard} -> ${id.toShard} is stopped: ${row.stopped_reason ?? ""}`;
  const options = {
    hint: "Nothing was skipped. SHOW EVIDENCE names the row. Abort the migration; or repair the row, set sluice.lane.state to 'applying' and retry the step.",
  };
  if (row.stopped_code === "SLUICE_LANE_ROW_EXISTS") throw new LaneRowExists(message, options);
  if (row.stopped_code === "SLUICE_STREAM_UNSUPPORTED_CHANGE")
    throw new StreamUnsupportedChange(message, options);
  throw new LaneRowMissing(message, options);
}

/** The lock is ours, so whoever has the origin still is on its way out. */
async function takeOrigin(context: EngineContext, client: SqlClient, origin: string): Promise<Lsn> {
  const deadlineAtMs = Date.now() + TAKEOVER_TIMEOUT_MS;
  for (;;) {
    context.signal.throwIfAborted();
    const lsn = await setupOrigin(client, origin);
    if (lsn !== null) return lsn;
    if (Date.now() >= deadlineAtMs)
      throw new LaneTaken(`replication origin "${origin}" is held by another session`);
    await delay(20, undefined, { signal: context.signal });
  }
}

/** R18. @throws ServerIdentityChanged */
export function refuseOtherServer(server: string, lane: LaneSession, is: ServerIdentity): void {
  if (sameServer(lane.identity, is)) return;
  throw new ServerIdentityChanged(server, describeIdentity(lane.identity), describeIdentity(is));
}
