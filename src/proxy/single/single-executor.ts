import { describeAddress } from "../../backend/address.js";
import type { ServerConnection } from "../../backend/server-connection.js";
import type { SluiceError } from "../../core/errors.js";
import { parseSqlState, SQLSTATE } from "../../core/sqlstate.js";
import { hintedShard, hintsOfSettings } from "../../router/hints.js";
import { type DatabaseUser, FIRST_SHARD } from "../../topology/topology.js";
import { encodeClose, encodeQuery, FLUSH, FRONTEND, SYNC } from "../../wire/frontend.js";
import type { ServedDatabase } from "../databases/served-database.js";
import {
  type DecodedPipeline,
  type DecodedRequest,
  textsOf,
} from "../execution/decoded-request.js";
import type { ExecutionContext, Executor, Handled } from "../execution/executor.js";
import { ExtendedTranslation } from "../execution/extended-translation.js";
import { Loan } from "../execution/loan.js";
import { Relay, type RelayOutcome } from "../execution/relay.js";
import { forgetStatements, type SessionState } from "../execution/session-state.js";
import { isOfSession, type StatementEffects } from "../execution/statement-effects.js";
import { forgetNamed, namingText } from "../execution/statement-names.js";
import { SessionEnded, StatementRefused } from "../session-errors.js";
import { isTellable, TieWatch, unbuildableState } from "./session-tie.js";

/** A request up to this size is kept, and sent again when the gate refused it. */
const RETRIED_BYTES = 64 * 1024;

/** Executes a session's requests on one server: its whole traffic where the database has one shard. */
export class SingleExecutor implements Executor {
  readonly #relay: Relay;
  readonly #state: SessionState;
  #loan: Loan | null = null;
  /** Extended messages were sent and no Sync yet. */
  #isUnsynced = false;
  #isRunning = false;
  readonly #tieWatch = new TieWatch();

  /** @param onCopyIn called when `isCopyIn` has become true: some of the data may have come already */
  constructor(state: SessionState, onCopyIn: () => void) {
    this.#state = state;
    this.#relay = new Relay(state, onCopyIn);
  }

