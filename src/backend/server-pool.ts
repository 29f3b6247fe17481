import { randomInt } from "node:crypto";
import { ServerUnreachable, SluiceError } from "../core/errors.js";
import { SQLSTATE } from "../core/sqlstate.js";
import type { Log } from "../observe/log.js";
import { describeAddress, type ServerAddress } from "./address.js";
import { mend } from "./mending.js";
import { ServerConnection } from "./server-connection.js";
import { CheckoutTimedOut, PoolRetired, ServerRefused } from "./server-errors.js";
import { ServerLink, type ServerReceiver } from "./server-link.js";

export interface ServerPoolOptions {
  readonly address: ServerAddress;
  /** Most connections at once. */
  readonly size: number;
  /** Idle connections that are kept however old. */
  readonly minIdle: number;
  readonly checkoutTimeoutMs: number;
  readonly connectTimeoutMs: number;
  readonly idleTimeoutMs: number;
  /** How old a connection gets; 0 ms: as old as it will. Each differs by up to the jitter, up or down. */
  readonly lifetime?: { readonly ms: number; readonly jitterMs: number };
  /** Most prepared statements on one connection. */
  readonly statementsLimit?: number;
  readonly log: Log;
}

interface Waiter {
  readonly resolve: (connection: ServerConnection) => void;
  readonly reject: (error: SluiceError) => void;
  readonly sinceMs: number;
  timer: NodeJS.Timeout | null;
}

let lastPoolId = 0;

/** A server that takes no more connections is not asked again before. */
const FULL_SERVER_PAUSE_MS = 250;

/**
 * Connections of one user to one server. The longest waiter is served first; the connection used last is
 * given first, so that the others can grow old and be closed.
 *
 * Invariant (R52): `#idle` holds clean sessions only, at rest by the link's own count: nothing owed, no transaction, no
 * state besides `appliedSettings` and `preparedStatements`, which the link itself accounts for. Whoever gives a
 * connection back decides nothing: whether it rests, is mended or closed is said here, in `#takeBack`.
 */
export class ServerPool {
  readonly id = ++lastPoolId;
  readonly options: ServerPoolOptions;
  readonly #idle: ServerLink[] = [];
  /** Lent, or being mended. */
  readonly #busy = new Set<ServerLink>();
  readonly #waiters: Waiter[] = [];
  #connecting = 0;
  #isRetired = false;
  #isPaused = false;
  #isHealthy = true;
  readonly #closedBytes = { received: 0, sent: 0 };
  #reaper: NodeJS.Timeout | null = null;
  /** The server's own word that it takes no more connections; null: it does. */
  #full: { readonly because: ServerRefused; readonly timer: NodeJS.Timeout } | null = null;
  /** Connections beside the pool: each waits for the one before it in its lane. */
  readonly #asideLanes: Promise<void>[] = [Promise.resolve(), Promise.resolve()];
  #asides = 0;
  readonly counters = {
    checkouts: 0,
    waitMs: 0,
    errors: 0,
    connects: 0,
    forceClosed: 0,
    cleaned: 0,
    /** Given back with answers under way, which were then taken in. */
    resynced: 0,
  };

  constructor(options: ServerPoolOptions) {
    this.options = options;
  }

