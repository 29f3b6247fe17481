import { setTimeout as delay } from "node:timers/promises";
import type { SqlClient } from "../../backend/sql-client.js";
import { LSN_ZERO, type Lsn, parseLsn } from "../../core/lsn.js";
import type { EngineContext } from "../context.js";
import type { SessionUse, Sides } from "../control/sides.js";
import {
  type MarkerMessage,
  MESSAGE_PREFIX,
  type MigrationRef,
  otherSide,
  type StreamNumber,
  streamFrom,
} from "../model/migration.js";

/** Which stream of which migration. */
export interface StreamInput {
  readonly ref: MigrationRef;
  readonly stream: StreamNumber;
}

/**
 * R24: writes a message into the WAL in a transaction of its own, flushed (our sessions have
 * `synchronous_commit = on`). `client` must not be in a transaction.
 * @returns its position: a lane that is *past* it (greater, not equal) has everything that committed before
 */
export async function emitMarker(client: SqlClient, message: MarkerMessage): Promise<Lsn> {
  const { rows } = await client.query<{ lsn: string }>(
    "SELECT pg_logical_emit_message(true, $1, $2)::text AS lsn",
    [MESSAGE_PREFIX, JSON.stringify(message)],
  );
  return parseLsn(rows[0]?.lsn ?? "");
}

/** Where a lane is, as its shard has it durably. */
export interface LanePosition {
  readonly fromShard: number;
  readonly toShard: number;
  readonly state: "standby" | "applying" | "stopped";
  readonly appliedLsn: Lsn;
}

export type WaitOutcome =
  | { readonly kind: "past" }
  /** `behind`: the lanes that were not there yet, or are stopped. */
  | { readonly kind: "timedOut" | "stopped"; readonly behind: readonly LanePosition[] };

/** Looks at all to-shards by sessions that are there: connecting costs more than the wait itself. */
export interface LaneWatch {
  /**
   * Waits until every lane has durably committed past its from-shard's position.
   * @param lsns by from-shard
   */
  waitPast(lsns: readonly Lsn[], timeoutMs: number): Promise<WaitOutcome>;
}

const FIRST_POLL_MS = 2;
const SLOWEST_POLL_MS = 10;

const WATCH: SessionUse = { purpose: "lane watch" };

/** Opens its sessions now, never in a wait. @throws ServerUnreachable */
export async function openLaneWatch(
  context: Pick<EngineContext, "signal">,
  sides: Sides,
  input: StreamInput,
): Promise<LaneWatch> {
  const clients = await sides.sessions(otherSide(streamFrom(input.stream)), WATCH);
  const positions = async () =>
    (await Promise.all(clients.map((client) => readPositions(client, input)))).flat();
  return {
    waitPast: async (lsns, timeoutMs) => {
      const laneCount = lsns.length * clients.length;
      return await poll(context, { positions, lsns, timeoutMs, laneCount });
    },
  };
}

async function readPositions(
  client: SqlClient,
  input: StreamInput,
): Promise<readonly LanePosition[]> {
  const { rows } = await client.query<{
    from_shard: number;
    to_shard: number;
    state: LanePosition["state"];
    applied: string;
  }>(
    `SELECT from_shard, to_shard, state, greatest(applied_lsn, start_lsn)::text AS applied
     FROM sluice.lane WHERE migration = $1 AND stream = $2 ORDER BY from_shard`,
    [input.ref.id, input.stream],
  );
  return rows.map((row) => ({
    fromShard: row.from_shard,
    toShard: row.to_shard,
    state: row.state,
    appliedLsn: parseLsn(row.applied),
  }));
}

async function poll(
  context: Pick<EngineContext, "signal">,
  wait: {
    readonly positions: () => Promise<readonly LanePosition[]>;
    readonly lsns: readonly Lsn[];
    readonly timeoutMs: number;
    readonly laneCount: number;
  },
): Promise<WaitOutcome> {
  const deadlineAtMs = performance.now() + wait.timeoutMs;
  let pollMs = FIRST_POLL_MS;
  for (;;) {
    context.signal.throwIfAborted();
    const lanes = await wait.positions();
    const behind = lanes.filter(
      (lane) =>
        lane.state !== "applying" || lane.appliedLsn <= (wait.lsns[lane.fromShard] ?? LSN_ZERO),
    );
    if (lanes.length === wait.laneCount && behind.length === 0) return { kind: "past" };
    if (behind.some((lane) => lane.state === "stopped")) return { kind: "stopped", behind };
    if (performance.now() >= deadlineAtMs) return { kind: "timedOut", behind };
    await delay(pollMs, undefined, { signal: context.signal });
    pollMs = Math.min(pollMs * 1.5, SLOWEST_POLL_MS);
  }
}
