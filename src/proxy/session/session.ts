import { PoolRetired } from "../../backend/errors.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { Log } from "../../observe/log.js";
import type { DatabaseUser } from "../../topology/topology.js";
import { encodeCommandComplete, READY } from "../../wire/backend.js";
import { encodeNotice, encodeThrown } from "../../wire/error-fields.js";
import { ProtocolViolation } from "../../wire/errors.js";
import type { Framer } from "../../wire/framer.js";
import { decodeBindNames, decodeParse, decodeQuery, FRONTEND } from "../../wire/frontend.js";
import type { ClientConnection, ClientReceiver } from "../client/client-connection.js";
import { type ClientRequest, RequestCollector } from "../client/client-request.js";
import type { Cluster } from "../clusters/cluster.js";
import {
  AlreadyTold,
  HoldGivenUp,
  SessionEnded,
  SessionRefused,
  StatementFailed,
} from "../errors.js";
import { CopyInput } from "../sharded/copy-input.js";
import { type ShardedContext, ShardedExecutor } from "../sharded/sharded-executor.js";
import { type SendRequest, SingleExecutor } from "../single/single-executor.js";
import { forgetStatements } from "./extended-translation.js";
import { answerFailed, closesOnly } from "./local-answers.js";
import type { Handled, SessionState } from "./session-state.js";
import { effectsOf, refusalOf, type StatementEffects } from "./statement-effects.js";

/** What a session needs of its data plane. */
export interface SessionHost {
  cluster(database: string): Cluster | null;
  /** Resolves when a transaction may start. @throws HoldGivenUp */
  begin(session: Session, bytes: number): Promise<void> | null;
  finish(session: Session): void;
  /** The gate refused: resolves when decisions were read again. @throws HoldGivenUp */
  refresh(cluster: Cluster): Promise<void>;
  closed(session: Session): void;
}

export type SessionStateName =
  | "idle"
  | "active"
  | "idle in transaction"
  | "transaction error"
  | "waiting";

/** Requests of one client that are read ahead; beyond it the socket is not read. */
const READ_AHEAD_BYTES = 64 * 1024;
const MOST_GATE_RETRIES = 20;

