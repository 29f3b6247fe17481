import { randomInt } from "node:crypto";
import { assertNever } from "../../core/assert.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { ParameterValues } from "../../router/key-value.js";
import type { Route } from "../../router/route.js";
import type { Router } from "../../router/router.js";
import { classify } from "../../sql/classify.js";
import type { DatabaseUser, ShardId } from "../../topology/topology.js";
import { encodeCommandComplete, READY, type TransactionStatus } from "../../wire/backend.js";
import { decodeErrorFields } from "../../wire/error-fields.js";
import { decodeQuery } from "../../wire/frontend.js";
import type { Cluster } from "../clusters/cluster.js";
import { SessionRefused, StatementFailed } from "../errors.js";
import { forgetStatements } from "../session/extended-translation.js";
import type { Handled, SessionState } from "../session/session-state.js";
import { effectsOf, isOfSession, type StatementEffects } from "../session/statement-effects.js";
import { movedError, Relay, type RelayOutcome } from "../single/relay.js";
import type { SendRequest } from "../single/single-executor.js";
import type { CopyInput } from "./copy-input.js";
import type { ScatterRoute, StatementRequest } from "./execution.js";
import { executeScatter } from "./scatter/execute.js";
import { ShardTransaction } from "./shard-transaction.js";
import { ShardedPipeline } from "./sharded-pipeline.js";
import { ShardedSink } from "./sharded-sink.js";

export interface ShardedContext {
  readonly cluster: Cluster;
  readonly user: DatabaseUser;
  readonly effects: readonly StatementEffects[];
}

export const NO_PARAMETERS: ParameterValues = { values: [], formats: [], typeOids: [] };

/** What came of one statement; nothing of its end has been written yet. */
export type StatementOutcome =
  | { readonly kind: "complete"; readonly tag: string }
  | { readonly kind: "refusedByGate" };

/**
 * Executes a session's requests over the shards of its database. A statement for one shard passes through
 * as it is; one for several goes to the scatter; what belongs to the session (BEGIN, SET, SAVEPOINT, ...)
 * is settled here.
 */
export class ShardedExecutor {
  readonly state: SessionState;
  readonly transaction: ShardTransaction;
  readonly sink: ShardedSink;
  readonly relay: Relay;
  readonly #copyInput: CopyInput;
  readonly #onCopyOpen: () => void;
  readonly #pipeline: ShardedPipeline;
  #isRunning = false;
  #cancelling: Promise<unknown> | null = null;

  constructor(state: SessionState, copyInput: CopyInput, onCopyOpen: () => void) {
    this.state = state;
    this.transaction = new ShardTransaction(state);
    this.sink = new ShardedSink(state.client);
    // A COPY FROM for one shard goes through the scatter as well, so the relay never sees one.
    this.relay = new Relay(state.client, () => {});
    this.#copyInput = copyInput;
    this.#onCopyOpen = onCopyOpen;
    this.#pipeline = new ShardedPipeline(this);
  }

  get isOpen(): boolean {
    return this.transaction.used.length > 0 || this.#pipeline.isUnsynced;
  }

