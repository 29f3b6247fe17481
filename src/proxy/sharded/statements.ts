import { randomInt } from "node:crypto";
import type { ServerConnection } from "../../backend/server-connection.js";
import type { PoolRetired } from "../../backend/server-errors.js";
import { assertNever } from "../../core/assert.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import { mayBeOfOtherTables } from "../../core/sqlstate-tables.js";
import type { Span } from "../../router/clauses.js";
import { HINT_SETTINGS, type Hints, hintedRouter, hintsOfSettings } from "../../router/hints.js";
import type { ParameterValues } from "../../router/key-value.js";
import type { MergePlan, Route, RouteNotice, SettledRoute } from "../../router/route.js";
import type { Router } from "../../router/router.js";
import { FIRST_SHARD, type ShardId, shardId } from "../../topology/topology.js";
import type { TransactionStatus } from "../../wire/backend.js";
import {
  decodeErrorFields,
  type ErrorResponseFields,
  encodeNotice,
} from "../../wire/error-fields.js";
import type { ExecutionContext, Handled } from "../execution/executor.js";
import { movedError, Relay, type RelayOutcome } from "../execution/relay.js";
import { newsOf, type SessionState } from "../execution/session-state.js";
import { isOfSession, type StatementEffects } from "../execution/statement-effects.js";
import { StatementFailed, StatementRefused, TablesChanged } from "../session-errors.js";
import type { CopyInput } from "./copy-input.js";
import { keyColumnsBefore, refuseOtherKind } from "./key-columns.js";
import { sequencesBefore, spreadNewSequences } from "./new-sequences.js";
import { OpenCursors } from "./open-cursors.js";
import { type SelectRunner, withComputedSelects } from "./replay/computed-selects.js";
import { executeReplay } from "./replay/execute.js";
import type {
  ClientSink,
  ScatterOutcome,
  ScatterRoute,
  StatementRequest,
} from "./scatter/contract.js";
import { executeScatter } from "./scatter/execute.js";
import { ShardTransaction } from "./shard-transaction.js";
import { ShardedSink } from "./sharded-sink.js";

/** What came of one statement; nothing of its end has been written yet. */
export type StatementOutcome =
  | { readonly kind: "complete"; readonly tag: string }
  | { readonly kind: "refusedByGate" };

export interface StatementContext {
  readonly context: ExecutionContext;
  readonly route: SettledRoute;
  readonly effects: StatementEffects;
  /** Who takes description and rows; absent: the client. */
  readonly sink?: ClientSink;
  /** Nothing of its transaction has run before it. */
  readonly isFresh: boolean;
}

/** A statement as it is sent, and where, by this router. */
export interface PlannedStatement {
  readonly router: Router;
  readonly sql: string;
  readonly route: Route;
}

export interface PassedRequest {
  readonly protocol: "simple" | "extended";
  readonly statements: readonly NotedStatement[];
  readonly isFresh: boolean;
}

interface NotedStatement {
  readonly sql: string;
  readonly effects: StatementEffects;
}

/**
 * The engine under both protocols: runs one statement where its route says, on the servers of the session's
 * transaction, and begins and ends what belongs to no client's transaction.
 */
export class ShardedStatements {
  readonly state: SessionState;
  readonly transaction: ShardTransaction;
  readonly sink: ShardedSink;
  readonly relay: Relay;
  readonly cursors = new OpenCursors();
  readonly #copyInput: CopyInput;
  readonly #onCopyIn: () => void;
  /** Where a statement ran that may have changed settings there alone. */
  #changedOn: ServerConnection | null = null;
  /** The open transaction has named settings that are hints. */
  #mayHint = false;
  #lastHinted: { readonly plain: Router; readonly key: string; readonly router: Router } | null =
    null;
  /** What the relay passes from. */
  #attached: ServerConnection | null = null;
  /** The text of such a statement, while it runs. */
  #changing: string | null = null;
  /** By the tables that the open transaction has made; null: not asked yet. */
  #ownRouter: Router | null = null;
  /** By which the statement at hand was routed, if it was by the tables that everybody sees. */
  #usedRouter: Router | null = null;

