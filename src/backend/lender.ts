import type { SluiceError } from "../core/errors.js";
import type { ServerConnection } from "./server-connection.js";
import type { ServerPool } from "./server-pool.js";

/**
 * All that one client's session has of the pools. When the client is gone, `close` gives back whatever it has, whoever
 * is using it at that moment, and whoever waits for a server gets none: nothing runs for somebody who is not there.
 */
export class Lender {
  readonly #gone = new AbortController();
  readonly #lent = new Set<ServerConnection>();

  /**
   * @throws what `close` was told, once the client is gone; nothing was sent
   * @throws CheckoutTimedOut, ServerUnreachable, ServerRefused, PoolRetired: nothing was sent
   */
  async take(pool: ServerPool): Promise<ServerConnection> {
    this.#gone.signal.throwIfAborted();
    return this.#keep(pool.tryAcquire() ?? (await pool.acquire(this.#gone.signal)));
  }

  /**
   * For a short question that shall not wait for others' transactions: one beside the pool where none is free.
   * @throws as `take`
   */
  async takeAside(pool: ServerPool): Promise<ServerConnection> {
    this.#gone.signal.throwIfAborted();
    return this.#keep(await pool.acquireAside(this.#gone.signal));
  }

  #keep(server: ServerConnection): ServerConnection {
    const { signal } = this.#gone;
    if (signal.aborted) {
      server.giveBack();
      signal.throwIfAborted();
    }
    for (const other of this.#lent) if (other.isOver) this.#lent.delete(other);
    this.#lent.add(server);
    return server;
  }

  /** @param reason for whoever asks from now on. Resolves when nothing of the client is in flight on any server. */
  async close(reason: SluiceError): Promise<void> {
    this.#gone.abort(reason);
    for (const server of this.#lent) server.giveBack();
    for (const { settled } of this.#lent) await settled;
    this.#lent.clear();
  }
}