/** One client after login: takes its requests one after the other, through the hold, to an executor. */
export class Session implements ClientReceiver {
  readonly id: number;
  readonly database: string;
  readonly state: SessionState;
  readonly counters = {
    queries: 0,
    transactions: 0,
    twoPhaseTransactions: 0,
    errors: 0,
    waitMs: 0,
    queryMs: 0,
    lastRequestAtMs: 0,
  };
  readonly #host: SessionHost;
  readonly #log: Log;
  readonly #single: SingleExecutor;
  readonly #sharded: ShardedExecutor;
  readonly #copyInput: CopyInput;
  readonly #collector = new RequestCollector();
  #queue: ClientRequest[] = [];
  #queuedBytes = 0;
  #isPumping = false;
  #isInFlight = false;
  #isWaiting = false;
  #isClosed = false;
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
    this.#copyInput = new CopyInput();
    this.#single = new SingleExecutor(this.state, () => this.#feedCopy());
    this.#sharded = new ShardedExecutor(this.state, this.#copyInput, () => this.#feedCopyInput());
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
    if (this.#queuedBytes > READ_AHEAD_BYTES) this.client.socket.pause();
    if (!this.#isPumping) void this.#pump();
  }

  drained(): void {
    this.#single.server?.resume();
    this.#sharded.clientDrained();
  }

  closed(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#queue = [];
    this.#copyInput.close();
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
    await Promise.all([this.#single.cancel(), this.#sharded.cancel()]);
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
    await Promise.all([this.#single.abandon(), this.#sharded.abandon()]);
    forgetStatements(this.state);
    // A pump that still runs finishes by itself when its server is gone.
    if (!this.#isPumping) this.#finish();
  }

  #take(framer: Framer): void {
    const { type } = framer;
    const isCopy =
      type === FRONTEND.copyData || type === FRONTEND.copyDone || type === FRONTEND.copyFail;
    if (this.#single.relay.isCopyIn && this.#queue.length === 0) {
      if (this.#copyThrough(framer, isCopy)) return;
    } else if (isCopy && this.#copyInput.isOpen && this.#queue.length === 0) {
      this.#copyInput.add(type, framer.buffer.subarray(framer.start, framer.end));
      if (this.#copyInput.isFull) this.client.socket.pause();
      return;
    }
    const request = this.#collector.add(framer);
    if (!request) return;
    this.#queue.push(request);
    this.#queuedBytes += request.bytes;
  }

  /** @returns whether the message was dealt with */
  #copyThrough(framer: Framer, isCopy: boolean): boolean {
    const { type, buffer, start, end } = framer;
    // PostgreSQL ignores these two while it waits for CopyData.
    if (type === FRONTEND.sync || type === FRONTEND.flush) return true;
    if (!isCopy) return false;
    this.#sendCopy(type, buffer.subarray(start, end));
    return true;
  }

  #sendCopy(type: number, frame: Buffer): void {
    const isWritable = this.#single.server?.send(frame) ?? true;
    if (!isWritable) this.client.socket.pause();
    if (type !== FRONTEND.copyData) this.#single.relay.isCopyIn = false;
  }

  /** The server asks for CopyData, some of which may have come already. */
  #feedCopy(): void {
    while (this.#single.relay.isCopyIn) {
      const [next] = this.#queue;
      if (next?.kind !== "copy") return;
      this.#shift();
      this.#sendCopy(next.type, next.frame);
    }
  }

  /** The same for a COPY over several shards. */
  #feedCopyInput(): void {
    while (this.#copyInput.isOpen) {
      const [next] = this.#queue;
      if (next?.kind !== "copy") return;
      this.#shift();
      this.#copyInput.add(next.type, next.frame);
    }
  }

  #shift(): ClientRequest | undefined {
    const request = this.#queue.shift();
    if (!request) return undefined;
    this.#queuedBytes -= request.bytes;
    if (this.#queuedBytes <= READ_AHEAD_BYTES) this.client.socket.resume();
    return request;
  }

  async #pump(): Promise<void> {
    this.#isPumping = true;
    try {
      for (let request = this.#shift(); request && !this.#isClosed; request = this.#shift())
        await this.#request(request);
    } catch (error) {
      this.#log.error("session ended by an unexpected error", { error: String(error) });
      this.end(error);
    } finally {
      this.#isPumping = false;
    }
    if (this.#isClosed) this.#finish();
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
          await this.#statement(request);
        } catch (error) {
          this.#refuse(request, error);
        }
    }
  }

  async #statement(request: SendRequest): Promise<void> {
    this.counters.lastRequestAtMs = Date.now();
    if (this.#isSkipping) {
      this.#skip(request);
      return;
    }
    const effects = this.#effectsOf(request);
    if (this.#answerLocally(request, effects)) return;
    this.counters.queries += Math.max(1, effects.length);
    for (let attempt = 0; ; attempt++) {
      const { cluster, user } = await this.#start(request.bytes);
      for (const each of effects) this.#check(each, user);
      const executor = await this.#executorFor(cluster);
      const handled = await this.#handle(executor, request, { cluster, user, effects });
      if (handled === "moved") continue;
      if (handled !== "refusedByGate") {
        if (handled === "idle") this.counters.transactions++;
        if (handled === "idle") this.#finish();
        return;
      }
      this.#finish();
      if (attempt >= MOST_GATE_RETRIES)
        throw new HoldGivenUp(this.database, "its tables are closed and no switch was heard of");
      await this.#host.refresh(cluster);
    }
  }

  /** @returns "moved" when the topology changed while a server was waited for: nothing was sent */
  async #handle(
    executor: SingleExecutor | ShardedExecutor,
    request: SendRequest,
    context: ShardedContext,
  ): Promise<Handled | "moved"> {
    const { transaction } = this.state;
    const canRepeat = !executor.isOpen;
    try {
      return await executor.handle(request, context);
    } catch (error) {
      if (!canRepeat || !(error instanceof PoolRetired)) throw error;
      executor.fail();
      this.state.transaction = transaction;
      return "moved";
    }
  }

  /** The way through the hold, at the start of a transaction only. */
  async #start(bytes: number): Promise<{ readonly cluster: Cluster; readonly user: DatabaseUser }> {
    if (!this.#isInFlight) {
      const wait = this.#host.begin(this, bytes);
      if (wait) {
        const sinceMs = Date.now();
        this.#isWaiting = true;
        try {
          await wait;
        } finally {
          this.#isWaiting = false;
          this.counters.waitMs += Date.now() - sinceMs;
        }
      }
      this.#isInFlight = true;
    }
    if (this.#isClosed) throw new SessionEnded(SQLSTATE.adminShutdown, "the client is gone");
    const cluster = this.#host.cluster(this.database);
    const user = cluster?.database.users.get(this.state.userName);
    if (!cluster || !user)
      throw new SessionEnded(
        SQLSTATE.invalidCatalogName,
        `database "${this.database}" or user "${this.state.userName}" is no longer configured`,
      );
    if (this.state.transaction !== "open") this.state.mode = user.poolerMode;
    return { cluster, user };
  }

  async #executorFor(cluster: Cluster): Promise<SingleExecutor | ShardedExecutor> {
    if (this.#single.isOpen) return this.#single;
    if (this.#sharded.isOpen) return this.#sharded;
    if (cluster.database.shardCount === 1) return this.#single;
    // A kept connection to the one server from before: rebuilt, or the session ends.
    await this.#single.leaveForShards(cluster);
    return this.#sharded;
  }

  #finish(): void {
    if (!this.#isInFlight) return;
    this.#isInFlight = false;
    this.#host.finish(this);
  }

  #check(effects: StatementEffects, user: DatabaseUser): void {
    const refusal = user.poolerMode === "session" ? null : refusalOf(effects);
    if (refusal)
      throw new SessionRefused(refusal.sqlState, refusal.message, { hint: refusal.hint });
    if (user.poolerMode === "statement" && effects.kind === "begin")
      throw new SessionRefused(SQLSTATE.featureNotSupported, "no transactions in statement mode", {
        hint: 'Set pooler_mode = "transaction" for this user or database.',
      });
  }

  #effectsOf(request: SendRequest): readonly StatementEffects[] {
    if (request.kind === "query") return [effectsOf(decodeQuery(request.frame))];
    if (request.kind === "function") return [];
    const effects: StatementEffects[] = [];
    let made: Map<string, StatementEffects> | null = null;
    for (const { type, frame } of request.messages) {
      if (type === FRONTEND.parse) {
        const { name, sqlBytes } = decodeParse(frame);
        made ??= new Map();
        made.set(name, effectsOf(sqlBytes.toString("utf8")));
      } else if (type === FRONTEND.bind) {
        const { statement } = decodeBindNames(frame);
        const known = made?.get(statement) ?? this.state.statements.get(statement)?.effects;
        if (known) effects.push(known);
      }
    }
    return effects;
  }

