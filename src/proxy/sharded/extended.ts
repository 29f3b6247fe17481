import type { ServerConnection } from "../../backend/server-connection.js";
import { PoolRetired } from "../../backend/server-errors.js";
import { assertNever } from "../../core/assert.js";
import { SQLSTATE } from "../../core/sqlstate.js";
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
import { encodeDescribe } from "../../wire/frontend.js";
import type {
  BindPart,
  DecodedPipeline,
  ExecutePart,
  ParsePart,
  PipelinePart,
} from "../execution/decoded-request.js";
import type { ExecutionContext, Handled } from "../execution/executor.js";
import { ExtendedTranslation } from "../execution/extended-translation.js";
import type { PreparedStatement } from "../execution/prepared-statements.js";
import { forgetStatement } from "../execution/session-state.js";
import { isOfSession } from "../execution/statement-effects.js";
import { AlreadyTold, StatementRefused, TablesChanged } from "../session-errors.js";
import { isOfCursor, runOfCursor } from "./cursors.js";
import { withDrawnValues } from "./drawn-values.js";
import { Portal } from "./portal.js";
import type { StatementRequest } from "./scatter/contract.js";
import { runOfSession } from "./session-statements.js";
import type { ShardedStatements } from "./statements.js";

type TargetPart = Extract<PipelinePart, { kind: "describe" | "close" }>;

/**
 * The extended protocol over several shards. A pipeline for one shard passes through as it is. Any other is
 * taken apart: each Execute goes its own way, and what a client sees of Parse and Bind is answered here. The
 * Executes of one pipeline are one transaction, as in PostgreSQL.
 */
export class ExtendedProtocol {
  readonly #statements: ShardedStatements;
  readonly #portals = new Map<string, Portal>();
  /** Those of the pipeline at hand that were routed before it was taken apart. */
  readonly #routed = new Map<BindPart, Portal>();
  /** The last command tag, kept until the commit that makes it true. */
  #lastTag: Buffer | null = null;
  #isUnsynced = false;
  #hasExecuted = false;
  #made: string[] = [];

  constructor(statements: ShardedStatements) {
    this.#statements = statements;
  }

  /** Messages were executed and no Sync has come yet. */
  get isUnsynced(): boolean {
    return this.#isUnsynced;
  }

  /** Nothing of the request at hand was shown: it will be handled anew. */
  rewind(): void {
    this.#rewind();
  }

  reset(): void {
    this.#portals.clear();
    this.#clear();
    this.#statements.sink.flush();
  }

