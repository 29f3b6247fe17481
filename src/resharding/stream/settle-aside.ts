import { setTimeout as delay } from "node:timers/promises";
import { type SqlClient, sqlStateOf } from "../../backend/sql-client.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { EngineContext } from "../context.js";
import type { SessionUse, Sides } from "../control/sides.js";
import { endHolders } from "../control/takeover.js";
import { otherSide, streamFrom } from "../model/migration.js";
import {
  type AsideCount,
  countAside,
  forgetSettled,
  markSettled,
  readUnsettled,
} from "./aside-store.js";
import { emitMarker, type LaneWatch, openLaneWatch, type StreamInput } from "./lane-watch.js";
import { asideName } from "./lanes/aside.js";
import {
  msLeft,
  notNow,
  Settlement,
  type SettleResult,
  type SettleSessions,
  type SettleWork,
  untilVisible,
} from "./settlement.js";

const SETTLE: SessionUse = { purpose: "settle", lockTimeoutMs: 1_000 };
/** A purpose of its own, as its sessions must be there before the pause: a lock must not eat it (R28). */
const SETTLE_IN_PAUSE: SessionUse = { purpose: "switch settle", lockTimeoutMs: 500 };
const MARKER_TIMEOUT_MS = 10_000;
/** For those who write on the from-side; nobody waits for us meanwhile. */
const WRITERS_TIMEOUT_MS = 2_000;
/** A settlement takes less: who takes more is frozen, and is ended. */
const TURN_TIMEOUT_MS = 15_000;
const TURN_POLL_MS = 10;

/**
 * R9, R33: decides the keys that the lanes could not, from the rows as the from-shards have them now. Each
 * to-shard gets the row that belongs to it and loses every other one of the key; two rows for one shard stay
 * aside, named. The rows' snapshots are kept with the key: later changes that they have are skipped by the lanes
 * of every shard, all others applied.
 *
 * Any number of runs: they take turns. Dies anywhere: what is not settled on every shard is settled anew on every
 * shard, see `Settlement`.
 * @throws what the servers say; keys that were not settled everywhere are aside still
 */
export async function settleAside(
  context: EngineContext,
  sides: Sides,
  input: StreamInput,
): Promise<SettleResult> {
  const to = otherSide(streamFrom(input.stream));
  const writers = await sides.sessions(to, SETTLE);
  const asides = await countAll(writers, input);
  // The usual case: the from-side is not troubled.
  if (isNothing(asides)) return NOTHING;
  const readers = await sides.sessions(otherSide(to), SETTLE);
  const lanes = await openLaneWatch(context, sides, input);
  const sessions = { writers, readers, lanes };
  return await settle(context, { ...input, ...sessions, sides, asides, deadlineAtMs: Infinity });
}

/** @returns sessions for `settleWithin`, opened before the pause begins */
export async function openSettlement(
  sides: Sides,
  input: StreamInput & { readonly lanes: LaneWatch },
): Promise<SettleSessions> {
  const to = otherSide(streamFrom(input.stream));
  const [writers, readers] = await Promise.all([
    sides.sessions(to, SETTLE_IN_PAUSE),
    sides.sessions(otherSide(to), SETTLE_IN_PAUSE),
  ]);
  return { writers, readers, lanes: input.lanes };
}

/**
 * `settleAside` inside a pause: opens nothing, waits for nothing beyond the deadline, and for no lock longer
 * than the pause may.
 * @param input `deadlineAtMs` by `performance.now()`
 */
export async function settleWithin(
  context: EngineContext,
  sides: Sides,
  input: StreamInput & { readonly sessions: SettleSessions; readonly deadlineAtMs: number },
): Promise<SettleResult> {
  const { sessions, ...rest } = input;
  const asides = await countAll(sessions.writers, input);
  if (isNothing(asides)) return NOTHING;
  return await settle(context, { ...rest, ...sessions, sides, asides });
}

/** @returns keys that are aside on any to-shard, by `asideName` */
export async function readUnsettledNames(
  sides: Sides,
  input: StreamInput,
): Promise<ReadonlySet<string>> {
  const writers = await sides.sessions(otherSide(streamFrom(input.stream)), SETTLE);
  const lists = await Promise.all(writers.map((writer) => readUnsettled(writer, input)));
  return new Set(
    lists
      .flat()
      .map((row) => asideName({ schema: row.schema_name, name: row.table_name }, row.key)),
  );
}