  /** BEGIN is put off until a server is needed; what ends a transaction that never began needs none. */
  #answerLocally(request: SendRequest, effects: readonly StatementEffects[]): boolean {
    const { state } = this;
    if (this.#single.isOpen || this.#sharded.isOpen) return false;
    if (state.transaction === "failed") {
      this.#isSkipping = answerFailed(request, effects, state);
      return true;
    }
    if (request.kind === "extended") return closesOnly(request, state);
    const [only] = effects;
    if (request.kind !== "query" || !only?.isPlainControl) return false;
    if (only.kind === "begin") {
      if (state.transaction === "begun" || state.mode === "statement") return false;
      state.transaction = "begun";
      state.beginSql = decodeQuery(request.frame);
      const tag = /^\s*start/i.test(state.beginSql) ? "START TRANSACTION" : "BEGIN";
      this.client.write(Buffer.concat([encodeCommandComplete(tag), READY.T]));
      return true;
    }
    const tag = encodeCommandComplete(only.kind === "commit" ? "COMMIT" : "ROLLBACK");
    if (state.transaction === "begun") this.client.write(Buffer.concat([tag, READY.I]));
    else this.client.write(Buffer.concat([NO_TRANSACTION, tag, READY.I]));
    state.transaction = "none";
    return true;
  }

  /** Answers a request of which nothing came, and leaves the session as the client then believes it. */
  #refuse(request: SendRequest, error: unknown): void {
    this.counters.errors++;
    if (error instanceof SessionEnded) {
      this.end(error);
      this.#finish();
      return;
    }
    if (this.state.transaction !== "none") this.state.transaction = "failed";
    this.#single.fail();
    this.#sharded.fail();
    this.#finish();
    this.#copyInput.close();
    const frame = errorFrameOf(error);
    const hasEnd = request.kind !== "extended" || request.end === "sync";
    this.#isSkipping = !hasEnd;
    this.client.write(hasEnd ? Buffer.concat([frame, this.#ready()]) : frame);
  }

  #skip(request: SendRequest): void {
    if (request.kind === "extended" && request.end !== "sync") return;
    this.#isSkipping = false;
    this.client.write(this.#ready());
  }

  #ready(): Buffer {
    return this.state.transaction === "failed" ? READY.E : READY.I;
  }
}

const NO_TRANSACTION = encodeNotice({
  severity: "WARNING",
  sqlState: SQLSTATE.noActiveSqlTransaction,
  message: "there is no transaction in progress",
});

function errorFrameOf(error: unknown): Buffer {
  if (error instanceof AlreadyTold) return Buffer.alloc(0);
  return error instanceof StatementFailed ? error.frame : encodeThrown(error);
}