  /** As SingleExecutor.handle. */
  async handle(request: SendRequest, context: ShardedContext): Promise<Handled> {
    if (request.kind === "function")
      throw new SessionRefused(SQLSTATE.featureNotSupported, "function calls name no shard", {
        hint: "Use SELECT.",
      });
    refuseEncodings(this.state);
    for (const { tie } of context.effects) if (tie !== null) throw tied(tie);
    this.#isRunning = true;
    try {
      if (request.kind === "extended") return await this.#pipeline.handle(request, context);
      this.state.statements.delete("");
      return await this.#simple(decodeQuery(request.frame), request.frame, context);
    } finally {
      this.#isRunning = false;
      if (this.#cancelling) await this.#cancelling;
    }
  }

  clientDrained(): void {
    this.sink.clientDrained();
    for (const server of this.transaction.used) server.resume();
  }

  async cancel(): Promise<void> {
    if (!this.#isRunning) return;
    this.#cancelling = Promise.all(this.transaction.used.map((server) => server.cancel()));
    await this.#cancelling;
    this.#cancelling = null;
  }

  async abandon(): Promise<void> {
    this.sink.clientDrained();
    if (!this.#isRunning) {
      this.fail();
      return;
    }
    await this.cancel();
    this.transaction.destroy();
  }

  fail(): void {
    this.transaction.release();
    this.#pipeline.reset();
    this.relay.detach();
  }

  async #simple(sql: string, frame: Buffer, context: ShardedContext): Promise<Handled> {
    const statements = classify(sql);
    if (statements.length > 1) return await this.#several(sql, context);
    const wasBegun = this.state.transaction !== "none";
    const isFresh = !this.isOpen;
    const router = await context.cluster.router();
    const route = isOfSession(context.effects[0]) ? null : router.route(sql, NO_PARAMETERS);
    if (route?.kind === "one" || route?.kind === "any") {
      this.begin(context, null);
      return await this.#passThrough(this.shardOf(route), frame, { context, isFresh });
    }
    const outcome = await this.statement(simpleRequest(sql), { context, router, isFresh });
    if (outcome.kind === "refusedByGate") return this.#backOff(wasBegun);
    return await this.#endSimple([outcome.tag], context);
  }

  /** Several statements in one text are one transaction, unless they say otherwise; that is refused. */
  async #several(sql: string, context: ShardedContext): Promise<Handled> {
    const router = await context.cluster.router();
    const tags: string[] = [];
    const statements = classify(sql).map(({ start, end }) => sql.slice(start, end));
    for (const text of statements)
      if (/^(begin|commit|rollback|twoPhase)$/.test(effectsOf(text).kind))
        throw new SessionRefused(
          SQLSTATE.featureNotSupported,
          "transaction control among other statements on a sharded database",
          { hint: "Send BEGIN, COMMIT and ROLLBACK by themselves." },
        );
    if (this.state.transaction === "none") this.begin(context, "BEGIN");
    for (const text of statements) {
      if (tags.length > 0) this.sink.write(encodeCommandComplete(tags.pop() ?? ""));
      const inner = { ...context, effects: [effectsOf(text)] };
      const outcome = await this.statement(simpleRequest(text), {
        context: inner,
        router,
        isFresh: false,
      });
      if (outcome.kind === "complete") tags.push(outcome.tag);
    }
    return await this.#endSimple(tags, context);
  }

