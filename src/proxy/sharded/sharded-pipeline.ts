import { PoolRetired } from "../../backend/errors.js";
import type { ServerConnection } from "../../backend/server-connection.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { ParameterValues } from "../../router/key-value.js";
import type { Route } from "../../router/route.js";
import type { Router } from "../../router/router.js";
import type { ShardId } from "../../topology/topology.js";
import {
  BIND_COMPLETE,
  CLOSE_COMPLETE,
  encodeCommandComplete,
  NO_DATA,
  PARSE_COMPLETE,
  READY,
} from "../../wire/backend.js";
import {
  type BindMessage,
  decodeBind,
  decodeExecute,
  decodeParse,
  decodeTarget,
  encodeDescribe,
  FRONTEND,
} from "../../wire/frontend.js";
import type { Message } from "../client/client-request.js";
import { AlreadyTold, SessionRefused } from "../errors.js";
import { ExtendedTranslation, forgetStatement } from "../session/extended-translation.js";
import { type PreparedStatement, unnamedStatement } from "../session/prepared-statements.js";
import type { Handled } from "../session/session-state.js";
import { isOfSession } from "../session/statement-effects.js";
import type { SendRequest } from "../single/single-executor.js";
import type { ShardedContext, ShardedExecutor } from "./sharded-executor.js";

type Pipeline = Extract<SendRequest, { kind: "extended" }>;

interface Portal {
  readonly statement: PreparedStatement;
  readonly bind: BindMessage;
  readonly frame: Buffer;
  wantsDescription: boolean;
  /** Suspended there, with rows left. */
  openOn: ServerConnection | null;
}

/**
 * The extended protocol over several shards. A pipeline for one shard passes through as it is. Any other is
 * taken apart: each Execute goes its own way, and what a client sees of Parse and Bind is answered here. The
 * Executes of one pipeline are one transaction, as in PostgreSQL.
 */
export class ShardedPipeline {
  readonly #executor: ShardedExecutor;
  readonly #portals = new Map<string, Portal>();
  /** The last command tag, kept until the commit that makes it true. */
  #lastTag: Buffer | null = null;
  /** Messages were executed and no Sync has come yet. */
  isUnsynced = false;
  #hasExecuted = false;
  #made: string[] = [];

  constructor(executor: ShardedExecutor) {
    this.#executor = executor;
  }

  reset(): void {
    this.#portals.clear();
    this.#lastTag = null;
    this.isUnsynced = false;
    this.#hasExecuted = false;
    this.#executor.sink.flush();
  }

  async handle(request: Pipeline, context: ShardedContext): Promise<Handled> {
    const router = await context.cluster.router();
    const { state, transaction } = this.#executor;
    const isFresh = transaction.used.length === 0 && !this.isUnsynced;
    const wasBegun = state.transaction !== "none";
    const shard =
      request.end === "sync" && !this.isUnsynced ? this.#onlyShard(request, router) : null;
    if (shard !== null) return await this.#passThrough(request, { context, shard, isFresh });
    this.#made = [];
    const executes = request.messages.filter(({ type }) => type === FRONTEND.execute).length;
    const isOneTransaction = executes > 1 || request.end !== "sync" || this.isUnsynced;
    this.isUnsynced = true;
    for (const message of request.messages) {
      const step = { context, router, isOneTransaction, isFresh: isFresh && !this.#hasExecuted };
      try {
        if ((await this.#message(message, step)) === "done") continue;
      } catch (error) {
        if (error instanceof PoolRetired && step.isFresh) this.#rewind();
        throw error;
      }
      this.#rewind();
      state.transaction = wasBegun ? "begun" : "none";
      return "refusedByGate";
    }
    this.#sendTag();
    this.#executor.sink.flush();
    return this.#handled();
  }

  /** Nothing was shown to the client: all of it will be done again. */
  #rewind(): void {
    this.#executor.sink.dropHeldBack();
    for (const name of this.#made) forgetStatement(this.#executor.state, name);
    this.#clear();
  }

  #handled(): Handled {
    return this.isUnsynced || this.#executor.state.transaction !== "none" ? "open" : "idle";
  }

  /** The shard that all of a pipeline goes to; null: there is none, it is to be taken apart. */
  #onlyShard(request: Pipeline, router: Router): ShardId | null {
    const { state, transaction } = this.#executor;
    const made = new Map<string, PreparedStatement>();
    let route: Extract<Route, { kind: "one" | "any" }> | null = null;
    for (const { type, frame } of request.messages) {
      if (type === FRONTEND.parse) {
        const message = decodeParse(frame);
        made.set(message.name, unnamedStatement(message));
      } else if (type === FRONTEND.execute) {
        // A portal of an earlier pipeline is known to the other way only.
        if (!route || decodeExecute(frame).maxRows > 0) return null;
      } else if (type === FRONTEND.bind) {
        const bind = decodeBind(frame);
        const statement = made.get(bind.statement) ?? state.statements.get(bind.statement);
        if (!statement || isOfSession(statement.effects)) return null;
        const next = router.route(statement.sql, valuesOf(statement, bind));
        if (next.kind !== "one" && next.kind !== "any") return null;
        if (route?.kind === "one" && next.kind === "one" && route.shard !== next.shard) return null;
        if (route?.kind !== "one") route = next;
      }
    }
    if (route) return this.#executor.shardOf(route);
    const isOnlyOurs = request.messages.every(({ type }) => type === FRONTEND.sync);
    if (isOnlyOurs && transaction.used.length > 0) return null;
    const hasServerWork = request.messages.some(
      ({ type }) => type === FRONTEND.parse || type === FRONTEND.describe,
    );
    return hasServerWork ? this.#executor.shardOf({ kind: "any" }) : null;
  }

  async #passThrough(
    request: Pipeline,
    to: { readonly context: ShardedContext; readonly shard: ShardId; readonly isFresh: boolean },
  ): Promise<Handled> {
    const { state, transaction, relay } = this.#executor;
    const wasBegun = state.transaction !== "none";
    this.#executor.begin(to.context, null);
    const server = await transaction.acquire(to.shard);
    for (const each of to.context.effects) state.settings.note(each);
    relay.attach(server);
    relay.begin("extended", to.isFresh);
    const translation = new ExtendedTranslation(state, relay, server);
    server.send(translation.translate(request.messages));
    const outcome = await relay.outcome();
    if (outcome.kind === "refusedByGate") translation.rewind();
    return await this.#executor.settle(outcome, wasBegun);
  }

