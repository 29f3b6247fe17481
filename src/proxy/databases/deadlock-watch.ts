import { randomInt } from "node:crypto";
import type { ServerConnection } from "../../backend/server-connection.js";
import { tell } from "../../core/tell.js";
import type { Log } from "../../observe/log.js";
import type { ShardId } from "../../topology/topology.js";
import { type Cycle, findCycle, type Member, stillWaits, type Wait } from "./wait-graph.js";

/** A client's transaction over shards, while a statement of it runs. */
export interface Watched {
  /** Its server sessions now. */
  readonly sessions: () => readonly { readonly shard: ShardId; readonly pid: number }[];
  /** It is the one to be given up. */
  readonly giveUp: (cycle: Cycle) => void;
}

export interface WatchHost {
  readonly shards: () => readonly ShardId[];
  /** A connection past the pools. */
  readonly connect: (shard: ShardId, applicationName: string) => Promise<ServerConnection>;
  readonly log: Log;
}

interface Suspect {
  readonly id: number;
  readonly watched: Watched;
  readonly sinceMs: number;
}

const TICK_MS = 250;
/** PostgreSQL's own default, until a server has said its `deadlock_timeout`. */
const DEFAULT_TIMEOUT_MS = 1_000;
/** Whoever should give up does not, so it may be a node that stands still: then the one that sees it does. */
const PATIENCE = 10;
/** Without a suspect for so long, the side connections are closed. */
const IDLE_TICKS = 40;
const APPLICATION = "sluice deadlock watch";

const LOOK = `SELECT 'wait', w.pid, b.pid, w.since FROM (
    SELECT pid, min(waitstart)::text AS since FROM pg_catalog.pg_locks
     WHERE NOT granted AND waitstart IS NOT NULL GROUP BY pid) w,
  pg_catalog.unnest(pg_catalog.pg_blocking_pids(w.pid)) AS b(pid)
UNION ALL SELECT 'member', l.objid::int, l.classid::bigint, '' FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
  WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.mode = 'ShareLock' AND l.granted AND a.application_name = '${APPLICATION}'
    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
UNION ALL SELECT 'timeout', setting::int, 0, '' FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout'`;

/**
 * Finds transactions that wait for each other over shards, which no server can see. Nothing is asked before a statement
 * has run as long as `deadlock_timeout`; then, by a connection of our own to each shard, who waits for whom there.
 *
 *     shard 0:  11 waits for 12        11, 21 are one transaction    ->  each waits for the other
 *     shard 1:  22 waits for 21        12, 22 are one
 *
 * Which sessions are one transaction every node says to all: each of its suspects' sessions is an advisory lock
 * (transaction, pid) of its side connection, on the session's shard. Of a circle the transaction with the highest
 * number gives up, so the nodes agree without a word.
 */
export class DeadlockWatch {
  readonly #host: WatchHost;
  readonly #running = new Map<Watched, Suspect>();
  readonly #sides = new Map<ShardId, Side>();
  #timer: NodeJS.Timeout | null = null;
  #isLooking = false;
  #idleTicks = 0;
  #timeoutMs = DEFAULT_TIMEOUT_MS;

  constructor(host: WatchHost) {
    this.#host = host;
  }

  /** A statement begins. */
  begin(watched: Watched): void {
    const id = randomInt(1, 2 ** 31 - 1);
    this.#running.set(watched, { id, watched, sinceMs: performance.now() });
    this.#timer ??= setInterval(() => void this.#tick(), TICK_MS).unref();
  }

  end(watched: Watched): void {
    this.#running.delete(watched);
  }

