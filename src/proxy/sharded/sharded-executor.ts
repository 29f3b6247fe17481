import { SluiceError } from "../../core/errors.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import { decodeErrorFields, encodeThrown } from "../../wire/error-fields.js";
import type { Watched } from "../databases/deadlock-watch.js";
import type { ServedDatabase } from "../databases/served-database.js";
import type { Cycle } from "../databases/wait-graph.js";
import type { DecodedRequest } from "../execution/decoded-request.js";
import type { ExecutionContext, Executor, Handled } from "../execution/executor.js";
import type { SessionState } from "../execution/session-state.js";
import {
  FailedInCopy,
  SessionEnded,
  StatementFailed,
  StatementRefused,
  TablesChanged,
} from "../session-errors.js";
import { CopyInput } from "./copy-input.js";
import { isOfCursor } from "./cursors.js";
import { ExtendedProtocol } from "./extended.js";
import { SimpleProtocol } from "./simple.js";
import { isOfOtherTables, ShardedStatements } from "./statements.js";

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
  readonly #watched: Watched;
  #isRunning = false;

  /** @param onCopyIn called when `isCopyIn` has become true: some of the data may have come already */
  constructor(state: SessionState, onCopyIn: () => void) {
    this.#state = state;
    this.#statements = new ShardedStatements(state, this.#copyInput, onCopyIn);
    this.#simple = new SimpleProtocol(this.#statements);
    this.#extended = new ExtendedProtocol(this.#statements);
    const { transaction } = this.#statements;
    this.#watched = {
      sessions: () => transaction.sessions,
      giveUp: (cycle) => void transaction.giveUp(deadlockOf(cycle)),
    };
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
      if (effects.kind === "twoPhase") throw halfCommit();
      else if (effects.tie !== null && !isOfCursor(effects)) throw tied(effects.tie);
    this.#isRunning = true;
    const isFresh = !this.isOpen;
    const before = this.#progress();
    context.served.deadlocks.begin(this.#watched);
    try {
      if (request.kind === "extended") return await this.#extended.handle(request, context);
      this.#state.statements.delete("");
      await this.#extended.beforeQuery();
      const handled = await this.#simple.handle(request, context, isFresh);
      this.#extended.afterQuery();
      return handled;
    } catch (error) {
      const isUnseen = isFresh && this.#progress() === before;
      const failure = error instanceof FailedInCopy ? error.failure : error;
      throw (await this.#isOfOtherTables(failure, context, isUnseen)) ? new TablesChanged() : error;
    } finally {
      this.#isRunning = false;
      context.served.deadlocks.end(this.#watched);
      const cancelling = this.#statements.transaction.cancelling();
      if (cancelling) await cancelling;
    }
  }

  /** Another one when the client was shown something, has sent what it cannot send again, or a commit was begun. */
  #progress(): string {
    const { client } = this.#state;
    const { commits } = this.#statements.transaction;
    return `${client.bytesSent} ${this.#copyInput.taken} ${commits}`;
  }

  /** @param isUnseen nothing of it, or of its transaction, was done or shown */
  async #isOfOtherTables(
    error: unknown,
    context: ExecutionContext,
    isUnseen: boolean,
  ): Promise<boolean> {
    if (!(error instanceof SluiceError)) return false;
    const frame = error instanceof StatementFailed ? error.frame : encodeThrown(error);
    const fields = decodeErrorFields(frame);
    if (!isOfOtherTables(fields)) return false;
    const statements = this.#statements;
    if (!isUnseen) {
      context.served.tables.doubt();
      return false;
    }
    // Locks of its transaction would be waited for, where the servers look at a view.
    statements.transaction.release();
    if ((await statements.newerRouter(context)) === null) return false;
    this.#extended.rewind();
    return true;
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

  async abandon(reason: SluiceError): Promise<void> {
    this.#copyInput.close();
    this.#statements.sink.clientDrained();
    // Given up half way it would be half a commit.
    await this.#statements.transaction.committing;
    await this.#state.lender.close(reason);
    this.#statements.transaction.release();
  }

  fail(): void {
    this.#copyInput.close();
    this.#statements.fail();
    this.#extended.reset();
    this.#statements.relay.detach();
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

function deadlockOf({ waits }: Cycle): StatementRefused {
  const who = waits.map(
    ({ shard, pid, blockedBy }) =>
      `On shard ${shard}, process ${pid} is blocked by process ${blockedBy}.`,
  );
  return new StatementRefused(SQLSTATE.deadlockDetected, "deadlock detected", {
    detail: who.join("\n"),
    hint: "Transactions waited for each other on several shards. Roll back and repeat this one.",
  });
}

/** R54. One name on several shards, whose halves others could end one by one, is nothing that we could keep whole. */
function halfCommit(): StatementRefused {
  return new StatementRefused(
    SQLSTATE.featureNotSupported,
    "PREPARE TRANSACTION, COMMIT PREPARED and ROLLBACK PREPARED on a sharded database",
    {
      hint: "COMMIT is on all shards or on none by itself. To take part in others' transactions, connect to one shard directly.",
    },
  );
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