  get isOpen(): boolean {
    if (!this.#loan) return false;
    return this.#isUnsynced || this.#loan.server.transactionStatus !== "I";
  }

  get isCopyIn(): boolean {
    return this.#relay.isCopyIn;
  }

  get serverPids(): readonly number[] {
    return this.#loan ? [this.#loan.server.processId] : [];
  }

  async handle(request: DecodedRequest, context: ExecutionContext): Promise<Handled> {
    const asked = this.#relay.isSkipping ? onlySync(request) : request;
    if (asked === null) return "open";
    return await this.#handle(asked, context);
  }

  async #handle(request: DecodedRequest, context: ExecutionContext): Promise<Handled> {
    const isFresh = !this.isOpen;
    const { effects } = request;
    this.#checkHints(request, context);
    const loan = await this.#attach(context.served, context.user);
    const { server } = loan;
    for (const each of effects) this.#noteBefore(each, server);
    const hidden =
      request.kind === "function" ? [] : context.served.hiddenChanges.of(textsOf(request));
    if (hidden) this.#state.settings.noteHidden(hidden, server);
    const canRetry =
      isFresh &&
      request.bytes <= RETRIED_BYTES &&
      (request.kind !== "extended" || request.end === "sync");
    this.#isRunning = true;
    const { clears } = server.preparedStatements;
    let outcome: RelayOutcome;
    try {
      if (request.kind === "extended") {
        const extended = await this.#extended(request, server, canRetry);
        if (extended === "part") return "open";
        outcome = extended;
      } else outcome = await this.#simple(request, server, canRetry);
    } finally {
      this.#isRunning = false;
    }
    // By the server's word, whatever else failed.
    if (server.preparedStatements.clears !== clears) forgetStatements(this.#state);
    else if (!this.#relay.hasSeenError) forgetNamedBy(request, this.#state);
    return await this.#settle(outcome, loan, request);
  }

  /** There is one shard, and whoever names another must hear of it. */
  #checkHints(request: DecodedRequest, { served }: ExecutionContext): void {
    if (request.kind === "function" || request.effects.some(isOfSession)) return;
    const settings = hintsOfSettings(this.#state.settings.current);
    for (const sql of textsOf(request)) {
      const hinted = hintedShard(sql, settings, served.database);
      if (hinted !== null && typeof hinted !== "number")
        throw new StatementRefused(hinted.sqlState, hinted.reason, { hint: hinted.hint });
    }
  }

  /** A second time where the server had lost a statement by dynamic SQL: by then it is made anew. */
  async #extended(
    request: DecodedPipeline,
    server: ServerConnection,
    canRetry: boolean,
  ): Promise<RelayOutcome | "part"> {
    for (let attempt = 0; ; attempt++) {
      this.#relay.begin("extended", canRetry);
      const translation = new ExtendedTranslation(this.#state, this.#relay, server);
      this.#send(server, translation.translate(request.parts));
      if (request.end === "part") {
        this.#isUnsynced = true;
        this.#relay.injectAnswered();
        return "part";
      }
      const outcome = await this.#relay.outcome();
      const isTakenBack = outcome.kind === "refusedByGate" || outcome.kind === "forgotten";
      if (isTakenBack) translation.rewind();
      if (outcome.kind !== "forgotten" || attempt > 0) return outcome;
    }
  }

  async #simple(
    request: Exclude<DecodedRequest, DecodedPipeline>,
    server: ServerConnection,
    canRetry: boolean,
  ): Promise<RelayOutcome> {
    this.#relay.begin("simple", canRetry);
    server.unnamedStatement = null;
    // As in PostgreSQL: a simple query destroys the unnamed statement.
    this.#state.statements.delete("");
    const [only] = request.effects;
    const naming =
      request.kind === "query" && only ? namingText(request.sql, only, this.#state) : null;
    for (const { name, parse } of naming?.statements ?? [])
      if (server.preparedStatements.presence(name) !== "there") {
        const close = encodeClose({ target: "statement", name });
        // A failure will be that of what follows, too.
        await server.ask(Buffer.concat([close, parse, SYNC]));
      }
    this.#send(server, naming ? encodeQuery(naming.sql) : request.frame);
    return await this.#relay.outcome();
  }

  copy(type: number, frame: Buffer): void {
    const isEnd = type !== FRONTEND.copyData;
    // In the extended protocol its answer would wait for the client's next Sync, and that for its answer.
    const bytes = isEnd && this.#relay.isExtended ? Buffer.concat([frame, FLUSH]) : frame;
    const isWritable = this.#loan?.server.send(bytes) ?? true;
    if (!isWritable) this.#state.client.socket.pause();
    if (isEnd) this.#relay.isCopyIn = false;
  }

  clientDrained(): void {
    this.#loan?.server.resume();
  }

  async cancel(): Promise<void> {
    if (this.#isRunning) await this.#loan?.cancel();
  }

  async abandon(reason: SluiceError): Promise<void> {
    this.#detach();
    await this.#state.lender.close(reason);
  }

  fail(): void {
    this.#detach();
  }

  async leave(served: ServedDatabase): Promise<void> {
    if (this.#loan) await this.#leave(this.#loan, served);
  }

  #send(server: ServerConnection, bytes: Buffer): void {
    if (bytes.length > 0 && !server.send(bytes)) this.#state.client.socket.pause();
  }

  async #attach(served: ServedDatabase, user: DatabaseUser): Promise<Loan> {
    if (this.#loan && this.isOpen) return this.#loan;
    if (this.#loan && (this.#loan.served !== served || this.#loan.server.isLost))
      await this.#leave(this.#loan, served);
    if (!this.#loan) {
      this.#loan = await Loan.take(this.#state, served, { user, shard: FIRST_SHARD });
      this.#relay.attach(this.#loan.server);
    }
    const loan = this.#loan;
    try {
      await loan.prepare(served, this.#state);
    } catch (error) {
      this.#detach();
      throw error;
    }
    return loan;
  }

  /** R38: the session is rebuilt on other servers, or ended; never silently changed. */
  async #leave({ server, served: before }: Loan, served: ServedDatabase): Promise<void> {
    const reason = this.#state.tie ?? (server.isLost ? null : await unbuildableState(server));
    const address = describeAddress(server.address);
    this.#detach();
    if (before === served)
      throw new SessionEnded(SQLSTATE.connectionFailure, `connection to server ${address} lost`, {
        hint: "The state of the session is lost with it. Connect again.",
      });
    if (reason === null) return;
    throw new SessionEnded(
      SQLSTATE.adminShutdown,
      `database "${served.database.name}" has moved to other servers, and this session's ${reason} cannot move`,
      { hint: "Connect again and set the session up anew." },
    );
  }

  #noteBefore(effects: StatementEffects, server: ServerConnection): void {
    this.#state.settings.note(effects, server);
    if (effects.tie === null) return;
    // One that ends with DISCARD ALL only must not hide behind another.
    if (this.#state.tie === null || !isTellable(effects.tie)) this.#state.tie = effects.tie;
    this.#tieWatch.restart();
    server.isSoiled = true;
  }

  async #settle(outcome: RelayOutcome, loan: Loan, request: DecodedRequest): Promise<Handled> {
    const { server } = loan;
    switch (outcome.kind) {
      case "lost":
        return this.#lost(outcome);
      case "refusedByGate":
      case "forgotten":
        this.#backOff(server);
        return "refusedByGate";
      case "answered":
        this.#isUnsynced = true;
        return "open";
      case "failureHeld":
        // Nobody asked for it here.
        this.#relay.deliver();
        this.#isUnsynced = false;
        break;
      case "ready":
        this.#isUnsynced = false;
    }
    if (!this.#relay.hasSeenError) this.#noteAfter(request.effects, loan);
    // It could hit our own statements as well as the client's next.
    if (loan.cancelling) await loan.cancelling;
    await loan.restore(this.#state, request.effects);
    if (server.transactionStatus !== "I") {
      this.#state.transaction = "open";
      return "open";
    }
    this.#state.transaction = "none";
    await this.#readBack(server);
    await this.#untie(server, request);
    if (this.#state.mode !== "session" && this.#state.tie === null) this.#detach();
    return "idle";
  }

  /** A tie ends when its reason does: the connection, soiled as it is, is cleaned and anybody's again. */
  async #untie(server: ServerConnection, request: DecodedRequest): Promise<void> {
    const { tie, mode } = this.#state;
    if (tie === null || mode === "session" || !this.#tieWatch.isDue(tie, request)) return;
    const left = await unbuildableState(server);
    // With its server the state is lost: the session ends with its next request, and is not silently another.
    if (!server.isLost) this.#state.tie = left;
  }

  async #readBack(server: ServerConnection): Promise<void> {
    if (!this.#state.settings.hasTouched) return;
    const { tie } = await this.#state.settings.readBack(server);
    if (tie === null) return;
    this.#state.tie ??= tie;
    server.isSoiled = true;
  }

  #noteAfter(effects: readonly StatementEffects[], { served, server }: Loan): void {
    for (const { discards, changesSchema } of effects) {
      if (changesSchema) void served.announceTables();
      if (discards !== "all") continue;
      server.forgetSession();
      this.#state.settings.restart();
      this.#state.tie = null;
    }
  }

  /** Nothing ran: the client's BEGIN, if there was one, is sent again with the statement. */
  #backOff(server: ServerConnection): void {
    if (this.#state.transaction === "open") this.#state.transaction = "begun";
    if (this.#state.mode !== "session" && this.#state.tie === null) this.#detach();
    else if (server.transactionStatus !== "I") this.#detach();
  }

  #lost(outcome: Extract<RelayOutcome, { kind: "lost" }>): never {
    const hadState = this.#state.mode === "session" || this.#state.tie !== null;
    this.#detach();
    if (hadState) {
      const sqlState = parseSqlState(outcome.fatal?.get("C"));
      throw new SessionEnded(sqlState ?? SQLSTATE.connectionFailure, outcome.error.message, {
        ...(outcome.error.detail ? { detail: outcome.error.detail } : {}),
        hint: "Connect again.",
      });
    }
    throw outcome.error;
  }

  #detach(): void {
    const loan = this.#loan;
    if (!loan) return;
    this.#loan = null;
    this.#isUnsynced = false;
    this.#state.tie = null;
    this.#relay.detach();
    // Also where the server's word on what was set has not come: nobody knows this session's settings then.
    if (this.#state.mode === "session" || this.#state.settings.hasTouched)
      loan.server.isSoiled = true;
    loan.giveBack();
  }
}

function forgetNamedBy(request: DecodedRequest, state: SessionState): void {
  if (request.kind === "query") {
    const [only] = request.effects;
    if (only) forgetNamed(request.sql, only, state);
  } else if (request.kind === "extended") {
    for (const part of request.parts)
      if (part.kind === "bind" && part.statement)
        forgetNamed(part.statement.sql, part.statement.effects, state);
  }
}

/** What a server that skips up to Sync takes notice of; null: nothing. */
function onlySync(request: DecodedRequest): DecodedRequest | null {
  if (request.kind !== "extended" || request.end !== "sync") return null;
  return { ...request, parts: request.parts.filter(({ kind }) => kind === "sync"), effects: [] };
}
