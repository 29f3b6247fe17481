import { setTimeout as delay } from "node:timers/promises";
import type { SqlClient } from "../../backend/sql-client.js";
import { assert } from "../../core/assert.js";
import { type ErrorFields, SluiceError } from "../../core/errors.js";
import { type Lsn, parseLsn } from "../../core/lsn.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { EngineContext } from "../context.js";
import {
  type MarkerMessage,
  MESSAGE_PREFIX,
  type MigrationRef,
  type StreamNumber,
} from "../model/migration.js";

/** The lanes do not get past a marker: a comparison would only find their lag. */
export class MarkerNotPassed extends SluiceError {
  readonly code = "SLUICE_DRAIN_TIMED_OUT";
  readonly sqlState = SQLSTATE.objectNotInPrerequisiteState;
  readonly recovery = "retry";
  constructor(lanes: string, options: ErrorFields = {}) {
    super(`lanes have not passed the verification's marker: ${lanes}`, {
      hint: "SHOW REPLICATION_SLOTS and SHOW TASKS say whether the stream runs and what stopped it.",
      ...options,
    });
  }
}

const TIMEOUT_MS = 60_000;
const POLL_MS = 20;

export interface MarkerInput {
  readonly ref: MigrationRef;
  readonly stream: StreamNumber;
  /** One session per shard of each side. */
  readonly from: readonly SqlClient[];
  readonly to: readonly SqlClient[];
}

/**
 * @returns a function that writes a marker into every from-shard's WAL and returns when every lane has
 * durably committed past its shard's; everything that was committed before the call is applied then
 */
export function markerPasser(context: EngineContext, input: MarkerInput): () => Promise<void> {
  return async () => {
    const markers = await Promise.all(input.from.map((client) => emitMarker(client, input.ref)));
    const deadline = performance.now() + TIMEOUT_MS;
    for (;;) {
      context.signal.throwIfAborted();
      const behind = await lanesBehind(input, markers);
      if (behind.length === 0) return;
      if (performance.now() > deadline) throw new MarkerNotPassed(behind.join(", "));
      // The lane's row is the fact; nobody notifies about it.
      await delay(POLL_MS, undefined, { signal: context.signal });
    }
  };
}

/** Transactional, so that it comes after everything that was committed before it. */
async function emitMarker(client: SqlClient, ref: MigrationRef): Promise<Lsn> {
  const message: MarkerMessage = { migration: ref.id, kind: "probe", token: "verify" };
  const result = await client.query<{ lsn: string }>(
    "SELECT pg_logical_emit_message(true, $1, $2)::text AS lsn",
    [MESSAGE_PREFIX, JSON.stringify(message)],
  );
  const [row] = result.rows;
  assert(row, "a message has a position");
  return parseLsn(row.lsn);
}

interface LaneRow {
  readonly from_shard: number;
  readonly applied_lsn: string;
  readonly state: string;
}

async function lanesBehind(input: MarkerInput, markers: readonly Lsn[]): Promise<string[]> {
  const behind: string[] = [];
  for (const [toShard, client] of input.to.entries()) {
    const result = await client.query<LaneRow>(
      `SELECT from_shard, applied_lsn::text, state FROM sluice.lane
        WHERE migration = $1 AND stream = $2 AND to_shard = $3`,
      [input.ref.id, input.stream, toShard],
    );
    for (const [fromShard, marker] of markers.entries()) {
      const lane = result.rows.find((row) => row.from_shard === fromShard);
      if (lane?.state !== "applying" || parseLsn(lane.applied_lsn) <= marker)
        behind.push(`${fromShard} -> ${toShard} (${lane?.state ?? "missing"})`);
    }
  }
  return behind;
}
