import { PoolRetired } from "../../backend/server-errors.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import { tell } from "../../core/tell.js";
import type { Log } from "../../observe/log.js";
import type { DatabaseUser } from "../../topology/topology.js";
import { READY } from "../../wire/backend.js";
import { encodeError, encodeThrown } from "../../wire/error-fields.js";
import type { Framer } from "../../wire/framer.js";
import { FRONTEND } from "../../wire/frontend.js";
import { ProtocolViolation } from "../../wire/protocol-violation.js";
import type { OpenTransaction } from "../channel.js";
import type { ClientConnection, ClientReceiver } from "../client/client-connection.js";
import { type ClientRequest, type Message, RequestCollector } from "../client/client-request.js";
import type { ServedDatabase } from "../databases/served-database.js";
import {
  type DecodedRequest,
  decodeRequest,
  type ServerRequest,
} from "../execution/decoded-request.js";
import type { ExecutionContext, Executor, Handled } from "../execution/executor.js";
import { forgetStatements, type SessionState } from "../execution/session-state.js";
import { refusalOf, type StatementEffects } from "../execution/statement-effects.js";
import {
  AlreadyTold,
  FailedInCopy,
  HoldGivenUp,
  SessionEnded,
  StatementFailed,
  StatementRefused,
  TablesChanged,
} from "../session-errors.js";
import { Executors } from "./executors.js";
import { answerLocally, isRefusedAsFailed } from "./local-answers.js";
import { RequestQueue } from "./request-queue.js";

/** What a session needs of its data plane. */
export interface SessionHost {
  served(database: string): ServedDatabase | null;
  /** Resolves when a transaction may start. @throws HoldGivenUp */
  begin(session: Session, bytes: number): Promise<void> | null;
  finish(session: Session): void;
  /** The gate refused: resolves when decisions were read again. @throws HoldGivenUp */
  refresh(served: ServedDatabase): Promise<void>;
  closed(session: Session): void;
}

export type SessionStateName =
  | "idle"
  | "active"
  | "idle in transaction"
  | "transaction error"
  | "waiting";

const MOST_GATE_RETRIES = 20;

/** One client after login: takes its requests one after the other, through the hold, to an executor. */
export class Session implements ClientReceiver {
  readonly id: number;
  readonly database: string;
  readonly state: SessionState;
  readonly #host: SessionHost;
  readonly #log: Log;
  readonly #executors: Executors;
  readonly #collector = new RequestCollector();
  readonly #queue: RequestQueue;
  #isPumping = false;
  #isInFlight = false;
  #inFlightSinceMs = 0;
  #isWaiting = false;
  #isClosed = false;
  /** It is closed, and nothing of it is in flight on any server. */
  #isAbandoned = false;
  /** After an error in a pipeline: requests up to Sync are dropped. */
  #isSkipping = false;

  constructor(options: {
    readonly id: number;
    readonly database: string;
    readonly state: SessionState;
    readonly host: SessionHost;
    readonly log: Log;
  }) {
    this.id = options.id;
    this.database = options.database;
    this.state = options.state;
    this.#host = options.host;
    this.#log = options.log;
    this.#queue = new RequestQueue(this.client);
    this.#executors = new Executors(this.state, () => this.#feedCopy());
  }

  get client(): ClientConnection {
    return this.state.client;
  }

  get isTied(): boolean {
    return this.state.tie !== null;
  }