  async #message({ type, frame }: Message, step: Step): Promise<"done" | "refusedByGate"> {
    const { sink } = this.#executor;
    switch (type) {
      case FRONTEND.parse:
        this.#parse(frame);
        return "done";
      case FRONTEND.bind:
        this.#bind(frame);
        return "done";
      case FRONTEND.describe:
        await this.#describe(frame, step);
        return "done";
      case FRONTEND.close:
        this.#close(frame);
        return "done";
      case FRONTEND.execute:
        return await this.#execute(frame, step);
      case FRONTEND.sync:
        await this.#sync(step);
        return "done";
      default:
        this.#sendTag();
        sink.flush();
        return "done";
    }
  }

  #parse(frame: Buffer): void {
    const { state } = this.#executor;
    const message = decodeParse(frame);
    if (message.name === "") state.statements.set("", unnamedStatement(message));
    else if (state.statements.has(message.name))
      throw new SessionRefused(
        SQLSTATE.duplicatePreparedStatement,
        `prepared statement "${message.name}" already exists`,
      );
    else state.statements.set(message.name, state.registry.take(message));
    this.#made.push(message.name);
    this.#answer(PARSE_COMPLETE);
  }

  #bind(frame: Buffer): void {
    const bind = decodeBind(frame);
    const statement = this.#statement(bind.statement);
    this.#portals.set(bind.portal, {
      statement,
      bind,
      frame,
      wantsDescription: false,
      openOn: null,
    });
    this.#answer(BIND_COMPLETE);
  }

  async #describe(frame: Buffer, step: Step): Promise<void> {
    const { target, name } = decodeTarget(frame);
    if (target === "portal") {
      const portal = this.#portal(name);
      if (isOfSession(portal.statement.effects)) this.#answer(NO_DATA);
      // Told with the rows: which columns there are may depend on the shards' answers being merged.
      else portal.wantsDescription = true;
      return;
    }
    this.#statement(name);
    this.#executor.begin(step.context, step.isOneTransaction ? "BEGIN" : null);
    const shard = this.#executor.shardOf({ kind: "any" });
    const server = await this.#executor.transaction.acquire(shard);
    await this.#relay(server, (translation) => translation.description(frame));
  }

  #close(frame: Buffer): void {
    const { target, name } = decodeTarget(frame);
    if (target === "statement") forgetStatement(this.#executor.state, name);
    else this.#portals.delete(name);
    this.#answer(CLOSE_COMPLETE);
  }

  async #execute(frame: Buffer, step: Step): Promise<"done" | "refusedByGate"> {
    const { portal: name, maxRows } = decodeExecute(frame);
    const portal = this.#portal(name);
    const { statement, bind } = portal;
    const { context, router } = step;
    const { isFresh } = step;
    this.#hasExecuted = true;
    if (isOfSession(statement.effects)) {
      this.#tag(await this.#executor.ofSession(statement.sql, statement.effects, context));
      return "done";
    }
    this.#sendTag();
    const route = router.route(statement.sql, valuesOf(statement, bind));
    const needsTransaction = step.isOneTransaction || maxRows > 0;
    this.#executor.begin(context, needsTransaction ? "BEGIN" : null);
    if (maxRows > 0) {
      await this.#executeSome(portal, frame, route);
      return "done";
    }
    this.#executor.state.settings.note(statement.effects);
    const outcome = await this.#executor.statement(
      {
        protocol: "extended",
        sql: statement.sql,
        parameterTypes: statement.parameterTypes,
        parameterFormats: bind.parameterFormats,
        parameters: bind.parameters,
        resultFormats: bind.resultFormats,
        wantsDescription: portal.wantsDescription,
      },
      { context, router, isFresh },
    );
    if (outcome.kind === "refusedByGate") return "refusedByGate";
    portal.wantsDescription = false;
    this.#tag(outcome.tag);
    return "done";
  }

  /** A cursor of the protocol: rows of one shard's portal, some at a time. */
  async #executeSome(portal: Portal, execute: Buffer, route: Route): Promise<void> {
    if (route.kind !== "one" && route.kind !== "any")
      throw new SessionRefused(
        SQLSTATE.featureNotSupported,
        "a limited number of rows from several shards",
        { hint: "Fetch all rows at once (fetch size 0), or name the sharding key." },
      );
    const server =
      portal.openOn ?? (await this.#executor.transaction.acquire(this.#executor.shardOf(route)));
    const isBound = portal.openOn !== null;
    portal.openOn = server;
    const { wantsDescription, frame, bind } = portal;
    portal.wantsDescription = false;
    await this.#relay(server, (translation) =>
      translation.portal({
        bind: isBound ? null : frame,
        describe: wantsDescription ? encodeDescribe({ target: "portal", name: bind.portal }) : null,
        execute,
      }),
    );
  }

  /** Our own request to one server, whose answer goes to the client. */
  async #relay(
    server: ServerConnection,
    encode: (translation: ExtendedTranslation) => Buffer,
  ): Promise<void> {
    const { relay, sink, state } = this.#executor;
    sink.flush();
    relay.attach(server);
    relay.begin("extended", false);
    server.send(encode(new ExtendedTranslation(state, relay, server)));
    const outcome = await relay.outcome();
    relay.detach();
    if (outcome.kind === "lost") throw outcome.error;
    server.use(null);
    if (relay.hasSeenError) throw new AlreadyTold();
  }

  async #sync({ context }: Step): Promise<void> {
    const { state, sink } = this.#executor;
    await this.#executor.commitImplicit(context);
    this.#sendTag();
    sink.holdBack(READY[this.#executor.status()]);
    sink.flush();
    if (state.transaction === "none") this.#portals.clear();
    this.#clear();
  }

  #clear(): void {
    this.isUnsynced = false;
    this.#hasExecuted = false;
    this.#lastTag = null;
  }

  #answer(bytes: Buffer): void {
    this.#sendTag();
    this.#executor.sink.holdBack(bytes);
  }

  #tag(tag: string): void {
    this.#sendTag();
    this.#lastTag = encodeCommandComplete(tag);
  }

  #sendTag(): void {
    if (this.#lastTag) this.#executor.sink.holdBack(this.#lastTag);
    this.#lastTag = null;
  }

  #statement(name: string): PreparedStatement {
    const statement = this.#executor.state.statements.get(name);
    if (statement) return statement;
    const shown = name === "" ? "unnamed prepared statement" : `prepared statement "${name}"`;
    throw new SessionRefused(SQLSTATE.invalidSqlStatementName, `${shown} does not exist`);
  }

  #portal(name: string): Portal {
    const portal = this.#portals.get(name);
    if (portal) return portal;
    throw new SessionRefused(SQLSTATE.invalidCursorName, `portal "${name}" does not exist`);
  }
}

interface Step {
  readonly context: ShardedContext;
  readonly router: Router;
  /** Its Executes commit together. */
  readonly isOneTransaction: boolean;
  /** Nothing has run before it in its transaction. */
  readonly isFresh: boolean;
}

function valuesOf(statement: PreparedStatement, bind: BindMessage): ParameterValues {
  return {
    values: bind.parameters,
    formats: bind.parameterFormats,
    typeOids: statement.parameterTypes,
  };
}
