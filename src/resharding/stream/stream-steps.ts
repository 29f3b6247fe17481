import type { ServerAddress } from "../../backend/address.js";
import type { SqlClient } from "../../backend/sql-client.js";
import { ERROR_CODES } from "../../core/errors.js";
import { formatLsn, type Lsn, parseLsn } from "../../core/lsn.js";
import { LaneTaken } from "../../replication/errors.js";
import { dropOrigin } from "../../replication/origin.js";
import {
  dropPublication,
  dropSlot,
  ensurePublication,
  ensureSlot,
  freeSlot,
  readIdentity,
  waitForSlotEdge,
} from "../../replication/slot.js";
import type { EngineContext } from "../context.js";
import { connectEngine, isMissingControlSchema, openSides, type Sides } from "../control/sides.js";
import type { LaneStatus, StreamEnd, StreamStatus } from "../model/activities.js";
import {
  type Blocker,
  type MigrationRef,
  names,
  otherSide,
  streamFrom,
} from "../model/migration.js";
import type { StreamInput } from "./lane-watch.js";
import { endLaneSessions } from "./lanes/lane-session.js";
import { settleOriginName } from "./settle-aside.js";
import { StreamRun } from "./stream-run.js";

export interface CreateStreamInput extends StreamInput {
  /** For the slots together, and again for R2's wait, in ms. */
  readonly timeoutMs?: number;
}

const CREATE_TIMEOUT_MS = 60_000;
const LOCK_TIMEOUT_MS = 5_000;
const DROP_TIMEOUT_MS = 15_000;

/**
 * Publication and slot on each shard of the from-side, lane rows on each shard of the other one, and the wait
 * of R2. When it returns, what commits from now on is in the stream, and a snapshot taken from now on sees all
 * the rest. Streams after the first are in standby until their start marker (R34).
 *
 * A second run, or one beside it, takes what is there by its name.
 * @throws SlotCreationTimedOut, SlotEdgeTimedOut naming whom it waits for; SlotLost, ServerUnreachable
 */
export async function createStream(
  context: EngineContext,
  input: CreateStreamInput,
): Promise<void> {
  const sides = await openSides(context, input.ref);
  const from = sides[streamFrom(input.stream)].shards;
  const waiting = { timeoutMs: input.timeoutMs ?? CREATE_TIMEOUT_MS, signal: context.signal };
  await Promise.all(
    from.map(async (address, fromShard) => {
      await using client = await connectEngine(context, address, "create stream", {
        lockTimeoutMs: LOCK_TIMEOUT_MS,
      });
      const slot = names.slot(input.ref, input.stream, fromShard);
      const publication = names.publication(input.ref);
      await noteResource(client, input.ref, { kind: "publication", name: publication });
      await noteResource(client, input.ref, { kind: "slot", name: slot });
      await ensurePublication(client, publication, sides.spec.tables);
      await context.announce("stream.afterPublication");
      const startLsn = await ensureSlot(address, slot, waiting);
      await context.announce("stream.afterSlot");
      await createLanes(context, { ...input, sides, client, fromShard, startLsn });
    }),
  );
  await Promise.all(from.map((address) => waitForSlotEdge(address, waiting)));
}

async function noteResource(
  client: SqlClient,
  ref: MigrationRef,
  resource: { readonly kind: "slot" | "publication" | "origin"; readonly name: string },
): Promise<void> {
  await client.query(
    "INSERT INTO sluice.resource (migration, kind, name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    [ref.id, resource.kind, resource.name],
  );
}

async function forgetResource(client: SqlClient, ref: MigrationRef, name: string): Promise<void> {
  await client.query("DELETE FROM sluice.resource WHERE migration = $1 AND name = $2", [
    ref.id,
    name,
  ]);
}

async function createLanes(
  context: EngineContext,
  input: CreateStreamInput & {
    readonly sides: Sides;
    readonly client: SqlClient;
    readonly fromShard: number;
    readonly startLsn: Lsn;
  },
): Promise<void> {
  const { ref, stream, fromShard } = input;
  const identity = await readIdentity(input.client);
  const isFirst = stream === 0;
  const to = input.sides[otherSide(streamFrom(stream))].shards;
  for (const [toShard, address] of to.entries()) {
    await using client = await connectEngine(context, address, "create lane");
    const origin = names.origin(ref, stream, fromShard, toShard);
    await noteResource(client, ref, { kind: "origin", name: origin });
    await client.query(
      `INSERT INTO sluice.lane (migration, stream, from_shard, to_shard, slot, origin,
         system_identifier, timeline, state, start_lsn)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING`,
      [
        ref.id,
        stream,
        fromShard,
        toShard,
        names.slot(ref, stream, fromShard),
        origin,
        identity.systemIdentifier,
        identity.timeline,
        isFirst ? "applying" : "standby",
        isFirst ? formatLsn(input.startLsn) : null,
      ],
    );
  }
}