  async #endSimple(tags: readonly string[], context: ShardedContext): Promise<Handled> {
    await this.commitImplicit(context);
    const status = this.status();
    this.sink.write(Buffer.concat([...tags.map(encodeCommandComplete), READY[status]]));
    return status === "I" ? "idle" : "open";
  }

  /** What ReadyForQuery says. */
  status(): TransactionStatus {
    return this.state.transaction === "none" ? "I" : "T";
  }

  /** @param implicitBegin where the client has not begun a transaction: what begins one; null: none */
  begin({ cluster, user }: ShardedContext, implicitBegin: string | null): void {
    if (this.state.transaction !== "begun") {
      this.transaction.use(cluster, user, this.state.transaction === "none" ? implicitBegin : null);
      return;
    }
    this.transaction.use(cluster, user, this.state.beginSql);
    this.state.transaction = "open";
  }

  /** After a statement outside of the client's transactions: commits, and gives the servers back. */
  async commitImplicit({ cluster }: ShardedContext): Promise<void> {
    if (this.state.transaction !== "none") return;
    if (this.transaction.isBegun) await this.transaction.commit(cluster.database.twoPhaseCommit);
    await this.#settleSettings();
    this.transaction.release();
  }

  /** Any shard will do: one that is in use already, else one by chance. */
  shardOf(route: Extract<Route, { kind: "one" | "any" }>): ShardId {
    if (route.kind === "one") return route.shard;
    const [used] = this.transaction.usedShards;
    return used ?? (randomInt(this.transaction.shards.length || 1) as ShardId);
  }

  /**
   * One statement, wherever it belongs; description and rows are written, its end is not.
   * @throws StatementFailed, SluiceError
   */
  async statement(
    request: StatementRequest,
    { context, router, isFresh }: { context: ShardedContext; router: Router; isFresh: boolean },
  ): Promise<StatementOutcome> {
    const effects = effectsOf(request.sql);
    if (isOfSession(effects))
      return { kind: "complete", tag: await this.ofSession(request.sql, effects, context) };
    const route = router.route(request.sql, {
      values: request.parameters,
      formats: request.parameterFormats,
      typeOids: request.parameterTypes,
    });
    if (route.kind === "refused")
      throw new SessionRefused(route.sqlState, route.reason, { hint: route.hint });
    const wasBegun = this.state.transaction !== "none";
    this.begin(context, needsTransaction(route, request.sql) ? "BEGIN" : null);
    this.sink.restart();
    const outcome = await this.#scatter(scattered(route, this), request);
    if (outcome.kind === "complete") {
      if (effects.changesSchema) context.cluster.schemaGeneration++;
      return outcome;
    }
    const { metRetired } = this.transaction;
    if (metRetired && isFresh && !this.sink.hasWritten) throw metRetired;
    const fields = decodeErrorFields(outcome.error);
    if (fields.get("C") !== SQLSTATE.gateClosed) throw new StatementFailed(outcome.error);
    if (!isFresh || this.sink.hasWritten) throw new StatementFailed(movedError(fields));
    this.#backOff(wasBegun);
    return { kind: "refusedByGate" };
  }

  async #scatter(route: ScatterRoute, request: StatementRequest) {
    if (route.kind === "copyIn") {
      this.#copyInput.open(() => this.state.client.socket.resume());
      this.#onCopyOpen();
    }
    try {
      return await executeScatter({
        route,
        request,
        servers: this.transaction,
        sink: this.sink,
        copySource: this.#copyInput,
      });
    } finally {
      this.#copyInput.close();
      for (const server of this.transaction.used) server.unnamedStatement = null;
    }
  }

  /** Statements about the session itself. @returns the command tag */
  async ofSession(
    sql: string,
    effects: StatementEffects,
    context: ShardedContext,
  ): Promise<string> {
    switch (effects.kind) {
      case "begin":
        if (this.state.transaction === "none") {
          this.state.transaction = "begun";
          this.state.beginSql = sql;
        }
        return "BEGIN";
      case "commit":
      case "rollback":
        return await this.#endTransaction(effects.kind, context);
      case "deallocate":
      case "discard":
        return this.#discard(sql, effects);
      default: {
        this.state.settings.note(effects);
        this.begin(context, null);
        const { tag } = await this.transaction.everywhere(sql);
        return tag;
      }
    }
  }

  async #endTransaction(kind: "commit" | "rollback", { cluster }: ShardedContext): Promise<string> {
    try {
      if (kind === "commit") await this.transaction.commit(cluster.database.twoPhaseCommit);
      else for (const server of this.transaction.used) await server.query("ROLLBACK");
    } catch (error) {
      // Whatever came of it, the client's transaction is over.
      this.state.transaction = "none";
      throw error;
    }
    this.state.transaction = "none";
    await this.#settleSettings();
    this.transaction.release();
    return kind === "commit" ? "COMMIT" : "ROLLBACK";
  }

  async #settleSettings(): Promise<void> {
    const [server] = this.transaction.used;
    if (!this.state.settings.hasTouched || !server) return;
    await this.state.settings.readBack(server);
    // The others have the same values, but nobody has said so: theirs are read as unknown.
    for (const other of this.transaction.used) if (other !== server) other.isSoiled = true;
  }

  #discard(sql: string, effects: StatementEffects): string {
    if (effects.discards === "none")
      throw new SessionRefused(
        SQLSTATE.featureNotSupported,
        "only DISCARD ALL and DEALLOCATE ALL are known on a sharded database",
        { hint: "Use DISCARD ALL, or DEALLOCATE ALL." },
      );
    forgetStatements(this.state);
    if (effects.discards === "all") this.state.settings.restart();
    return sql.trim().replace(/\s*;$/, "").replaceAll(/\s+/g, " ").toUpperCase();
  }

  async #passThrough(
    shard: ShardId,
    frame: Buffer,
    { context, isFresh }: { readonly context: ShardedContext; readonly isFresh: boolean },
  ): Promise<Handled> {
    const wasOpen = this.state.transaction !== "none";
    const server = await this.transaction.acquire(shard);
    for (const each of context.effects) this.state.settings.note(each);
    this.relay.attach(server);
    this.relay.begin("simple", isFresh);
    server.unnamedStatement = null;
    server.send(frame);
    return await this.settle(await this.relay.outcome(), wasOpen);
  }

  /** After a request that one server answered, ReadyForQuery included. */
  async settle(outcome: RelayOutcome, wasBegun: boolean): Promise<Handled> {
    this.relay.detach();
    if (outcome.kind === "lost") throw outcome.error;
    if (outcome.kind === "refusedByGate") return this.#backOff(wasBegun);
    for (const server of this.transaction.used) server.use(null);
    if (this.state.transaction === "none") {
      await this.#settleSettings();
      this.transaction.release();
      return "idle";
    }
    if (!this.transaction.used.some((server) => server.transactionStatus === "E")) return "open";
    // One shard has failed, so has the whole: nothing waits for the client with locks in hand.
    this.transaction.release();
    this.state.transaction = "failed";
    return "open";
  }

  /** Nothing ran: the client's BEGIN, if there was one, is sent again with the statement. */
  #backOff(wasBegun: boolean): "refusedByGate" {
    this.transaction.release();
    this.state.transaction = wasBegun ? "begun" : "none";
    return "refusedByGate";
  }
}

