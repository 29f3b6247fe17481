import { SQLSTATE } from "../../core/sqlstate.js";
import type { ServedDatabase } from "../databases/served-database.js";
import type { DecodedRequest } from "../execution/decoded-request.js";
import type { ExecutionContext, Executor, Handled } from "../execution/executor.js";
import type { SessionState } from "../execution/session-state.js";
import { SessionEnded, StatementRefused } from "../session-errors.js";
import { CopyInput } from "./copy-input.js";
import { isOfCursor } from "./cursors.js";
import { ExtendedProtocol } from "./extended.js";
import { SimpleProtocol } from "./simple.js";
import { ShardedStatements } from "./statements.js";

/**
 * Executes a session's requests over the shards of its database. A statement for one shard passes through
 * as it is; one for several goes to the scatter; what belongs to the session (BEGIN, SET, SAVEPOINT, ...)
 * is settled here.
 */
export class ShardedExecutor implements Executor {
  readonly #state: SessionState;
  readonly #copyInput = new CopyInput();
  readonly #statements: ShardedStatements;
  readonly #simple: SimpleProtocol;
  readonly #extended: ExtendedProtocol;
  #isRunning = false;

  /** @param onCopyIn called when `isCopyIn` has become true: some of the data may have come already */
  constructor(state: SessionState, onCopyIn: () => void) {
    this.#state = state;
    this.#statements = new ShardedStatements(state, this.#copyInput, onCopyIn);
    this.#simple = new SimpleProtocol(this.#statements);
    this.#extended = new ExtendedProtocol(this.#statements);
  }

  get isOpen(): boolean {
    return this.#statements.transaction.isUsed || this.#extended.isUnsynced;
  }

  get isCopyIn(): boolean {
    return this.#copyInput.isOpen;
  }

  get serverPids(): readonly number[] {
    return this.#statements.transaction.used.map(({ processId }) => processId);
  }

  async handle(request: DecodedRequest, context: ExecutionContext): Promise<Handled> {
    if (request.kind === "function")
      throw new StatementRefused(SQLSTATE.featureNotSupported, "function calls name no shard", {
        hint: "Use SELECT.",
      });
    refuseEncodings(this.#state);
    for (const effects of request.effects)
      if (effects.tie !== null && !isOfCursor(effects)) throw tied(effects.tie);
    this.#isRunning = true;
    try {
      if (request.kind === "extended") return await this.#extended.handle(request, context);
      this.#state.statements.delete("");
      const isFresh = !this.isOpen;
      await this.#extended.beforeQuery();
      const handled = await this.#simple.handle(request, context, isFresh);
      this.#extended.afterQuery();
      return handled;
    } finally {
      this.#isRunning = false;
      const cancelling = this.#statements.transaction.cancelling();
      if (cancelling) await cancelling;
    }
  }

  copy(type: number, frame: Buffer): void {
    this.#copyInput.add(type, frame);
    if (this.#copyInput.isFull) this.#state.client.socket.pause();
  }

  clientDrained(): void {
    this.#statements.sink.clientDrained();
    for (const server of this.#statements.transaction.used) server.resume();
  }

  async cancel(): Promise<void> {
    if (this.#isRunning) await this.#statements.transaction.cancel();
  }

  async abandon(): Promise<void> {
    this.#copyInput.close();
    this.#statements.sink.clientDrained();
    if (!this.#isRunning) {
      this.#giveUp();
      return;
    }
    await this.cancel();
    this.#statements.transaction.destroy();
  }

  fail(): void {
    this.#copyInput.close();
    this.#statements.fail();
    this.#extended.reset();
    this.#statements.relay.detach();
  }

  #giveUp(): void {
    this.fail();
    this.#statements.transaction.release();
  }

  /** Between transactions nothing is kept here but rows of cursors. */
  async leave(served: ServedDatabase): Promise<void> {
    if (!this.#statements.cursors.hasHeld) return;
    throw new SessionEnded(
      SQLSTATE.adminShutdown,
      `database "${served.database.name}" has moved to other servers, and this session's cursor WITH HOLD cannot move`,
      { hint: "Connect again and set the session up anew." },
    );
  }
}

function tied(tie: string): StatementRefused {
  return new StatementRefused(SQLSTATE.featureNotSupported, `no ${tie} on a sharded database`, {
    hint: "It would belong to one shard's server. Connect to that server directly, or do without.",
  });
}

/** Keys are read from statements as UTF-8 and with standard strings. */
function refuseEncodings({ settings }: SessionState): void {
  const encoding = settings.current.get("client_encoding");
  // Read as PostgreSQL reads it: by its letters and digits (asyncpg sends it in quotes).
  if (encoding !== undefined && !/^(utf8|unicode)$/i.test(encoding.replaceAll(/[^a-z0-9]/gi, "")))
    throw new StatementRefused(
      SQLSTATE.featureNotSupported,
      `client_encoding ${encoding} on a sharded database`,
      { hint: "Set client_encoding to UTF8." },
    );
  if (settings.current.get("standard_conforming_strings") === "off")
    throw new StatementRefused(
      SQLSTATE.featureNotSupported,
      "standard_conforming_strings = off on a sharded database",
      { hint: "Set it to on." },
    );
}