  get idleCount(): number {
    return this.#idle.length;
  }
  get busyCount(): number {
    return this.#busy.size;
  }
  get waitingCount(): number {
    return this.#waiters.length;
  }
  get isPaused(): boolean {
    return this.#isPaused;
  }
  /** Age of the oldest waiter, in ms. */
  get longestWaitMs(): number {
    const oldest = this.#waiters[0];
    return oldest ? Date.now() - oldest.sinceMs : 0;
  }
  get busy(): readonly ServerLink[] {
    return [...this.#busy];
  }
  /** The last attempt to connect, if there was one, went well. */
  get isHealthy(): boolean {
    return this.#isHealthy;
  }
  get totals(): ServerPool["counters"] & { readonly received: number; readonly sent: number } {
    let { received, sent } = this.#closedBytes;
    for (const connection of this.connections) {
      received += connection.bytesReceived;
      sent += connection.bytesSent;
    }
    return { ...this.counters, received, sent };
  }
  get connections(): readonly ServerLink[] {
    return [...this.#busy, ...this.#idle];
  }

  /** The usual case without a promise: an idle connection, or null. */
  tryAcquire(): ServerConnection | null {
    if (this.#isPaused || this.#isRetired || this.#waiters.length > 0) return null;
    const link = this.#popIdle();
    return link && this.#hand(link);
  }

  /**
   * @param signal aborted with an error: whoever asked waits no longer
   * @throws CheckoutTimedOut when none becomes free in time
   * @throws ServerUnreachable, ServerRefused from connecting; a server that is full is waited for
   * @throws PoolRetired when the topology has moved on
   */
  async acquire(signal?: AbortSignal): Promise<ServerConnection> {
    const connection = this.tryAcquire();
    if (connection) return connection;
    if (this.#isRetired) throw this.#retiredError();
    let waiter: Waiter | null = null;
    const leave = () => {
      if (waiter && this.#forgetWaiter(waiter)) waiter.reject(signal?.reason as SluiceError);
    };
    signal?.addEventListener("abort", leave, { once: true });
    try {
      return await new Promise<ServerConnection>((resolve, reject) => {
        waiter = { resolve, reject, sinceMs: Date.now(), timer: null };
        this.#waiters.push(waiter);
        this.#arm(waiter);
        this.#serve();
      });
    } finally {
      signal?.removeEventListener("abort", leave);
    }
  }

  /**
   * For a short question that shall not wait for clients' transactions: an idle connection, or else one beside the
   * pool, closed when it is given back. A few at a time; a server that is full is waited for as in `acquire`.
   * @throws as `acquire`
   */
  async acquireAside(signal?: AbortSignal): Promise<ServerConnection> {
    const idle = this.tryAcquire();
    if (idle) return idle;
    if (this.#isPaused || this.#isRetired || this.#full) return await this.acquire(signal);
    const lane = this.#asides++ % this.#asideLanes.length;
    const before = this.#asideLanes[lane];
    let leave: () => void = () => {};
    this.#asideLanes[lane] = new Promise((resolve) => {
      leave = resolve;
    });
    await before;
    try {
      signal?.throwIfAborted();
      const { address, connectTimeoutMs } = this.options;
      const link = await ServerLink.connect(address, { connectTimeoutMs });
      return new ServerConnection(link, (back) => {
        back.close();
        leave();
        return null;
      });
    } catch (error) {
      leave();
      if (!isFull(error)) throw error;
      this.#pauseConnecting(error);
      return await this.acquire(signal);
    }
  }

  /** The one door back: called by the connection itself when whoever had it has done with it. */
  #takeBack(link: ServerLink): Promise<void> | null {
    if (!this.#busy.has(link)) {
      link.destroy();
      return null;
    }
    if (link.isAtRest && link.isKnown) {
      this.#rest(link);
      return null;
    }
    if (!link.isLost) return this.#mend(link);
    this.#drop(link);
    return null;
  }

  async #mend(link: ServerLink): Promise<void> {
    if (link.isOwing) this.counters.resynced++;
    const isMended = await mend(link);
    this.counters[isMended ? "cleaned" : "forceClosed"]++;
    if (isMended) this.#rest(link);
    else this.#drop(link);
  }

  /** Opens connections until `count` are there. Failures are logged: the next client sees them itself. */
  async warm(count: number): Promise<void> {
    const missing = Math.min(count, this.options.size) - this.#idle.length - this.#busy.size;
    const opened = Array.from({ length: Math.max(0, missing - this.#connecting) }, async () => {
      this.#connecting++;
      await this.#connect();
    });
    await Promise.all(opened);
  }

  /** Takes over the idle connections of a pool to the same server as the same user, which ends. */
  inherit(from: ServerPool): void {
    for (const link of from.#idle.splice(0)) this.#rest(link);
  }

  setPaused(isPaused: boolean): void {
    this.#isPaused = isPaused;
    if (isPaused) return;
    for (const waiter of this.#waiters) this.#arm(waiter);
    this.#serve();
  }

  /** Closes idle connections; those in use go on and are closed when they come back (RECONNECT). */
  closeIdle(): void {
    for (const link of this.#idle.splice(0)) link.close();
  }

  /** No longer part of the topology: waiters fail at once, connections close when given back. */
  retire(): void {
    this.#isRetired = true;
    if (this.#reaper) clearInterval(this.#reaper);
    if (this.#full) clearTimeout(this.#full.timer);
    this.closeIdle();
    for (const waiter of this.#waiters.splice(0)) {
      if (waiter.timer) clearTimeout(waiter.timer);
      waiter.reject(this.#retiredError());
    }
  }

  /** For the end of the process: also what is in use. */
  destroy(): void {
    this.retire();
    for (const link of this.#busy) link.destroy();
    this.#busy.clear();
  }

  #retiredError(): PoolRetired {
    return new PoolRetired(describeAddress(this.options.address));
  }

  #arm(waiter: Waiter): void {
    if (waiter.timer) clearTimeout(waiter.timer);
    const { checkoutTimeoutMs, address, size } = this.options;
    waiter.timer = setTimeout(() => {
      waiter.timer = null;
      // While paused, waiting is what was asked for; the timer is armed anew when it ends.
      if (this.#isPaused) return;
      this.#forgetWaiter(waiter);
      this.counters.errors++;
      const full = this.#full ? { detail: this.#full.because.message } : {};
      waiter.reject(new CheckoutTimedOut(describeAddress(address), checkoutTimeoutMs, size, full));
    }, checkoutTimeoutMs);
  }

  /** @returns false when it is served already */
  #forgetWaiter(waiter: Waiter): boolean {
    if (waiter.timer) clearTimeout(waiter.timer);
    const at = this.#waiters.indexOf(waiter);
    if (at >= 0) this.#waiters.splice(at, 1);
    return at >= 0;
  }

  #serve(): void {
    if (this.#isPaused) return;
    while (this.#waiters.length > 0) {
      const link = this.#popIdle();
      if (!link) break;
      const waiter = this.#waiters.shift();
      if (!waiter) break;
      if (waiter.timer) clearTimeout(waiter.timer);
      this.counters.waitMs += Date.now() - waiter.sinceMs;
      waiter.resolve(this.#hand(link));
    }
    if (this.#full) return;
    while (this.#connecting < this.#waiters.length && this.#total < this.options.size) {
      this.#connecting++;
      void this.#connect();
    }
  }

  get #total(): number {
    return this.#idle.length + this.#busy.size + this.#connecting;
  }

  /** The caller has counted it in `#connecting`. */
  async #connect(): Promise<void> {
    const { address, connectTimeoutMs } = this.options;
    try {
      const { statementsLimit } = this.options;
      const limited = statementsLimit === undefined ? {} : { statementsLimit };
      const link = await ServerLink.connect(address, { connectTimeoutMs, ...limited });
      this.#limitLife(link);
      this.#connecting--;
      this.counters.connects++;
      this.#isHealthy = true;
      this.#rest(link);
    } catch (error) {
      this.#connecting--;
      this.#notConnected(error);
      this.#serve();
    }
  }

  #limitLife(link: ServerLink): void {
    const { ms, jitterMs } = this.options.lifetime ?? { ms: 0, jitterMs: 0 };
    if (ms === 0) return;
    const jitter = jitterMs === 0 ? 0 : randomInt(-jitterMs, jitterMs + 1);
    link.endsAtMs = link.connectedAtMs + Math.max(0, ms + jitter);
  }

  #notConnected(error: unknown): void {
    const { address, log } = this.options;
    this.counters.errors++;
    const server = describeAddress(address);
    if (isFull(error)) {
      if (!this.#full) log.warn("server takes no more connections", { server });
      this.#pauseConnecting(error);
      return;
    }
    this.#isHealthy = false;
    const cause =
      error instanceof SluiceError ? error : new ServerUnreachable(server, { cause: error });
    log.warn("cannot connect to server", { server, error: cause.message });
    const waiter = this.#waiters.shift();
    if (waiter?.timer) clearTimeout(waiter.timer);
    waiter?.reject(cause);
  }

  /** The pool is larger than what the server allows: whoever waits goes on waiting, for one that comes back as well. */
  #pauseConnecting(because: ServerRefused): void {
    if (this.#full) clearTimeout(this.#full.timer);
    const timer = setTimeout(() => {
      this.#full = null;
      this.#serve();
    }, FULL_SERVER_PAUSE_MS);
    this.#full = { because, timer: timer.unref() };
  }

  /** What does not rest any more (the server has begun to say something) is nobody's. */
  #popIdle(): ServerLink | null {
    for (let link = this.#idle.pop(); link; link = this.#idle.pop()) {
      if (link.isAtRest) return link;
      this.#drop(link);
    }
    return null;
  }

  #hand(link: ServerLink): ServerConnection {
    this.counters.checkouts++;
    this.#busy.add(link);
    link.receiver = null;
    return new ServerConnection(link, (back) => this.#takeBack(back));
  }

  #rest(link: ServerLink): void {
    if (this.#isRetired || link.isLost || link.endsAtMs <= Date.now()) {
      this.#busy.delete(link);
      this.#noteClosed(link);
      link.close();
      this.#serve();
      return;
    }
    link.lastUsedAtMs = Date.now();
    link.receiver = new IdleReceiver(() => this.#forget(link));
    // A hint that reading was stopped for a slow client must not outlive that client.
    link.resume();
    this.#busy.delete(link);
    this.#idle.push(link);
    this.#reaper ??= setInterval(
      () => this.#reap(),
      Math.max(1_000, Math.min(this.options.idleTimeoutMs, this.#lifetimeMs) / 4),
    ).unref();
    this.#serve();
  }

  #drop(link: ServerLink): void {
    this.#busy.delete(link);
    this.#noteClosed(link);
    link.destroy();
    this.#serve();
  }

  #noteClosed(link: ServerLink): void {
    this.#closedBytes.received += link.bytesReceived;
    this.#closedBytes.sent += link.bytesSent;
  }

  #forget(link: ServerLink): void {
    const at = this.#idle.indexOf(link);
    if (at >= 0) this.#idle.splice(at, 1);
  }

  get #lifetimeMs(): number {
    const ms = this.options.lifetime?.ms ?? 0;
    return ms === 0 ? Number.POSITIVE_INFINITY : ms;
  }

  #reap(): void {
    const now = Date.now();
    for (const link of this.#idle.filter(({ endsAtMs }) => endsAtMs <= now)) {
      this.#forget(link);
      this.#noteClosed(link);
      link.close();
    }
    const before = Date.now() - this.options.idleTimeoutMs;
    while (this.#idle.length > this.options.minIdle) {
      const oldest = this.#idle[0];
      if (!oldest || oldest.lastUsedAtMs > before) return;
      this.#idle.shift();
      oldest.close();
    }
  }
}

/** The server, or a limit of the role or the database there, takes no more connections. */
function isFull(error: unknown): error is ServerRefused {
  return error instanceof ServerRefused && error.sqlState === SQLSTATE.tooManyConnections;
}

class IdleReceiver implements ServerReceiver {
  readonly #onClosed: () => void;
  constructor(onClosed: () => void) {
    this.#onClosed = onClosed;
  }
  frame(): void {}
  chunkEnd(): void {}
  drained(): void {}
  closed(): void {
    this.#onClosed();
  }
}