  async handle(request: DecodedPipeline, context: ExecutionContext): Promise<Handled> {
    const router = await this.#statements.router(context);
    const { state, transaction } = this.#statements;
    const isFresh = transaction.used.length === 0 && !this.#isUnsynced;
    const wasBegun = state.transaction !== "none";
    const shard =
      request.end === "sync" && !this.#isUnsynced ? this.#onlyShard(request, router) : null;
    if (shard !== null) return await this.#passThrough(request, { context, shard, isFresh });
    this.#made = [];
    const executes = request.parts.filter(({ kind }) => kind === "execute").length;
    const isOneTransaction = executes > 1 || request.end !== "sync" || this.#isUnsynced;
    this.#isUnsynced = true;
    for (const part of request.parts) {
      const step = { context, isOneTransaction, isFresh: isFresh && !this.#hasExecuted };
      try {
        if ((await this.#part(part, step)) === "done") continue;
      } catch (error) {
        if (error instanceof PoolRetired && step.isFresh) this.#rewind();
        throw error;
      }
      this.#rewind();
      state.transaction = wasBegun ? "begun" : "none";
      return "refusedByGate";
    }
    this.#sendTag();
    this.#statements.sink.flush();
    return this.#handled();
  }

  #handled(): Handled {
    return this.#isUnsynced || this.#statements.state.transaction !== "none" ? "open" : "idle";
  }

  /** Nothing was shown to the client: all of it will be done again. */
  #rewind(): void {
    this.#statements.sink.dropHeldBack();
    for (const name of this.#made) forgetStatement(this.#statements.state, name);
    this.#clear();
  }

  /** The shard that all of a pipeline goes to; null: there is none, it is to be taken apart. */
  #onlyShard({ parts }: DecodedPipeline, router: Router): ShardId | null {
    let route: Extract<Route, { kind: "one" | "any" }> | null = null;
    for (const part of parts) {
      if (part.kind === "describe" && this.#cursorOf(part)) return null;
      if (part.kind === "execute") {
        // A portal of an earlier pipeline is known to the other way only.
        if (!route || part.maxRows > 0) return null;
      } else if (part.kind === "bind") {
        const { statement } = part;
        if (!statement || isOfSession(statement.effects)) return null;
        if (isOfCursor(statement.effects)) return null;
        const portal = new Portal(statement, part);
        this.#routed.set(part, portal);
        const next = portal.route(router);
        if ((next.kind !== "one" && next.kind !== "any") || !portal.isAsWritten) return null;
        if (route?.kind === "one" && next.kind === "one" && route.shard !== next.shard) return null;
        if (route?.kind !== "one") route = next;
      }
    }
    if (route) return this.#statements.shardOf(route);
    const isOnlyOurs = parts.every(({ kind }) => kind === "sync");
    if (isOnlyOurs && this.#statements.transaction.used.length > 0) return null;
    const hasServerWork = parts.some(({ kind }) => kind === "parse" || kind === "describe");
    return hasServerWork ? this.#statements.shardOf({ kind: "any" }) : null;
  }

  async #passThrough(
    request: DecodedPipeline,
    to: { readonly context: ExecutionContext; readonly shard: ShardId; readonly isFresh: boolean },
  ): Promise<Handled> {
    const { context, shard, isFresh } = to;
    this.#routed.clear();
    const { state, relay } = this.#statements;
    const wasBegun = state.transaction !== "none";
    this.#statements.begin(context, null);
    const bound = request.parts.flatMap((part) =>
      part.kind === "bind" && part.statement ? [part.statement] : [],
    );
    const passed = { protocol: "extended", statements: bound, isFresh } as const;
    const server = await this.#statements.attach(shard, passed, context);
    const translation = new ExtendedTranslation(state, relay, server);
    server.send(translation.translate(request.parts));
    const outcome = await relay.outcome();
    if (outcome.kind === "refusedByGate" || outcome.kind === "forgotten") translation.rewind();
    try {
      return await this.#statements.settle(outcome, { context, wasBegun });
    } catch (error) {
      if (error instanceof TablesChanged) translation.rewind();
      throw error;
    }
  }

  async #part(part: PipelinePart, step: Step): Promise<"done" | "refusedByGate"> {
    switch (part.kind) {
      case "parse":
        this.#parse(part);
        return "done";
      case "bind":
        this.#bind(part);
        return "done";
      case "describe":
        await this.#describe(part, step);
        return "done";
      case "close":
        this.#close(part);
        return "done";
      case "execute":
        return await this.#execute(part, step);
      case "sync":
        await this.#sync(step);
        return "done";
      case "flush":
        this.#sendTag();
        this.#statements.sink.flush();
        return "done";
      default:
        return assertNever(part, "part of a pipeline");
    }
  }

  #parse({ name, statement }: ParsePart): void {
    const { state } = this.#statements;
    if (name !== "") {
      if (state.statements.has(name))
        throw new StatementRefused(
          SQLSTATE.duplicatePreparedStatement,
          `prepared statement "${name}" already exists`,
        );
      state.registry.take(statement);
    }
    state.statements.set(name, statement);
    this.#made.push(name);
    this.#answer(PARSE_COMPLETE);
  }

