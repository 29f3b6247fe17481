import type { ServedDatabase } from "../databases/served-database.js";
import type { Executor } from "../execution/executor.js";
import type { SessionState } from "../execution/session-state.js";
import { ShardedExecutor } from "../sharded/sharded-executor.js";
import { SingleExecutor } from "../single/single-executor.js";

/** A session's two ways to execute, of which one at a time has work. */
export class Executors {
  readonly #single: Executor;
  readonly #sharded: Executor;
  #current: Executor;

  /** @param onCopyIn called when the current one's `isCopyIn` has become true */
  constructor(state: SessionState, onCopyIn: () => void) {
    this.#single = new SingleExecutor(state, onCopyIn);
    this.#sharded = new ShardedExecutor(state, onCopyIn);
    this.#current = this.#single;
  }

  /** The one that has executed last, and holds whatever is held. */
  get current(): Executor {
    return this.#current;
  }

  /**
   * The one for the next request: while something is open the same as before, else what the database needs.
   * @throws SessionEnded when the other one kept a server that cannot be left
   */
  async next({ served }: { readonly served: ServedDatabase }): Promise<Executor> {
    if (this.#current.isOpen) return this.#current;
    const next = served.database.shardCount === 1 ? this.#single : this.#sharded;
    if (next !== this.#current) await this.#current.leave(served);
    this.#current = next;
    return next;
  }
}