function scattered(
  route: Exclude<Route, { kind: "refused" }>,
  executor: ShardedExecutor,
): ScatterRoute {
  switch (route.kind) {
    case "one":
    case "any":
      return {
        kind: "many",
        shards: [executor.shardOf(route)],
        isWrite: route.kind === "one" && route.isWrite,
        merge: {
          orderBy: [],
          isBytewise: true,
          aggregates: null,
          groupColumns: 0,
          limit: null,
          offset: 0,
        },
        rows: "first",
        count: "first",
        rewrittenSql: null,
      };
    case "many":
    case "split":
    case "moveRow":
    case "copyIn":
      return route;
    default:
      return assertNever(route, "route");
  }
}

/** Writes on several shards are done on all or on none. */
function needsTransaction(route: Route, sql: string): boolean {
  if (route.kind === "split" || route.kind === "moveRow" || route.kind === "copyIn") return true;
  // CREATE INDEX CONCURRENTLY refuses to be in one.
  return route.kind === "many" && route.isWrite && !/\bconcurrently\b/i.test(sql);
}

function simpleRequest(sql: string): StatementRequest {
  return {
    protocol: "simple",
    sql,
    parameterTypes: [],
    parameterFormats: [],
    parameters: [],
    resultFormats: [],
    wantsDescription: true,
  };
}

function tied(tie: string): SessionRefused {
  return new SessionRefused(SQLSTATE.featureNotSupported, `no ${tie} on a sharded database`, {
    hint: "It would belong to one shard's server. Connect to that server directly, or do without.",
  });
}

/** Keys are read from statements as UTF-8 and with standard strings. */
function refuseEncodings({ settings }: SessionState): void {
  const encoding = settings.current.get("client_encoding");
  if (encoding !== undefined && !/^(utf-?8|unicode)$/i.test(encoding))
    throw new SessionRefused(
      SQLSTATE.featureNotSupported,
      `client_encoding ${encoding} on a sharded database`,
      { hint: "Set client_encoding to UTF8." },
    );
  if (settings.current.get("standard_conforming_strings") === "off")
    throw new SessionRefused(
      SQLSTATE.featureNotSupported,
      "standard_conforming_strings = off on a sharded database",
      { hint: "Set it to on." },
    );
}