const NOTHING: SettleResult = { settledKeys: 0, conflicts: [] };

async function settle(
  context: EngineContext,
  work: SettleWork & { readonly asides: readonly AsideCount[] },
): Promise<SettleResult> {
  if (!(await passJointMarker(work))) return notNow("the lanes do not pass a marker now");
  await context.announce("stream.afterSettleMarker");
  for (const [toShard, writer] of work.writers.entries())
    await forgetSettled(writer, { ...work, settledBy: work.asides[toShard]?.settledBy ?? [] });
  if (work.asides.every(({ unsettledKeys }) => unsettledKeys === 0)) return NOTHING;
  if (!(await takeTurn(context, work))) return notNow("another settlement is running");
  try {
    return await settleInTurn(context, work);
  } catch (error) {
    // In the middle of a transaction, with an origin set: the next run shall get other sessions.
    await Promise.all(work.writers.map((writer) => writer[Symbol.asyncDispose]()));
    if (sqlStateOf(error) !== SQLSTATE.lockNotAvailable) throw error;
    return notNow("a lane is in the middle of a large transaction");
  } finally {
    await Promise.all(work.readers.map((reader) => reader.query("ROLLBACK").catch(() => {})));
    await leaveTurn(work);
  }
}

async function settleInTurn(context: EngineContext, work: SettleWork): Promise<SettleResult> {
  // Whoever writes long is waited for here, not while the lanes stand still.
  const waiting = { timeoutMs: msLeft(work, WRITERS_TIMEOUT_MS), signal: context.signal };
  const late = await untilVisible(work.readers, waiting);
  if (late !== "") return notNow(`waiting for ${late}`);
  const outcome = await new Settlement(context, work).run();
  if (outcome.snapshots !== null) {
    const { snapshots } = outcome;
    await context.announce("stream.beforeMarkSettled");
    await Promise.all(work.writers.map((writer) => markSettled(writer, { ...work, snapshots })));
  }
  return outcome;
}

async function countAll(
  writers: readonly SqlClient[],
  input: StreamInput,
): Promise<readonly AsideCount[]> {
  return await Promise.all(writers.map((writer) => countAside(writer, input)));
}

function isNothing(asides: readonly AsideCount[]): boolean {
  return asides.every((one) => one.unsettledKeys === 0 && one.settledBy.length === 0);
}

/** All lanes past one point in each from-shard: what was settled before it is behind them for good. */
async function passJointMarker(work: SettleWork): Promise<boolean> {
  const message = { migration: work.ref.id, kind: "probe", token: "settle" } as const;
  const lsns = await Promise.all(work.readers.map((reader) => emitMarker(reader, message)));
  return (await work.lanes.waitPast(lsns, msLeft(work, MARKER_TIMEOUT_MS))).kind === "past";
}

function turnName({ ref, stream }: StreamInput): string {
  return `sluice.settle ${ref.id} ${stream}`;
}

/**
 * One settlement of a stream at a time, over all its to-shards: two would each hold the batch lock of one shard and
 * wait for the other's. A holder that is frozen keeps the lanes waiting, so it is ended; in a pause the deadline
 * is nearer than that.
 */
async function takeTurn(context: EngineContext, work: SettleWork): Promise<boolean> {
  const [first] = work.writers;
  if (!first) return false;
  const untilMs = performance.now() + msLeft(work, TURN_TIMEOUT_MS);
  for (let isEnded = false; ; ) {
    const { rows } = await first.query<{ taken: boolean }>(
      "SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS taken",
      [turnName(work)],
    );
    if (rows[0]?.taken === true) return true;
    if (performance.now() >= untilMs) {
      if (isEnded || msLeft(work, 1) === 0) return false;
      await endHolders(first, turnName(work));
      isEnded = true;
    }
    await delay(TURN_POLL_MS, undefined, { signal: context.signal });
  }
}

/** A session that has ended has left it already. */
async function leaveTurn(work: SettleWork): Promise<void> {
  await work.writers[0]
    ?.query("SELECT pg_advisory_unlock(hashtextextended($1, 0))", [turnName(work)])
    .catch(() => {});
}