  /** For the end of the database. */
  close(): void {
    if (this.#timer) clearInterval(this.#timer);
    this.#timer = null;
    for (const side of this.#sides.values()) side.close();
    this.#sides.clear();
  }

  async #tick(): Promise<void> {
    if (this.#isLooking) return;
    const before = performance.now() - this.#timeoutMs;
    const suspects = [...this.#running.values()].filter(
      ({ sinceMs, watched }) => sinceMs <= before && watched.sessions().length > 1,
    );
    if (suspects.length === 0 && this.#sides.size === 0) {
      if (this.#running.size === 0) this.close();
      return;
    }
    this.#idleTicks = suspects.length > 0 ? 0 : this.#idleTicks + 1;
    if (this.#idleTicks > IDLE_TICKS) {
      this.close();
      return;
    }
    // Those of the last look are withdrawn, and then nothing is asked.
    if (this.#idleTicks > 1) return;
    this.#isLooking = true;
    try {
      await this.#judge(suspects);
    } catch (error) {
      this.#host.log.warn("cannot look for deadlocks over shards", { reason: tell(error) });
      this.close();
      if (this.#running.size > 0)
        this.#timer = setInterval(() => void this.#tick(), TICK_MS).unref();
    } finally {
      this.#isLooking = false;
    }
  }

  async #judge(suspects: readonly Suspect[]): Promise<void> {
    const { waits, members } = await this.#look(suspects);
    for (const { id, watched, sinceMs } of suspects) {
      const cycle = findCycle(id, waits, members);
      if (!cycle) continue;
      const isMine = Math.max(...cycle.transactions) === id;
      if (!isMine && performance.now() - sinceMs < PATIENCE * this.#timeoutMs) continue;
      const again = await this.#look(suspects);
      // Its statement may have ended while we looked, and another one of it may run.
      if (this.#running.get(watched)?.id !== id || !stillWaits(cycle, again.waits)) continue;
      watched.giveUp(cycle);
      return;
    }
  }

  /** Says first which sessions are ours, and then reads: of two nodes the one that reads last sees both. */
  async #look(suspects: readonly Suspect[]) {
    const sessions = suspects.flatMap(({ id, watched }) =>
      watched.sessions().map(({ shard, pid }) => ({ shard, pid, transaction: id })),
    );
    const sides = await Promise.all(
      this.#host.shards().map(async (shard) => await this.#side(shard)),
    );
    await Promise.all(
      sides.map(
        async (side) => await side.say(sessions.filter(({ shard }) => shard === side.shard)),
      ),
    );
    const views = await Promise.all(sides.map(async (side) => await side.look()));
    this.#timeoutMs = Math.max(...views.map(({ timeoutMs }) => timeoutMs));
    return {
      waits: views.flatMap(({ waits }) => waits),
      members: views.flatMap(({ members }) => members),
    };
  }

  async #side(shard: ShardId): Promise<Side> {
    const known = this.#sides.get(shard);
    if (known && !known.isLost) return known;
    const side = new Side(shard, await this.#host.connect(shard, APPLICATION));
    this.#sides.set(shard, side);
    return side;
  }
}

/** Our own connection to one shard. */
class Side {
  readonly shard: ShardId;
  readonly #server: ServerConnection;
  /** What it says, as arguments of the lock functions. */
  #said = new Set<string>();

  constructor(shard: ShardId, server: ServerConnection) {
    this.shard = shard;
    this.#server = server;
  }

  get isLost(): boolean {
    return this.#server.isLost;
  }

  close(): void {
    this.#server.giveBack();
  }

  /** These sessions and no others are in transactions over shards. */
  async say(members: readonly Member[]): Promise<void> {
    const wanted = new Set(members.map(({ transaction, pid }) => `${transaction}, ${pid}`));
    const calls = [
      ...[...this.#said]
        .filter((one) => !wanted.has(one))
        .map((one) => `pg_advisory_unlock_shared(${one})`),
      ...[...wanted]
        .filter((one) => !this.#said.has(one))
        .map((one) => `pg_try_advisory_lock_shared(${one})`),
    ];
    this.#said = wanted;
    if (calls.length > 0) await this.#server.query(`SELECT ${calls.join(", ")}`);
  }

  async look() {
    const waits: Wait[] = [];
    const members: Member[] = [];
    let timeoutMs = DEFAULT_TIMEOUT_MS;
    const { rows } = await this.#server.query(LOOK);
    for (const [kind, one, other, since] of rows) {
      const pid = Number(one);
      if (kind === "wait")
        waits.push({ shard: this.shard, pid, blockedBy: Number(other), since: since ?? "" });
      else if (kind === "member")
        members.push({ shard: this.shard, pid, transaction: Number(other) });
      else timeoutMs = pid;
    }
    return { waits, members, timeoutMs };
  }
}
