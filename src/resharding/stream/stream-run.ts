import { setTimeout as sleep } from "node:timers/promises";
import { describeAddress } from "../../backend/address.js";
import { ServerConnectionLost } from "../../backend/server-errors.js";
import type { SqlClient } from "../../backend/sql-client.js";
import { formatLsn, LSN_ZERO, type Lsn, parseLsn } from "../../core/lsn.js";
import { isConnectionLost } from "../../core/sql-error.js";
import { tell } from "../../core/tell.js";
import { decodePgoutput } from "../../replication/pgoutput.js";
import { freeSlot, readSlot } from "../../replication/slot.js";
import { LaneTaken, SlotLost, StreamUnsupportedChange } from "../../replication/stream-errors.js";
import { Walsender } from "../../replication/walsender.js";
import type { EngineContext } from "../context.js";
import { type SessionUse, type Sides, shardAddress } from "../control/sides.js";
import { names, otherSide, streamFrom } from "../model/migration.js";
import type { StreamInput } from "./lane-watch.js";
import { ChangeRouter, type RoutedLane } from "./lanes/change-router.js";
import { loadRanges } from "./lanes/copied-ranges.js";
import { keyOf, Lane, type LaneTable, stopLane } from "./lanes/lane.js";
import { LaneQueue } from "./lanes/lane-change.js";
import { type LaneSession, openLane, refuseOtherServer } from "./lanes/lane-session.js";
import { readAppliedTable, readShape, readUnchecked } from "./lanes/lane-tables.js";
import { MessageArena } from "./lanes/message-arena.js";
import { settleAside } from "./settle-aside.js";
import { readRows } from "./source-reader.js";

/** Changes read and not yet written, over all lanes of one stream. Past it the socket is not read. */
const BUDGET_BYTES = 64 << 20;
/** Room again: half, so that reading does not stop and go with each batch. */
const RESUME_BYTES = BUDGET_BYTES / 2;
/** A lane without changes of its own notes this often how far the stream is. */
const IDLE_POSITION_MS = 250;
const HEARTBEAT_MS = 1_000;
const SETTLE_MS = 2_000;
const FREE_SLOT_TIMEOUT_MS = 15_000;

/** The from-shard: slot, positions, rows as they are now. */
const SOURCE: SessionUse = { purpose: "stream" };
const STOP_TIMEOUT_MS = 5_000;

/** One attempt of `runStream`. Its sessions are its activity's; only the walsender is its own. */
export class StreamRun {
  readonly #context: EngineContext;
  readonly #sides: Sides;
  readonly #input: StreamInput & { readonly fromShard: number };
  readonly #stop: AbortController;
  readonly #sessions: LaneSession[] = [];
  readonly #lanes: (RoutedLane & { durableLsn: Lsn })[] = [];
  readonly #arena = new MessageArena();
  #processedLsn: Lsn = LSN_ZERO;
  #inFlightBytes = 0;
  #isPaused = false;

  constructor(
    context: EngineContext,
    sides: Sides,
    work: {
      readonly input: StreamInput & { readonly fromShard: number };
      readonly stop: AbortController;
    },
  ) {
    this.#context = context;
    this.#sides = sides;
    this.#input = work.input;
    this.#stop = work.stop;
  }

  async run(): Promise<void> {
    try {
      await this.#run();
    } catch (error) {
      if (!isConnectionLost(error)) throw error;
      const { stream, fromShard } = this.#input;
      throw new ServerConnectionLost(`of stream ${stream} from shard ${fromShard}`, {
        cause: error,
      });
    }
  }