  constructor(state: SessionState, copyInput: CopyInput, onCopyIn: () => void) {
    this.state = state;
    this.transaction = new ShardTransaction(state);
    this.sink = new ShardedSink(state.client);
    // A COPY FROM for one shard goes through the scatter as well, so the relay never sees one.
    this.relay = new Relay(state, () => {});
    this.#copyInput = copyInput;
    this.#onCopyIn = onCopyIn;
  }

  /** The last statement was a COPY that has asked for data. */
  get hasAskedForData(): boolean {
    return this.#copyInput.wasAsked;
  }

  /** What ReadyForQuery says. */
  get status(): TransactionStatus {
    if (this.state.transaction === "failed") return "E";
    return this.state.transaction === "none" ? "I" : "T";
  }

  /**
   * Routes by the tables as this session sees them. Where its transaction has changed some, its own server is asked: any
   * other would wait for the locks, and that is for ever.
   * @throws ServerUnreachable, StatementFailed
   */
  async router(context: ExecutionContext): Promise<Router> {
    return await this.#hinted(await this.#plainRouter(context), context);
  }

  async #hinted(router: Router, { served }: ExecutionContext): Promise<Router> {
    const hints = await this.#settingsHints();
    const key = JSON.stringify(hints);
    // The same object as long as it routes the same: portals remember by it.
    if (this.#lastHinted?.plain !== router || this.#lastHinted.key !== key)
      this.#lastHinted = {
        plain: router,
        key,
        router: hintedRouter(router, hints, served.database),
      };
    return this.#lastHinted.router;
  }

  /** In a transaction that may have set them its own server says which they are. */
  async #settingsHints(): Promise<Hints> {
    const { current } = this.state.settings;
    const [server] = this.transaction.used;
    if (!this.#mayHint || !server || server.transactionStatus !== "T")
      return hintsOfSettings(current);
    const columns = HINT_SETTINGS.map((name) => `pg_catalog.current_setting('${name}', true)`);
    const { rows } = await server.query(`SELECT ${columns.join(", ")}`);
    const values = HINT_SETTINGS.map((name, at) => [name, rows[0]?.[at] ?? ""] as const);
    return hintsOfSettings(new Map([...current, ...values]));
  }

  async #plainRouter({ served }: ExecutionContext): Promise<Router> {
    this.#usedRouter = null;
    if (!this.transaction.changesSchema) {
      this.#usedRouter = await served.router();
      return this.#usedRouter;
    }
    // What a failed transaction has made is gone, and no server answers before it is ended.
    if (this.state.transaction === "failed") return this.#ownRouter ?? (await served.router());
    this.#ownRouter ??= await served.tables.routerOf(await this.transaction.tables());
    return this.#ownRouter;
  }

  /**
   * Where a statement goes, and its text as it is sent. What would be refused is looked at once more by the tables as
   * they are now.
   * @throws ServerUnreachable, StatementFailed
   */
  async plan(
    sql: string,
    parameters: ParameterValues,
    context: ExecutionContext,
  ): Promise<PlannedStatement> {
    const router = await this.router(context);
    const planned = planBy(router, sql, parameters);
    const { route } = planned;
    if (route.kind !== "refused" || route.sqlState === SQLSTATE.syntaxError) return planned;
    const newer = await this.newerRouter(context);
    return newer ? planBy(newer, sql, parameters) : planned;
  }

  /** By the tables as they are now, where these are others than the statement at hand was routed by. */
  async newerRouter(context: ExecutionContext): Promise<Router | null> {
    const used = this.#usedRouter;
    const newer = used && (await context.served.tables.newerThan(used));
    if (!newer) return null;
    this.#usedRouter = newer;
    return await this.#hinted(newer, context);
  }

  /** The open transaction has made or undone changes to tables. */
  forgetTables(): void {
    this.#ownRouter = null;
  }

  /** @param implicitBegin where the client has not begun a transaction: what begins one; null: none */
  begin({ served, user }: ExecutionContext, implicitBegin: string | null): void {
    if (this.state.transaction !== "begun") {
      this.transaction.use(served, user, this.state.transaction === "none" ? implicitBegin : null);
      return;
    }
    this.transaction.use(served, user, this.state.beginSql);
    this.state.transaction = "open";
  }

  /** After a statement outside of the client's transactions: commits, and gives the servers back. */
  async commitImplicit({ served }: ExecutionContext): Promise<void> {
    if (this.state.transaction !== "none") return;
    if (this.transaction.isBegun) await this.transaction.commit(served.database.twoPhaseCommit);
    await this.settleSettings();
    this.transaction.release();
  }

  async settleSettings(): Promise<void> {
    const [server] = this.transaction.used;
    this.#mayHint = false;
    if (!server) return;
    if (this.state.settings.hasTouched) {
      // The others have the same values, but nobody has said so: theirs stay unknown.
      // One of a transaction that was rolled back meanwhile is somebody else's.
      const changedOn = this.transaction.used.find((used) => used === this.#changedOn);
      const { tie } = await this.state.settings.readBack(changedOn ?? server);
      if (tie !== null) for (const used of this.transaction.used) used.isSoiled = true;
    }
    this.#changedOn = null;
    this.tellNews(server);
  }

  /** ParameterStatus, before what ends the answer. */
  tellNews(server: ServerConnection): void {
    const news = newsOf(this.state, server);
    if (news) this.sink.write(news);
  }

  /**
   * A statement is about to run that may change settings, by its text or by what it calls: no server goes back to its
   * pool before it is known what came of it.
   */
  noteChanges(statement: NotedStatement, { served }: ExecutionContext): void {
    const { settings } = this.state;
    const { sql, effects } = statement;
    settings.note(effects);
    if (/\bpgdog\./i.test(sql)) this.#mayHint = true;
    const hidden = served.hiddenChanges.of([sql]);
    if (hidden) settings.noteHidden(hidden);
    const mayChange = hidden !== null || effects.isOpaque || effects.settings.length > 0;
    this.#changing = mayChange && !isOfSession(effects) ? sql : null;
    if (settings.hasTouched)
      for (const server of this.transaction.used) server.areSettingsUnknown = true;
  }

  /** It has run, on that server or on all: the transaction's others are given what it has set. */
  async #spreadChanges(server: ServerConnection | undefined): Promise<void> {
    const sql = this.#changing;
    this.#changing = null;
    if (sql === null || !server || server.transactionStatus !== "T") return;
    this.#changedOn = server;
    const isLocal = /,\s*true\s*\)/i.test(sql) && !/,\s*false\s*\)/i.test(sql);
    const spreading = await this.state.settings.spreading(server, isLocal);
    if (spreading !== null) await this.transaction.everywhere(spreading);
  }

  /** Any shard will do: one that is in use already, else one by chance. */
  shardOf(route: Extract<Route, { kind: "one" | "any" }>): ShardId {
    if (route.kind === "one") return route.shard;
    const [used] = this.transaction.usedShards;
    return used ?? shardId(randomInt(this.transaction.shards.length || 1));
  }

  /**
   * One statement, wherever it belongs; description and rows are written, its end is not.
   * @throws StatementFailed, SluiceError
   */
  async run(
    request: StatementRequest,
    { context, route, effects, isFresh, sink = this.sink }: StatementContext,
  ): Promise<StatementOutcome> {
    if (route.kind === "refused")
      throw new StatementRefused(route.sqlState, route.reason, { hint: route.hint });
    const wasBegun = this.state.transaction !== "none";
    this.begin(context, needsTransaction(route, request.sql) ? "BEGIN" : null);
    if (route.kind === "computed")
      return await this.#computed(request, route.selects, { context, effects, isFresh });
    this.sink.restart();
    this.noteChanges({ sql: request.sql, effects }, context);
    const makes = effects.changesSchema && this.transaction.isBegun;
    const before = makes ? await sequencesBefore(this.transaction, request.sql) : null;
    const { database } = context.served;
    const keys = makes ? await keyColumnsBefore(this.transaction, database, request.sql) : null;
    if (route.kind === "many" && route.lockSql)
      await this.transaction.ask(FIRST_SHARD, route.lockSql);
    const outcome = await this.#execute(route, request, sink);
    if (outcome.kind === "complete") {
      await this.#spreadChanges(this.transaction.used[0]);
      if ("notice" in route) this.#tell(route.notice);
      if (before) await spreadNewSequences(this.transaction, before);
      if (keys) await refuseOtherKind(this.transaction, database, keys);
      if (effects.changesSchema) {
        await this.transaction.noteSchemaChange();
        this.forgetTables();
      }
      return outcome;
    }
    const retired = this.#retiredUnder(isFresh);
    if (retired) throw retired;
    const fields = decodeErrorFields(outcome.error);
    if (fields.get("C") !== SQLSTATE.gateClosed)
      throw new StatementFailed(outcome.error, outcome.phase);
    if (!isFresh || this.sink.hasWritten) throw new StatementFailed(movedError(fields));
    this.backOff(wasBegun);
    return { kind: "refusedByGate" };
  }

  /**
   * For a request that one server answers, ReadyForQuery included: what is sent to it from here on passes through
   * as it is, up to `settle`.
   */
  async attach(
    shard: ShardId,
    { protocol, statements, isFresh }: PassedRequest,
    context: ExecutionContext,
  ): Promise<ServerConnection> {
    const server = await this.transaction.acquire(shard);
    for (const each of statements) this.noteChanges(each, context);
    this.#attached = server;
    this.relay.attach(server);
    this.relay.begin(protocol, isFresh);
    this.relay.holdFailure(isOfOtherTables);
    return server;
  }

  /**
   * After `attach`, with what the relay has seen.
   * @throws TablesChanged where it is to be handled anew
   */
  async settle(
    outcome: RelayOutcome,
    { context, wasBegun }: { readonly context: ExecutionContext; readonly wasBegun: boolean },
  ): Promise<Handled> {
    this.relay.detach();
    if (outcome.kind === "lost") throw outcome.error;
    if (outcome.kind === "refusedByGate" || outcome.kind === "forgotten")
      return this.backOff(wasBegun);
    if (outcome.kind === "failureHeld") {
      if ((await this.newerRouter(context)) !== null) {
        this.relay.drop();
        this.backOff(wasBegun);
        throw new TablesChanged();
      }
      this.relay.deliver();
    } else if (this.relay.hasSeenSuch) context.served.tables.doubt();
    for (const server of this.transaction.used) server.use(null);
    if (this.state.transaction === "none") {
      await this.settleSettings();
      this.transaction.release();
      return "idle";
    }
    if (!this.transaction.used.some((server) => server.transactionStatus === "E")) {
      await this.#spreadChanges(this.#attached ?? undefined);
      return "open";
    }
    this.fail();
    this.state.transaction = "failed";
    return "open";
  }

  /**
   * One shard has failed, so has the whole. Nothing waits for the client with locks in hand, unless it may go back
   * to a savepoint: as in PostgreSQL, what is before that is kept.
   */
  fail(): void {
    if (!this.transaction.canGoBack) this.transaction.release();
  }

  /** Nothing ran: the client's BEGIN, if there was one, is sent again with the statement. */
  backOff(wasBegun: boolean): "refusedByGate" {
    this.transaction.release();
    this.state.transaction = wasBegun ? "begun" : "none";
    return "refusedByGate";
  }

  async #execute(
    route: Exclude<SettledRoute, { kind: "refused" | "computed" }>,
    request: StatementRequest,
    sink: ClientSink,
  ): Promise<ScatterOutcome> {
    const isCopyIn =
      route.kind === "copyIn" || (route.kind === "replayed" && route.plan.kind === "copied");
    if (isCopyIn) {
      this.#copyInput.open(() => this.state.client.socket.resume(), this.#onCopyIn);
    }
    const ends = { request, sink, servers: this.transaction, copySource: this.#copyInput };
    try {
      if (route.kind === "replayed") return await executeReplay({ plan: route.plan, ...ends });
      return await executeScatter({ route: this.#scattered(route), ...ends });
    } finally {
      this.#copyInput.close();
      for (const server of this.transaction.used) server.unnamedStatement = null;
    }
  }

  /** Its selects first, then what became of the statement; in one transaction. */
  async #computed(
    request: StatementRequest,
    selects: readonly Span[],
    statement: Omit<StatementContext, "route">,
  ): Promise<StatementOutcome> {
    const { context } = statement;
    const router = await this.router(context);
    const routed = ({ sql, parameters, parameterFormats, parameterTypes }: StatementRequest) =>
      router.route(sql, {
        values: parameters,
        formats: parameterFormats,
        typeOids: parameterTypes,
      });
    const runner: SelectRunner = {
      run: async (select, sink) => {
        const part = routed(select);
        if (part.kind === "refused")
          throw new StatementRefused(part.sqlState, part.reason, { hint: part.hint });
        if (part.kind !== "one" && part.kind !== "any" && part.kind !== "many")
          throw new StatementRefused(SQLSTATE.featureNotSupported, "this kind of subquery");
        const whole = { ...select, resultFormats: [], wantsDescription: true };
        const scattered = { route: this.#scattered(part), request: whole, sink };
        const { transaction: servers } = this;
        const end = await executeScatter({ ...scattered, servers, copySource: this.#copyInput });
        if (end.kind === "failed") throw new StatementFailed(end.error);
      },
      typeNames: async (columns) => {
        const names = columns.map(({ typeId, typeModifier }) =>
          typeId < FIRST_OWN_TYPE ? `pg_catalog.format_type(${typeId}, ${typeModifier})` : "NULL",
        );
        const { rows } = await this.transaction.ask(FIRST_SHARD, `SELECT ${names.join(", ")}`);
        return rows[0] ?? [];
      },
    };
    const settled = await withComputedSelects(request, selects, runner);
    const next = routed(settled);
    if (next.kind === "draw" || next.kind === "computed")
      throw new StatementRefused(SQLSTATE.featureNotSupported, "this kind of subquery");
    return await this.run(settled, { ...statement, route: next });
  }

  /** As the server would say it: to who wants to hear notices. */
  #tell({ message, hint }: RouteNotice): void {
    const least = this.state.settings.current.get("client_min_messages") ?? "notice";
    if (/^(warning|error|fatal|panic)$/i.test(least)) return;
    this.sink.write(encodeNotice({ sqlState: SQLSTATE.successfulCompletion, message, hint }));
  }

  /** The topology has moved on while the statement looked for its shards, and all of it can be done again. */
  #retiredUnder(isFresh: boolean): PoolRetired | null {
    return isFresh && !this.sink.hasWritten ? this.transaction.metRetired : null;
  }

  #scattered(
    route: Exclude<SettledRoute, { kind: "refused" | "replayed" | "computed" }>,
  ): ScatterRoute {
    switch (route.kind) {
      case "one":
      case "any":
        return {
          kind: "many",
          shards: [this.shardOf(route)],
          isWrite: route.kind === "one" && route.isWrite,
          merge: UNMERGED,
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
}

function planBy(router: Router, sql: string, parameters: ParameterValues): PlannedStatement {
  const written = router.written(sql);
  return { router, sql: written, route: router.route(written, parameters) };
}

/** A statement may have failed so because it was routed by tables that are others now. */
export function isOfOtherTables(fields: ErrorResponseFields): boolean {
  return mayBeOfOtherTables(fields.get("C") ?? "", fields.get("n"));
}

/** FirstNormalObjectId: types from here on have other numbers on each server. */
const FIRST_OWN_TYPE = 16_384;

/** One shard's rows as they come. */
const UNMERGED: MergePlan = {
  orderBy: [],
  isBytewise: true,
  aggregates: null,
  limit: null,
  offset: 0,
};

/** Writes on several shards are done on all or on none. */
function needsTransaction(route: SettledRoute, sql: string): boolean {
  switch (route.kind) {
    case "split":
    case "moveRow":
    case "copyIn":
    case "replayed":
    case "computed":
      return true;
    case "many":
      // CREATE INDEX CONCURRENTLY refuses to be in one.
      return route.isWrite && !/\bconcurrently\b/i.test(sql);
    default:
      return false;
  }
}