  #bind(part: BindPart): void {
    const statement = this.#statement(part.statementName);
    const routed = this.#routed.get(part);
    this.#portals.set(part.portal, routed ?? new Portal(statement, part));
    this.#answer(BIND_COMPLETE);
  }

  async #describe(part: TargetPart, step: Step): Promise<void> {
    const cursor = this.#cursorOf(part);
    if (cursor && "description" in cursor) {
      this.#answer(cursor.description);
      return;
    }
    if (part.target === "portal" && cursor === null) {
      const portal = this.#portal(part.name);
      if (isOfSession(portal.statement.effects)) this.#answer(NO_DATA);
      // Told with the rows: which columns there are may depend on the shards' answers being merged.
      else portal.wantsDescription = true;
      return;
    }
    if (cursor === null) this.#statement(part.name);
    this.#statements.begin(step.context, step.isOneTransaction ? "BEGIN" : null);
    const shard = cursor?.shard ?? this.#statements.shardOf({ kind: "any" });
    const server = await this.#statements.transaction.acquire(shard);
    await this.#relay(server, (translation) => translation.description(part));
  }

  /** SQL's cursors are portals by their names, which libpq's users describe. */
  #cursorOf({ target, name }: { readonly target: string; readonly name: string }) {
    if (target !== "portal" || this.#portals.has(name)) return null;
    return this.#statements.cursors.describe(name);
  }

  #close({ target, name }: TargetPart): void {
    if (target === "statement") forgetStatement(this.#statements.state, name);
    else this.#portals.delete(name);
    this.#answer(CLOSE_COMPLETE);
  }

  async #execute(part: ExecutePart, step: Step): Promise<"done" | "refusedByGate"> {
    const portal = this.#portal(part.portal);
    const { statement } = portal;
    const { effects } = statement;
    const { context, isFresh } = step;
    this.#hasExecuted = true;
    if (isOfSession(effects)) {
      const statements = this.#statements;
      this.#tag(await runOfSession(statement.sql, effects, { statements, context }));
      return "done";
    }
    this.#sendTag();
    // What was executed before it in the pipeline may have made the table.
    const router = await this.#statements.router(context);
    if (isOfCursor(effects)) return await this.#executeOfCursor(portal, { ...step, router });
    const planned = await this.#route(portal, router, context);
    const needsTransaction = step.isOneTransaction || part.maxRows > 0;
    this.#statements.begin(context, needsTransaction ? "BEGIN" : null);
    const mostRows = mostRowsOf(planned);
    if (part.maxRows > 0 && mostRows > part.maxRows) {
      await this.#executeSome(portal, part.frame, planned);
      return "done";
    }
    const { sql, route } = await withDrawnValues(portal.sql, planned, {
      statements: this.#statements,
      context,
      router,
      parameters: portal.parameters,
    });
    const outcome = await this.#statements.run(requestOf(portal, sql), {
      context,
      route,
      effects,
      isFresh,
    });
    if (outcome.kind === "refusedByGate") return "refusedByGate";
    portal.wantsDescription = false;
    this.#tag(outcome.tag);
    return "done";
  }

  /** Refused only by the tables as they are now. */
  async #route(portal: Portal, router: Router, context: ExecutionContext): Promise<Route> {
    const route = portal.route(router);
    if (route.kind !== "refused") return route;
    const { statement, parameters } = portal;
    return portal.use(await this.#statements.plan(statement.sql, parameters, context));
  }

  async #executeOfCursor(
    portal: Portal,
    { context, router, isOneTransaction, isFresh }: Step & { readonly router: Router },
  ): Promise<"done" | "refusedByGate"> {
    this.#statements.begin(context, isOneTransaction ? "BEGIN" : null);
    const { statement, parameters, wantsDescription } = portal;
    const outcome = await runOfCursor(this.#statements, requestOf(portal, statement.sql), {
      ...{ context, router, parameters, effects: statement.effects, isFresh },
    });
    if (outcome.kind === "refusedByGate") return "refusedByGate";
    if (wantsDescription && !outcome.tag.startsWith("FETCH")) this.#answer(NO_DATA);
    portal.wantsDescription = false;
    this.#tag(outcome.tag);
    return "done";
  }

  /** A cursor of the protocol: rows of one shard's portal, some at a time. */
  async #executeSome(portal: Portal, execute: Buffer, route: Route): Promise<void> {
    if (route.kind !== "one" && route.kind !== "any")
      throw new StatementRefused(
        SQLSTATE.featureNotSupported,
        "a limited number of rows from several shards",
        { hint: "Fetch all rows at once (fetch size 0), or name the sharding key." },
      );
    const { wantsDescription, bind, openOn } = portal;
    const { transaction } = this.#statements;
    const server = openOn ?? (await transaction.acquire(this.#statements.shardOf(route)));
    portal.openOn = server;
    portal.wantsDescription = false;
    await this.#relay(server, (translation) =>
      translation.portal({
        bind: openOn ? null : bind,
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
    const { relay, sink, state } = this.#statements;
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
    const { state, sink } = this.#statements;
    await this.#statements.commitImplicit(context);
    this.#sendTag();
    sink.holdBack(READY[this.#statements.status]);
    sink.flush();
    if (state.transaction === "none") this.#portals.clear();
    this.#clear();
  }

  #clear(): void {
    this.#isUnsynced = false;
    this.#hasExecuted = false;
    this.#lastTag = null;
    this.#routed.clear();
  }

  #answer(bytes: Buffer): void {
    this.#sendTag();
    this.#statements.sink.holdBack(bytes);
  }

  #tag(tag: string): void {
    this.#sendTag();
    this.#lastTag = encodeCommandComplete(tag);
  }

  #sendTag(): void {
    if (this.#lastTag) this.#statements.sink.holdBack(this.#lastTag);
    this.#lastTag = null;
  }

  #statement(name: string): PreparedStatement {
    const statement = this.#statements.state.statements.get(name);
    if (statement) return statement;
    const shown = name === "" ? "unnamed prepared statement" : `prepared statement "${name}"`;
    throw new StatementRefused(SQLSTATE.invalidSqlStatementName, `${shown} does not exist`);
  }

  #portal(name: string): Portal {
    const portal = this.#portals.get(name);
    if (portal) return portal;
    throw new StatementRefused(SQLSTATE.invalidCursorName, `portal "${name}" does not exist`);
  }
}

/** Rows that a statement may give, which a limit need not cut then (JDBC limits those without rows, too). */
function mostRowsOf(route: Route): number {
  if (route.kind === "draw") return route.plan.mostRows;
  const isRowless =
    route.kind === "replayed" && (route.plan.kind === "defined" || !route.plan.hasReturning);
  return isRowless ? 0 : Number.POSITIVE_INFINITY;
}

interface Step {
  readonly context: ExecutionContext;
  /** Its Executes commit together. */
  readonly isOneTransaction: boolean;
  /** Nothing has run before it in its transaction. */
  readonly isFresh: boolean;
}

function requestOf({ statement, bind, wantsDescription }: Portal, sql: string): StatementRequest {
  const { parameterFormats, parameters, resultFormats } = bind.values;
  return {
    ...{ protocol: "extended", sql, parameterTypes: statement.parameterTypes },
    ...{ parameterFormats, parameters, resultFormats, wantsDescription },
  };
}