  get stateName(): SessionStateName {
    if (this.#isWaiting) return "waiting";
    if (this.#isPumping) return "active";
    if (this.state.transaction === "failed") return "transaction error";
    return this.state.transaction === "none" ? "idle" : "idle in transaction";
  }

  read(framer: Framer): void {
    try {
      while (framer.next()) this.#take(framer);
    } catch (error) {
      this.end(error);
      return;
    }
    this.#queue.regulate();
    if (!this.#isPumping) void this.#pump();
  }

  drained(): void {
    this.#executors.current.clientDrained();
  }

  closed(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#queue.clear();
    this.#host.closed(this);
    void this.#abandon();
  }

  /** Says why with FATAL and closes. */
  end(error: unknown): void {
    if (this.#isClosed) return;
    this.client.end(encodeThrown(error, "FATAL"));
    this.closed();
  }

  /** A CancelRequest with this session's key. */
  async cancel(): Promise<void> {
    await this.#executors.current.cancel();
  }

  /** What a hold waits for. */
  get openTransaction(): OpenTransaction {
    return {
      pids: this.#executors.current.serverPids,
      application: shownApplication(this.state.settings.current.get("application_name") ?? ""),
      ageMs: this.#isInFlight ? Math.round(performance.now() - this.#inFlightSinceMs) : 0,
    };
  }

  /** A hold with "end": the running transaction is not waited for. The client may connect and repeat it. */
  endForHold(): void {
    if (!this.#isInFlight) return;
    this.end(
      new SessionEnded(
        SQLSTATE.adminShutdown,
        `terminating connection: database "${this.database}" is moving to other servers`,
        { hint: "The open transaction was rolled back. Connect again and repeat it." },
      ),
    );
  }

  /** Nothing runs and nothing waits: the session can be ended without anyone losing work. */
  get isIdle(): boolean {
    return !this.#isInFlight && !this.#isPumping && this.state.transaction === "none";
  }

  get isBetweenTransactions(): boolean {
    return this.state.transaction === "none";
  }

  async #abandon(): Promise<void> {
    await this.#executors.current.abandon(goneError());
    forgetStatements(this.state);
    this.#isAbandoned = true;
    // A pump that still runs finishes by itself: its servers are gone.
    if (!this.#isPumping) this.#finish();
  }

  #take(framer: Framer): void {
    const { type } = framer;
    const { current } = this.#executors;
    if (current.isCopyIn && this.#queue.isEmpty && type !== FRONTEND.terminate) {
      this.#takeInCopy(type, framer.buffer.subarray(framer.start, framer.end));
      return;
    }
    for (const request of this.#collector.add(framer)) this.#queue.add(request);
  }

  #takeInCopy(type: number, frame: Buffer): void {
    // PostgreSQL ignores these two while it waits for CopyData.
    if (type === FRONTEND.sync || type === FRONTEND.flush) return;
    if (isOfCopy(type)) this.#executors.current.copy(type, frame);
    else this.#loseSynchronization(type);
  }

  /** The servers ask for CopyData, some of which may have come already. */
  #feedCopy(): void {
    while (this.#executors.current.isCopyIn && !this.#isClosed) {
      const next = this.#queue.take();
      if (!next) return;
      for (const { type, frame } of messagesOf(next)) this.#takeInCopy(type, frame);
    }
  }

  /** As PostgreSQL: what a COPY does not expect ends the session. */
  #loseSynchronization(type: number): void {
    if (this.#isClosed) return;
    const shown = type.toString(16).toUpperCase().padStart(2, "0");
    const message = `unexpected message type 0x${shown} during COPY from stdin`;
    this.client.write(encodeError({ sqlState: SQLSTATE.protocolViolation, message }));
    this.end(
      new SessionEnded(
        SQLSTATE.protocolViolation,
        "terminating connection because protocol synchronization was lost",
      ),
    );
  }

  async #pump(): Promise<void> {
    this.#isPumping = true;
    try {
      for (
        let request = this.#queue.take();
        request && !this.#isClosed;
        request = this.#queue.take()
      )
        await this.#request(request);
    } catch (error) {
      this.#log.error("session ended by an unexpected error", { error: tell(error) });
      this.end(error);
    } finally {
      this.#isPumping = false;
    }
    if (this.#isAbandoned) this.#finish();
  }

  async #request(request: ClientRequest): Promise<void> {
    switch (request.kind) {
      case "terminate":
        this.client.end();
        this.closed();
        return;
      case "unknown":
        this.end(new ProtocolViolation(`unknown message type ${request.type}`));
        return;
      case "copy":
        // Left over from a COPY that failed.
        return;
      default:
        try {
          await this.#serve(request);
        } catch (error) {
          this.#refuse(request, error);
        }
    }
  }

  async #serve(request: ServerRequest): Promise<void> {
    const { counters } = this.state;
    counters.lastRequestAtMs = Date.now();
    if (this.#isSkipping) {
      this.#skip(request);
      return;
    }
    const decoded = decodeRequest(request, this.state);
    if (!this.#executors.current.isOpen || isRefusedAsFailed(decoded, this.state)) {
      const answer = answerLocally(decoded, this.state);
      this.#isSkipping = answer === "failed";
      if (answer !== "none") return;
    }
    counters.queries += Math.max(1, decoded.effects.length);
    await this.#execute(decoded);
  }

  /** Again as long as the gate refuses or the topology moves before anything of the transaction has run. */
  async #execute(request: DecodedRequest): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      const context = await this.#start(request.bytes);
      for (const each of request.effects) this.#check(each, context.user);
      const handled = await this.#handle(request, context);
      if (handled === "moved") continue;
      if (handled !== "refusedByGate") {
        if (handled === "idle") this.state.counters.transactions++;
        if (handled === "idle") this.#finish();
        return;
      }
      this.#finish();
      if (attempt >= MOST_GATE_RETRIES)
        throw new HoldGivenUp(this.database, "its tables are closed and no switch was heard of");
      await this.#host.refresh(context.served);
    }
  }

  /** @returns "moved" when topology or tables are others than it was routed by: nothing was done */
  async #handle(request: DecodedRequest, context: ExecutionContext): Promise<Handled | "moved"> {
    const executor: Executor = await this.#executors.next(context);
    const { transaction, counters } = this.state;
    const canRepeat = !executor.isOpen;
    const sinceMs = performance.now();
    try {
      return await executor.handle(request, context);
    } catch (error) {
      const isMoved = error instanceof PoolRetired || error instanceof TablesChanged;
      if (!canRepeat || !isMoved) throw error;
      executor.fail();
      this.state.transaction = transaction;
      return "moved";
    } finally {
      counters.queryMs += performance.now() - sinceMs;
    }
  }

  /** The way through the hold, at the start of a transaction only. */
  async #start(bytes: number): Promise<ExecutionContext> {
    if (!this.#isInFlight) {
      const wait = this.#host.begin(this, bytes);
      if (wait) await this.#held(wait);
      this.#isInFlight = true;
      this.#inFlightSinceMs = performance.now();
    }
    if (this.#isClosed) throw goneError();
    const served = this.#host.served(this.database);
    const user = served?.database.users.get(this.state.userName);
    if (!served || !user)
      throw new SessionEnded(
        SQLSTATE.invalidCatalogName,
        `database "${this.database}" or user "${this.state.userName}" is no longer configured`,
      );
    if (this.state.transaction !== "open") this.state.mode = user.poolerMode;
    return { served, user };
  }

  async #held(wait: Promise<void>): Promise<void> {
    const sinceMs = Date.now();
    this.#isWaiting = true;
    try {
      await wait;
    } finally {
      this.#isWaiting = false;
      this.state.counters.waitMs += Date.now() - sinceMs;
    }
  }

  #finish(): void {
    if (!this.#isInFlight) return;
    // Of a client that is gone something may run still, and a hold must not take that for nothing.
    if (this.#isClosed && !this.#isAbandoned) return;
    this.#isInFlight = false;
    this.state.counters.transactionMs += performance.now() - this.#inFlightSinceMs;
    this.#host.finish(this);
  }

  #check(effects: StatementEffects, user: DatabaseUser): void {
    const refusal = user.poolerMode === "session" ? null : refusalOf(effects);
    if (refusal)
      throw new StatementRefused(refusal.sqlState, refusal.message, { hint: refusal.hint });
    if (user.poolerMode === "statement" && effects.begins)
      throw new StatementRefused(
        SQLSTATE.featureNotSupported,
        "no transactions in statement mode",
        {
          hint: 'Set pooler_mode = "transaction" for this user or database.',
        },
      );
  }

  /** Answers a request of which nothing came, and leaves the session as the client then believes it. */
  #refuse(request: ServerRequest, error: unknown): void {
    this.state.counters.errors++;
    if (error instanceof SessionEnded) {
      this.end(error);
      this.#finish();
      return;
    }
    if (this.state.transaction !== "none") this.state.transaction = "failed";
    const { current } = this.#executors;
    current.fail();
    if (!current.isOpen) this.#finish();
    const isInCopy = error instanceof FailedInCopy;
    const frame = errorFrameOf(isInCopy ? error.failure : error);
    const hasEnd = request.kind !== "extended" || (request.end === "sync" && !isInCopy);
    this.#isSkipping = !hasEnd;
    this.client.write(hasEnd ? Buffer.concat([frame, this.#ready()]) : frame);
  }

  #skip(request: ServerRequest): void {
    if (request.kind !== "extended" || request.end !== "sync") return;
    this.#isSkipping = false;
    this.client.write(this.#ready());
  }

  #ready(): Buffer {
    return this.state.transaction === "failed" ? READY.E : READY.I;
  }
}

function goneError(): SessionEnded {
  return new SessionEnded(SQLSTATE.adminShutdown, "the client is gone");
}

/** PostgreSQL's own rule: printable ASCII, at most 63 bytes. */
function shownApplication(name: string): string {
  return name.replaceAll(/[^\x20-\x7e]/g, "?").slice(0, 63);
}

/** Of a request that came before the COPY did ask for data; none for the end of the connection. */
function messagesOf(request: ClientRequest): readonly Message[] {
  switch (request.kind) {
    case "query":
      return [{ type: FRONTEND.query, frame: request.frame }];
    case "function":
      return [{ type: FRONTEND.functionCall, frame: request.frame }];
    case "extended":
      return request.messages;
    case "copy":
      return [request];
    case "terminate":
      return [];
    case "unknown":
      return [{ type: request.type, frame: Buffer.alloc(0) }];
  }
}

function isOfCopy(type: number): boolean {
  return type === FRONTEND.copyData || type === FRONTEND.copyDone || type === FRONTEND.copyFail;
}

function errorFrameOf(error: unknown): Buffer {
  if (error instanceof AlreadyTold) return Buffer.alloc(0);
  return error instanceof StatementFailed ? error.frame : encodeThrown(error);
}
