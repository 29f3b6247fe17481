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
    const { signal } = this.#gone;
    signal.throwIfAborted();
    const server = pool.tryAcquire() ?? (await pool.acquire(signal));
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