  async #run(): Promise<void> {
    const { stream, fromShard } = this.#input;
    await this.#openLanes();
    const fromAddress = shardAddress(this.#sides[streamFrom(stream)], fromShard);
    const source = await this.#sides.session(streamFrom(stream), fromShard, SOURCE);
    await this.#takeSlot(source);
    const tables = await this.#readTables();
    const startedAtLsn = await readInsertLsn(source);
    const judgeUntilLsn = await this.#noteCopied(startedAtLsn);
    await using walsender = await Walsender.connect(fromAddress, "sluice stream");
    const identity = await walsender.identify();
    for (const session of this.#sessions)
      refuseOtherServer(describeAddress(fromAddress), session, identity);

    const router = await this.#router(source, walsender);
    const lanes = this.#sessions.map((session, index) => {
      const own = tables[index] ?? [];
      return this.#lane(walsender, {
        session,
        index,
        source,
        startedAtLsn,
        judgeUntilLsn,
        tables: own,
      });
    });
    this.#context.log.info("stream begins", {
      stream,
      fromShard,
      lanes: lanes.length,
      startLsn: formatLsn(this.#startLsn()),
    });
    await this.#untilOneEnds([
      ...lanes.map((lane) => lane.run(this.#context.signal)),
      this.#receive(walsender, router),
      this.#tick(router),
      ...(fromShard === 0 ? [this.#settleByAndBy()] : []),
    ]);
  }

  async #openLanes(): Promise<void> {
    const { ref, stream, fromShard } = this.#input;
    const to = this.#sides[otherSide(streamFrom(stream))];
    this.#sessions.push(
      ...(await Promise.all(
        to.shards.map((_, toShard) =>
          openLane(this.#context, this.#sides, { ref, stream, fromShard, toShard }),
        ),
      )),
    );
    for (const session of this.#sessions)
      this.#lanes.push({
        queue: new LaneQueue(),
        skipBeforeLsn: session.positionLsn,
        isStandby: session.state === "standby",
        durableLsn: session.positionLsn,
      });
  }

  /** R18: the slot that the lanes were fed from, and nobody else reading it (R16). */
  async #takeSlot(source: SqlClient): Promise<void> {
    const { ref, stream, fromShard } = this.#input;
    const slot = names.slot(ref, stream, fromShard);
    const found = await readSlot(source, slot);
    if (found === null) throw new SlotLost(slot, "it is not there");
    if (found.confirmedLsn === null) throw new SlotLost(slot, "it was never finished");
    // Lanes note a position before it is confirmed, so a slot that is further was made anew.
    for (const lane of this.#lanes)
      if (!lane.isStandby && found.confirmedLsn > lane.skipBeforeLsn)
        throw new SlotLost(slot, "it begins after what its lanes have; was it made anew?");
    if (!(await freeSlot(source, slot, FREE_SLOT_TIMEOUT_MS)))
      throw new LaneTaken(
        `replication slot "${slot}" is read by another session, which does not end`,
      );
  }

  async #readTables(): Promise<readonly (readonly LaneTable[])[]> {
    const { ref, stream, fromShard } = this.#input;
    const plans = this.#sides.spec.tables;
    const fromShardCount = this.#sides.spec[streamFrom(stream)].shardCount;
    return await Promise.all(
      this.#sessions.map(async ({ client }) => {
        const ranges = stream === 0 ? await loadRanges(client, ref, fromShard, plans) : null;
        const tables: LaneTable[] = [];
        for (const plan of plans) {
          const applied = await readAppliedTable(client, plan, { fromShard, fromShardCount });
          const isShared = fromShardCount > 1 && plan.kind === "sharded";
          const isKeyed = applied.keyColumns !== null;
          tables.push({
            plan,
            applied,
            isShared,
            isTolerant: (isShared || applied.isKeyOnly) && isKeyed,
            unchecked: isShared && isKeyed ? await readUnchecked(client, plan, applied) : [],
            ranges: ranges?.get(`${plan.schema}.${plan.name}`) ?? null,
          });
        }
        return tables;
      }),
    );
  }

  /**
   * R1: a transaction that commits after this position cannot be visible in a snapshot that was taken before.
   * Noted once, after all ranges are there: a stream that lives for weeks need not compare ids any more (R4).
   */
  async #noteCopied(now: Lsn): Promise<Lsn> {
    const { ref, stream, fromShard } = this.#input;
    if (stream !== 0) return LSN_ZERO;
    let latest = LSN_ZERO;
    for (const session of this.#sessions) {
      const noted = session.copiedLsn ?? now;
      if (noted > latest) latest = noted;
      if (session.copiedLsn !== null) continue;
      await session.client.query(
        `UPDATE sluice.lane SET copied_lsn = $5
         WHERE migration = $1 AND stream = $2 AND from_shard = $3 AND to_shard = $4`,
        [ref.id, stream, fromShard, session.id.toShard, formatLsn(now)],
      );
    }
    return latest;
  }

  async #router(source: SqlClient, walsender: Walsender): Promise<ChangeRouter> {
    const tables = [];
    for (const plan of this.#sides.spec.tables)
      tables.push({ plan, shape: await readShape(source, plan) });
    return new ChangeRouter({
      ref: this.#input.ref,
      fromShard: this.#input.fromShard,
      fromShardCount: this.#sides.spec[streamFrom(this.#input.stream)].shardCount,
      tables,
      lanes: this.#lanes,
      log: this.#context.log,
      onQueued: (bytes) => this.#queued(walsender, bytes),
      onCommit: (endLsn) => {
        this.#processedLsn = endLsn;
        this.#confirm(walsender);
      },
    });
  }

  #lane(
    walsender: Walsender,
    work: {
      readonly session: LaneSession;
      readonly index: number;
      readonly source: SqlClient;
      readonly startedAtLsn: Lsn;
      readonly judgeUntilLsn: Lsn;
      readonly tables: readonly LaneTable[];
    },
  ): Lane {
    const state = this.#lanes[work.index];
    return new Lane(this.#context, {
      session: work.session,
      queue: state?.queue ?? new LaneQueue(),
      tables: work.tables,
      startedAtLsn: work.startedAtLsn,
      judgeUntilLsn: work.judgeUntilLsn,
      fetchRow: async (table, row) => {
        const found = work.tables[table];
        const key = found ? keyOf(found.applied, row) : null;
        const [now] = found && key ? await readRows(work.source, found.plan, [key]) : [];
        return { row: now ?? null, asOfLsn: await readInsertLsn(work.source) };
      },
      onDurable: (lsn) => {
        if (state) state.durableLsn = lsn;
        this.#confirm(walsender);
      },
      onTaken: (bytes) => this.#taken(walsender, bytes),
    });
  }

  /** Only what is durable on all lanes may be forgotten by the source. A lane in standby wants nothing. */
  #confirm(walsender: Walsender): void {
    let lowest: Lsn | null = null;
    for (const lane of this.#lanes) {
      const lsn = lane.isStandby ? this.#processedLsn : lane.durableLsn;
      if (lowest === null || lsn < lowest) lowest = lsn;
    }
    if (lowest !== null) walsender.confirm(lowest);
  }

  #startLsn(): Lsn {
    const applying = this.#lanes.filter((lane) => !lane.isStandby);
    // A lane in standby has no position: the slot's own says where its stream goes on.
    if (applying.length < this.#lanes.length) return LSN_ZERO;
    let lowest: Lsn | null = null;
    for (const { skipBeforeLsn } of applying)
      if (lowest === null || skipBeforeLsn < lowest) lowest = skipBeforeLsn;
    return lowest ?? LSN_ZERO;
  }

  async #receive(walsender: Walsender, router: ChangeRouter): Promise<never> {
    const { ref, stream, fromShard } = this.#input;
    const options = {
      slot: names.slot(ref, stream, fromShard),
      publication: names.publication(ref),
      startLsn: this.#startLsn(),
    };
    const receiver = {
      data: (bytes: Buffer, start: number, end: number) => {
        const at = this.#arena.keep(bytes, start, end);
        router.messageBytes = end - start;
        decodePgoutput(this.#arena.page, at, at + end - start, router);
      },
      keepalive: (walEnd: Lsn) => this.#passKeepalive(walsender, router, walEnd),
    };
    try {
      return await walsender.stream(options, receiver, this.#context.signal);
    } catch (error) {
      if (error instanceof StreamUnsupportedChange) await this.#stopLanes(error);
      throw error;
    }
  }

  /** Every lane of this shard stops with the reason: nothing after it may be applied. */
  async #stopLanes(error: StreamUnsupportedChange): Promise<void> {
    this.#stop.abort(error);
    const to = otherSide(streamFrom(this.#input.stream));
    for (const session of this.#sessions) {
      const use = { purpose: "stop", signal: AbortSignal.timeout(STOP_TIMEOUT_MS) };
      const client = await this.#sides.session(to, session.id.toShard, use);
      await stopLane(client, session, error);
    }
  }

  /** Idle: WAL of other tables and databases must not be kept for us. */
  #passKeepalive(walsender: Walsender, router: ChangeRouter, walEnd: Lsn): void {
    if (router.isInTransaction || walEnd <= this.#processedLsn) return;
    this.#processedLsn = walEnd;
    const commitTime = 0n;
    for (const lane of this.#lanes)
      if (!lane.isStandby && walEnd > lane.durableLsn)
        lane.queue.pass({ kind: "commit", endLsn: walEnd, commitTime, isStart: false });
    this.#confirm(walsender);
  }

  #queued(walsender: Walsender, bytes: number): void {
    this.#inFlightBytes += bytes;
    if (this.#isPaused || this.#inFlightBytes < BUDGET_BYTES) return;
    this.#isPaused = true;
    walsender.pause();
  }

  #taken(walsender: Walsender, bytes: number): void {
    this.#inFlightBytes -= bytes;
    if (!this.#isPaused || this.#inFlightBytes > RESUME_BYTES) return;
    this.#isPaused = false;
    walsender.resume();
  }

  async #tick(router: ChangeRouter): Promise<never> {
    let lastBeatMs = 0;
    for (;;) {
      await delay(IDLE_POSITION_MS, this.#context.signal);
      if (!router.isInTransaction) for (const lane of this.#lanes) lane.queue.flushIdle();
      if (Date.now() - lastBeatMs < HEARTBEAT_MS) continue;
      lastBeatMs = Date.now();
      this.#context.heartbeat({
        lsn: formatLsn(this.#processedLsn),
        inFlightBytes: this.#inFlightBytes,
      });
    }
  }

  /** R33: keys that the lanes set aside. One runner of the stream does it. */
  async #settleByAndBy(): Promise<never> {
    for (;;) {
      await delay(SETTLE_MS, this.#context.signal);
      if (this.#lanes.some((lane) => lane.isStandby)) continue;
      // A failure leaves the keys aside, and counted; the stream itself goes on.
      await settleAside(this.#context, this.#sides, this.#input).catch((error: unknown) =>
        this.#context.log.warn("keys set aside are not settled yet", { error: tell(error) }),
      );
    }
  }

  /** The first to end ends all; its error is the run's. */
  async #untilOneEnds(parts: readonly Promise<never>[]): Promise<never> {
    try {
      return await Promise.race(parts);
    } finally {
      this.#stop.abort(new Error("the stream has ended"));
      for (const lane of this.#lanes) lane.queue.wake();
      await Promise.allSettled(parts);
    }
  }
}

/** @throws the signal's reason as soon as it is aborted */
async function delay(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => signal.throwIfAborted());
}

/** A commit that anybody has seen before is in front of it. */
async function readInsertLsn(source: SqlClient): Promise<Lsn> {
  const { rows } = await source.query<{ lsn: string }>(
    "SELECT pg_current_wal_insert_lsn()::text AS lsn",
  );
  return parseLsn(rows[0]?.lsn ?? "");
}