/**
 * Reads one shard of the from-side and feeds every shard of the other one, until the signal aborts: decoded
 * once, a lane per shard, at most BUDGET_BYTES in flight. Never reconnects: whatever breaks ends it, with all
 * its connections closed, and the next attempt begins from what the databases say.
 *
 * A second run ends the first one's sessions on the servers and goes on where the origins are (R16).
 * @throws SlotLost, ServerIdentityChanged, StreamUnsupportedChange, LaneRowMissing, LaneRowExists: a person
 *   must look; ServerUnreachable, LaneTaken: try again
 */
export async function runStream(
  context: EngineContext,
  input: StreamInput & { readonly fromShard: number },
): Promise<StreamEnd> {
  const stop = new AbortController();
  const abort = () => stop.abort(context.signal.reason);
  context.signal.addEventListener("abort", abort, { once: true });
  if (context.signal.aborted) abort();
  const attempt: EngineContext = { ...context, signal: stop.signal };
  try {
    await new StreamRun(attempt, input, stop).run();
  } catch (error) {
    if (!context.signal.aborted) throw error;
  } finally {
    context.signal.removeEventListener("abort", abort);
    stop.abort(new Error("the stream has ended"));
  }
  return { outcome: "cancelled" };
}

/**
 * Ends the stream's lanes and walsenders, drops its slots, its origins and lane rows, and the publication
 * where no other stream of the migration reads from it. What is not there is not missed, so a second run, or
 * one after half a creation, is harmless. A runner that is still alive fails at its next commit.
 * @throws LaneTaken when a session does not end
 */
export async function dropStream(context: EngineContext, input: StreamInput): Promise<void> {
  const sides = await openSides(context, input.ref);
  const from = sides[streamFrom(input.stream)].shards;
  const to = sides[otherSide(streamFrom(input.stream))].shards;
  // Lanes first: without lane rows no runner can begin anew.
  await Promise.all(
    to.map((address, toShard) =>
      dropLanes(context, { ...input, address, toShard, fromShards: from.length }),
    ),
  );
  await Promise.all(
    from.map((address, fromShard) => dropSource(context, { ...input, address, fromShard })),
  );
}

async function dropLanes(
  context: EngineContext,
  input: StreamInput & {
    readonly address: ServerAddress;
    readonly toShard: number;
    readonly fromShards: number;
  },
): Promise<void> {
  const { ref, stream, toShard } = input;
  await using client = await connectEngine(context, input.address, "drop lane");
  const origins = [settleOriginName(ref, stream, toShard)];
  try {
    await client.query("DELETE FROM sluice.aside WHERE migration = $1 AND stream = $2", [
      ref.id,
      stream,
    ]);
    for (let fromShard = 0; fromShard < input.fromShards; fromShard++) {
      await endLaneSessions(client, { ref, stream, fromShard, toShard });
      origins.push(names.origin(ref, stream, fromShard, toShard));
    }
    await client.query("DELETE FROM sluice.lane WHERE migration = $1 AND stream = $2", [
      ref.id,
      stream,
    ]);
  } catch (error) {
    if (!isMissingControlSchema(error)) throw error;
    return;
  }
  for (const origin of origins) {
    await untilDropped(context, client, origin);
    await forgetResource(client, ref, origin);
  }
}

const OBJECT_IN_USE = "55006";

