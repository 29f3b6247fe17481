import { ServerUnreachable, SluiceError } from "../core/errors.js";
import type { Log } from "../observe/log.js";
import { describeAddress, type ServerAddress } from "./address.js";
import { ServerConnection, type ServerReceiver } from "./server-connection.js";
import { CheckoutTimedOut, PoolRetired } from "./server-errors.js";

export interface ServerPoolOptions {
  readonly address: ServerAddress;
  /** Most connections at once. */
  readonly size: number;
  /** Idle connections that are kept however old. */
  readonly minIdle: number;
  readonly checkoutTimeoutMs: number;
  readonly connectTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly log: Log;
}

interface Waiter {
  readonly resolve: (connection: ServerConnection) => void;
  readonly reject: (error: SluiceError) => void;
  readonly sinceMs: number;
  timer: NodeJS.Timeout | null;
}

let lastPoolId = 0;

const ROLLBACK_TIMEOUT_MS = 5_000;

/**
 * Connections of one user to one server. The longest waiter is served first; the connection used last is
 * given first, so that the others can grow old and be closed.
 *
 * Invariant: `#idle` holds clean sessions only: no transaction, no state besides `appliedSettings` and
 * `preparedStatements`, which the connection itself accounts for.
 */
export class ServerPool {
  readonly id = ++lastPoolId;
  readonly options: ServerPoolOptions;
  readonly #idle: ServerConnection[] = [];
  readonly #busy = new Set<ServerConnection>();
  readonly #waiters: Waiter[] = [];
  #connecting = 0;
  #isRetired = false;
  #isPaused = false;
  #isHealthy = true;
  readonly #closedBytes = { received: 0, sent: 0 };
  #reaper: NodeJS.Timeout | null = null;
  readonly counters = {
    checkouts: 0,
    waitMs: 0,
    errors: 0,
    connects: 0,
    forceClosed: 0,
    cleaned: 0,
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
  get busy(): readonly ServerConnection[] {
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
  get connections(): readonly ServerConnection[] {
    return [...this.#busy, ...this.#idle];
  }

  /** The usual case without a promise: an idle connection, or null. */
  tryAcquire(): ServerConnection | null {
    if (this.#isPaused || this.#isRetired || this.#waiters.length > 0) return null;
    const connection = this.#idle.pop();
    if (!connection) return null;
    return this.#hand(connection);
  }

  /**
   * @throws CheckoutTimedOut when none becomes free in time
   * @throws ServerUnreachable, ServerRefused from connecting
   * @throws PoolRetired when the topology has moved on
   */
  async acquire(): Promise<ServerConnection> {
    const connection = this.tryAcquire();
    if (connection) return connection;
    if (this.#isRetired) throw this.#retiredError();
    return await new Promise<ServerConnection>((resolve, reject) => {
      const waiter: Waiter = { resolve, reject, sinceMs: Date.now(), timer: null };
      this.#waiters.push(waiter);
      this.#arm(waiter);
      this.#serve();
    });
  }

  /**
   * Gives a connection back. What the client left is undone first: an open transaction is rolled back, a
   * soiled session gets DISCARD ALL. What cannot be cleaned is closed.
   */
  release(connection: ServerConnection): void {
    if (!this.#busy.has(connection)) return;
    if (connection.isLost || this.#isRetired) this.#drop(connection);
    else if (connection.transactionStatus === "I" && isKnown(connection)) this.#rest(connection);
    else this.#clean(connection);
  }

  #clean(connection: ServerConnection): void {
    connection.use(null);
    const timer = setTimeout(() => connection.destroy(), ROLLBACK_TIMEOUT_MS);
    void clean(connection)
      .catch(() => false)
      .then((isClean) => {
        clearTimeout(timer);
        this.counters[isClean ? "cleaned" : "forceClosed"]++;
        if (isClean && !this.#isRetired) this.#rest(connection);
        else this.#drop(connection);
      });
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
    for (const connection of from.#idle.splice(0)) this.#rest(connection);
  }

  setPaused(isPaused: boolean): void {
    this.#isPaused = isPaused;
    if (isPaused) return;
    for (const waiter of this.#waiters) this.#arm(waiter);
    this.#serve();
  }

  /** Closes idle connections; those in use go on and are closed when they come back (RECONNECT). */
  closeIdle(): void {
    for (const connection of this.#idle.splice(0)) connection.close();
  }

  /** No longer part of the topology: waiters fail at once, connections close when given back. */
  retire(): void {
    this.#isRetired = true;
    if (this.#reaper) clearInterval(this.#reaper);
    this.closeIdle();
    for (const waiter of this.#waiters.splice(0)) {
      if (waiter.timer) clearTimeout(waiter.timer);
      waiter.reject(this.#retiredError());
    }
  }

  /** For the end of the process: also what is in use. */
  destroy(): void {
    this.retire();
    for (const connection of this.#busy) connection.destroy();
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
      this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
      this.counters.errors++;
      waiter.reject(new CheckoutTimedOut(describeAddress(address), checkoutTimeoutMs, size));
    }, checkoutTimeoutMs);
  }

  #serve(): void {
    if (this.#isPaused) return;
    while (this.#waiters.length > 0) {
      const connection = this.#idle.pop();
      if (!connection) break;
      const waiter = this.#waiters.shift();
      if (!waiter) break;
      if (waiter.timer) clearTimeout(waiter.timer);
      this.counters.waitMs += Date.now() - waiter.sinceMs;
      waiter.resolve(this.#hand(connection));
    }
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
    const { address, connectTimeoutMs, log } = this.options;
    try {
      const connection = await ServerConnection.connect(address, { connectTimeoutMs });
      this.#connecting--;
      this.counters.connects++;
      this.#isHealthy = true;
      if (this.#isRetired) connection.close();
      else this.#rest(connection);
    } catch (error) {
      this.#connecting--;
      this.#isHealthy = false;
      this.counters.errors++;
      const cause =
        error instanceof SluiceError
          ? error
          : new ServerUnreachable(describeAddress(address), { cause: error });
      log.warn("cannot connect to server", {
        server: describeAddress(address),
        error: cause.message,
      });
      const waiter = this.#waiters.shift();
      if (waiter?.timer) clearTimeout(waiter.timer);
      waiter?.reject(cause);
      this.#serve();
    }
  }

  #hand(connection: ServerConnection): ServerConnection {
    this.counters.checkouts++;
    this.#busy.add(connection);
    connection.use(null);
    return connection;
  }

  #rest(connection: ServerConnection): void {
    this.#busy.delete(connection);
    connection.lastUsedAtMs = Date.now();
    connection.use(new IdleReceiver(() => this.#forget(connection)));
    // A hint that reading was stopped for a slow client must not outlive that client.
    connection.resume();
    if (!connection.isLost) this.#idle.push(connection);
    this.#reaper ??= setInterval(
      () => this.#reap(),
      Math.max(1_000, this.options.idleTimeoutMs / 4),
    ).unref();
    this.#serve();
  }

  #drop(connection: ServerConnection): void {
    this.#busy.delete(connection);
    this.#closedBytes.received += connection.bytesReceived;
    this.#closedBytes.sent += connection.bytesSent;
    connection.destroy();
    this.#serve();
  }

  #forget(connection: ServerConnection): void {
    const at = this.#idle.indexOf(connection);
    if (at >= 0) this.#idle.splice(at, 1);
  }

  #reap(): void {
    const before = Date.now() - this.options.idleTimeoutMs;
    while (this.#idle.length > this.options.minIdle) {
      const oldest = this.#idle[0];
      if (!oldest || oldest.lastUsedAtMs > before) return;
      this.#idle.shift();
      oldest.close();
    }
  }
}

/** The one question of the door: is all that the session holds accounted for? */
function isKnown(connection: ServerConnection): boolean {
  return !connection.isSoiled && !connection.areSettingsUnknown;
}

/** @returns whether the session is as new again, but for what the connection accounts for */
async function clean(connection: ServerConnection): Promise<boolean> {
  if (connection.transactionStatus !== "I") await connection.query("ROLLBACK");
  if (connection.transactionStatus !== "I") return false;
  if (isKnown(connection)) return true;
  const { error } = await connection.query("DISCARD ALL");
  forgetSession(connection);
  return error === null;
}

/** After DISCARD ALL: the connection's account of its session begins anew. */
export function forgetSession(connection: ServerConnection): void {
  connection.preparedStatements.clear();
  connection.unnamedStatement = null;
  connection.appliedSettings = new Map();
  connection.areSettingsUnknown = false;
  connection.isSoiled = false;
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