/** The session was told to end; it lets the origin go when it has. */
async function untilDropped(
  context: EngineContext,
  client: SqlClient,
  origin: string,
): Promise<void> {
  const deadlineAtMs = Date.now() + DROP_TIMEOUT_MS;
  for (;;) {
    context.signal.throwIfAborted();
    try {
      await dropOrigin(client, origin);
      return;
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === OBJECT_IN_USE)) throw error;
      if (Date.now() >= deadlineAtMs)
        throw new LaneTaken(`replication origin "${origin}" is in use and cannot be dropped`, {
          cause: error,
        });
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function dropSource(
  context: EngineContext,
  input: StreamInput & { readonly address: ServerAddress; readonly fromShard: number },
): Promise<void> {
  const { ref, stream, fromShard } = input;
  await using client = await connectEngine(context, input.address, "drop slot", {
    lockTimeoutMs: LOCK_TIMEOUT_MS,
  });
  const slot = names.slot(ref, stream, fromShard);
  if (!(await freeSlot(client, slot, DROP_TIMEOUT_MS)))
    throw new LaneTaken(`replication slot "${slot}" is in use and cannot be dropped`);
  await dropSlot(client, slot);
  const others = await client.query(
    "SELECT 1 FROM pg_replication_slots WHERE starts_with(slot_name, $1) AND database = current_database()",
    [`sluice_${ref.id}_`],
  );
  const publication = names.publication(ref);
  if (others.rows.length === 0) await dropPublication(client, publication);
  try {
    await forgetResource(client, ref, slot);
    if (others.rows.length === 0) await forgetResource(client, ref, publication);
  } catch (error) {
    if (!isMissingControlSchema(error)) throw error;
  }
}

/**
 * What the lanes have to do still, and why one does not go on. Reads only.
 * @throws MigrationUnknown, ServerUnreachable
 */
export async function streamStatus(
  context: EngineContext,
  input: StreamInput,
): Promise<StreamStatus> {
  const sides = await openSides(context, input.ref);
  const from = sides[streamFrom(input.stream)].shards;
  const to = sides[otherSide(streamFrom(input.stream))].shards;
  // Lanes before the WAL's end: the other way round a busy stream could look done.
  const rows = (await Promise.all(to.map((address) => readLanes(context, address, input)))).flat();
  const ends = await Promise.all(from.map((address) => readWalEnd(context, address)));
  const lanes: LaneStatus[] = [];
  let lagBytes: number | null = 0;
  for (const [fromShard, end] of ends.entries())
    for (const toShard of to.keys()) {
      const row = rows.find((one) => one.from_shard === fromShard && one.to_shard === toShard);
      lanes.push(laneStatus(row, fromShard, toShard));
      // A stream in standby wants nothing of what it has not seen: it has no lag.
      const applied = row?.state === "standby" ? null : (row?.applied_lsn ?? null);
      if (applied === null || lagBytes === null) lagBytes = null;
      else lagBytes = Math.max(lagBytes, Number(end - parseLsn(applied)));
    }
  const stopped = rows.find((row) => row.state === "stopped");
  return {
    stream: input.stream,
    lanes,
    lagBytes,
    asideKeys: rows.reduce((sum, row) => sum + (row.from_shard === 0 ? row.aside_keys : 0), 0),
    blocker: stopped ? stoppedBlocker(stopped) : null,
  };
}

interface LaneRow {
  readonly from_shard: number;
  readonly to_shard: number;
  readonly state: "standby" | "applying" | "stopped";
  readonly applied_lsn: string | null;
  readonly change_count: string;
  readonly stopped_code: string | null;
  readonly stopped_reason: string | null;
  readonly aside_keys: number;
}

async function readLanes(
  context: EngineContext,
  address: ServerAddress,
  input: StreamInput,
): Promise<readonly LaneRow[]> {
  await using client = await connectEngine(context, address, "stream status");
  const { rows } = await client.query<LaneRow>(
    `SELECT from_shard, to_shard, state, change_count, stopped_code, stopped_reason,
            greatest(applied_lsn, start_lsn)::text AS applied_lsn,
            (SELECT count(*)::integer FROM sluice.aside a
             WHERE a.migration = $1 AND a.stream = $2 AND settled_at IS NULL) AS aside_keys
     FROM sluice.lane WHERE migration = $1 AND stream = $2`,
    [input.ref.id, input.stream],
  );
  return rows;
}

async function readWalEnd(context: EngineContext, address: ServerAddress): Promise<Lsn> {
  await using client = await connectEngine(context, address, "stream status");
  const { rows } = await client.query<{ lsn: string }>(
    "SELECT pg_current_wal_insert_lsn()::text AS lsn",
  );
  return parseLsn(rows[0]?.lsn ?? "");
}

function laneStatus(row: LaneRow | undefined, fromShard: number, toShard: number): LaneStatus {
  return {
    fromShard,
    toShard,
    state: row?.state ?? "missing",
    appliedLsn: row?.applied_lsn ?? "0/0",
    changeCount: Number(row?.change_count ?? 0),
  };
}

function stoppedBlocker(row: LaneRow): Blocker {
  const code = ERROR_CODES.find((one) => one === row.stopped_code) ?? "WAITING";
  const lane = `lane ${row.from_shard} -> ${row.to_shard}`;
  // R56: the row itself stays in the database; the command reads it there.
  return { code, message: `${lane} is stopped: ${row.stopped_reason ?? ""}; see SHOW EVIDENCE` };
}
