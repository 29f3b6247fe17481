import type { ServerConnection } from "../../backend/server-connection.js";
import { PoolRetired } from "../../backend/server-errors.js";
import { assertNever } from "../../core/assert.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { Route } from "../../router/route.js";
import type { Router } from "../../router/router.js";
import { parse } from "../../sql/parser.js";
import type { ShardId } from "../../topology/topology.js";
import {
  BACKEND,
  BIND_COMPLETE,
  CLOSE_COMPLETE,
  encodeCommandComplete,
  NO_DATA,
  PARSE_COMPLETE,
  PORTAL_SUSPENDED,
  READY,
} from "../../wire/backend.js";
import {
  encodeClose as encodeCloseTarget,
  encodeDescribe,
  encodeExecute,
  SYNC,
} from "../../wire/frontend.js";
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
import type { Expectation } from "../execution/relay.js";
import { forgetStatement } from "../execution/session-state.js";
import { isOfSession } from "../execution/statement-effects.js";
import {
  AlreadyTold,
  FailedInCopy,
  StatementFailed,
  StatementRefused,
  TablesChanged,
} from "../session-errors.js";
import { fetchOf, isOfCursor, runOfCursor } from "./cursors.js";
import { DescribedSink } from "./described-sink.js";
import { withDrawnValues } from "./drawn-values.js";
import { type HeldRows, LARGEST_HELD_BYTES, RowCollector } from "./held-rows.js";
import type { Cursor } from "./open-cursors.js";
import { Portal, tagOfPart } from "./portal.js";
import { type Proposition, prove } from "./proof.js";
import type { ClientSink, StatementRequest } from "./scatter/contract.js";
import { runOfSession } from "./session-statements.js";
import type { ShardedStatements, StatementOutcome } from "./statements.js";

/** Parse, Bind, Describe and Execute of one statement. */
const LOOK_AHEAD = 4;

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
  #bound: string[] = [];
  /** What takes back what was said last of a Parse, and of a Bind. */
  readonly #undo = { parse: () => {}, bind: () => {} };
  /** A COPY has read what followed it in its pipeline as a part of its data. */
  #isRestTaken = false;
  #lastPortal = 0;

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
    this.#sendTag();
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
    this.#bound = [];
    const executes = request.parts.filter(({ kind }) => kind === "execute").length;
    const isOneTransaction = executes > 1 || request.end !== "sync" || this.#isUnsynced;
    this.#isUnsynced = true;
    for (const [at, part] of request.parts.entries()) {
      if (this.#isRestTaken) continue;
      const rest = request.parts.slice(at, at + LOOK_AHEAD);
      const step = { context, rest, isOneTransaction, isFresh: isFresh && !this.#hasExecuted };
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
    this.#isRestTaken = false;
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
    for (const name of this.#bound) this.#portals.delete(name);
    this.#clear();
  }

  /** The shard that all of a pipeline goes to; null: there is none, it is to be taken apart. */
  #onlyShard({ parts }: DecodedPipeline, router: Router): ShardId | null {
    let route: Extract<Route, { kind: "one" | "any" }> | null = null;
    const bound = new Set<string>();
    for (const part of parts) {
      if (this.#isOfPortal(part, bound)) return null;
      if (part.kind === "execute") {
        // A portal of an earlier pipeline is known to the other way only.
        if (!route || part.maxRows > 0) return null;
      } else if (part.kind === "bind") {
        const { statement } = part;
        if (!statement || isOfSession(statement.effects)) return null;
        if (isOfCursor(statement.effects)) return null;
        const portal = new Portal(statement, part, this.#statements.transaction.number);
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

  /**
   * It has to do with a portal or cursor that is known here from before.
   * @param bound names that the pipeline has bound; completed by this part
   */
  #isOfPortal(part: PipelinePart, bound: Set<string>): boolean {
    if (part.kind === "bind") {
      bound.add(part.portal);
      const place = this.#portals.get(part.portal)?.place;
      // A server's unnamed portal makes way by itself.
      if (part.portal === "") return place?.kind === "server" && place.name !== "";
      return place !== undefined || this.#cursor(part.portal) !== null;
    }
    const isTarget =
      (part.kind === "describe" || part.kind === "close") && part.target === "portal";
    if (!isTarget || bound.has(part.name)) return false;
    return this.#portals.has(part.name) || this.#cursor(part.name) !== null;
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
      const handled = await this.#statements.settle(outcome, { context, wasBegun });
      if (handled === "open" && state.transaction === "open") this.#remember(request, server);
      return handled;
    } catch (error) {
      if (error instanceof TablesChanged) translation.rewind();
      throw error;
    }
  }

  /** Portals that live on, where they are. */
  #remember({ parts }: DecodedPipeline, server: ServerConnection): void {
    for (const part of parts) {
      if (part.kind === "close" && part.target === "portal") this.#portals.delete(part.name);
      if (part.kind !== "bind" || !part.statement) continue;
      const portal = new Portal(part.statement, part, this.#statements.transaction.number);
      portal.place = { kind: "server", server, name: part.portal };
      this.#portals.set(part.portal, portal);
    }
  }

  async #part(part: PipelinePart, step: Step): Promise<"done" | "refusedByGate"> {
    switch (part.kind) {
      case "parse":
        await this.#parse(part, step);
        return "done";
      case "bind":
        await this.#bind(part, step);
        return "done";
      case "describe":
        await this.#describe(part, step);
        return "done";
      case "close":
        await this.#close(part);
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

  async #parse({ name, statement }: ParsePart, step: Step): Promise<void> {
    const { state, sink } = this.#statements;
    if (name !== "" && state.statements.has(name))
      throw new StatementRefused(
        SQLSTATE.duplicatePreparedStatement,
        `prepared statement "${name}" already exists`,
      );
    const from = sink.heldBack;
    if (!(await this.#isProvenLater(step, "parse")))
      if (!isPlain(statement)) await this.#prove({ statement, bind: null, portal: "" }, step);
    if (name !== "") state.registry.take(statement);
    state.statements.set(name, statement);
    this.#made.push(name);
    this.#undo.parse = () => {
      sink.dropHeldBack(from);
      forgetStatement(state, name);
    };
    this.#answer(PARSE_COMPLETE);
  }

  async #bind(part: BindPart, step: Step): Promise<void> {
    const statement = this.#statement(part.statementName);
    const { sink, transaction } = this.#statements;
    const name = part.portal;
    if (name === "") await this.#drop(name);
    else if (this.#portals.has(name) || this.#cursor(name))
      throw new StatementRefused(SQLSTATE.duplicateCursor, `cursor "${name}" already exists`);
    const routed = this.#routed.get(part);
    const portal = routed ?? new Portal(statement, part, transaction.number);
    const from = sink.heldBack;
    if (!(await this.#isProvenLater(step, "bind")) && !isPlain(statement))
      await this.#open(portal, step);
    this.#portals.set(name, portal);
    this.#bound.push(name);
    this.#undo.bind = () => sink.dropHeldBack(from);
    this.#answer(BIND_COMPLETE);
  }

  /** A portal that does not run at once: where one server will do all of it, that is where it is from here on. */
  async #open(portal: Portal, step: Step): Promise<void> {
    const { statement, bind } = portal;
    const route = portal.route(await this.#statements.router(step.context));
    const name = bind.portal === "" ? `sluice_portal_${++this.#lastPortal}` : bind.portal;
    if (route.kind === "one" || route.kind === "any") {
      const shard = this.#statements.shardOf(route);
      this.#statements.noteChanges({ sql: portal.sql, effects: statement.effects }, step.context);
      const written = { ...statement, sql: portal.sql };
      await this.#prove({ statement: written, bind, portal: name }, step, shard);
      const server = await this.#statements.transaction.acquire(shard);
      portal.place = { kind: "server", server, name };
    } else await this.#prove({ statement, bind, portal: "" }, step);
  }

  /**
   * A statement that is bound and run right behind is judged by what it runs on; else a server is asked. What is
   * refused here only, PostgreSQL's judgement comes first.
   */
  async #isProvenLater({ rest, context }: Step, from: "parse" | "bind"): Promise<boolean> {
    const at = from === "parse" ? 1 : 0;
    const bind = rest[at];
    if (bind?.kind !== "bind" || !bind.statement) return false;
    if (from === "parse" && rest[0]?.kind === "parse" && rest[0].name !== bind.statementName)
      return false;
    const behind = rest[at + 1];
    const execute = behind?.kind === "describe" ? rest[at + 2] : behind;
    const isOf = (name: string) => name === bind.portal;
    if (behind?.kind === "describe" && (behind.target !== "portal" || !isOf(behind.name)))
      return false;
    if (execute?.kind !== "execute" || !isOf(execute.portal)) return false;
    if (bind.statement.effects.kind === "several") return false;
    const portal =
      this.#routed.get(bind) ??
      new Portal(bind.statement, bind, this.#statements.transaction.number);
    this.#routed.set(bind, portal);
    if (isOfCursor(bind.statement.effects) || isOfSession(bind.statement.effects)) return false;
    const route = portal.route(await this.#statements.router(context));
    const isOfOne = route.kind === "one" || route.kind === "any";
    return isJudgedByItsRun(route) && !(isOfOne && execute.maxRows > 0);
  }

  /** @throws StatementFailed with the server's error */
  async #prove(
    proposition: Proposition,
    { context }: Step,
    shard = this.#statements.shardOf({ kind: "any" }),
  ): Promise<Buffer> {
    const { transaction } = this.#statements;
    // What comes behind it may need one, and this server is a part of it then.
    this.#statements.begin(context, "BEGIN");
    const { description, failure } = await prove(await transaction.acquire(shard), proposition);
    if (failure === null) return description;
    throw new StatementFailed(failure.error);
  }

  async #describe(part: TargetPart, step: Step): Promise<void> {
    const { name } = part;
    if (part.target === "statement") {
      const statement = this.#statement(name);
      this.#answer(await this.#prove({ statement, bind: null, portal: "" }, step));
      return;
    }
    const portal = this.#portal(name);
    if (portal === null) {
      this.#answer(await this.#describeCursor(name, step));
      return;
    }
    const { place, statement, bind } = portal;
    const next = step.rest[1];
    const runsNext = next?.kind === "execute" && next.portal === name;
    const { effects } = statement;
    if (isOfSession(effects) || effects.kind === "declare" || effects.kind === "closeCursor")
      this.#answer(NO_DATA);
    else if (place.kind === "held") this.#answer(place.rows.description);
    else if (place.kind === "server") {
      const describe = encodeDescribe({ target: "portal", name: place.name });
      await this.#relay(place.server, describe, { kind: "describe" });
    } else if (effects.kind === "fetch") this.#answer(await this.#describeFetch(portal, step));
    // Told with the rows, where those come at once.
    else if (place.kind === "bound" && runsNext && (await this.#isJudged(portal, step)))
      portal.wantsDescription = true;
    else this.#answer(await this.#prove({ statement, bind, portal: "" }, step));
  }

  async #isJudged(portal: Portal, { context }: Step): Promise<boolean> {
    return isJudgedByItsRun(portal.route(await this.#statements.router(context)));
  }

  async #describeFetch({ statement, bind }: Portal, step: Step): Promise<Buffer> {
    const { name, isMove } = fetchOf(statement.sql);
    const cursor = isMove ? null : this.#cursor(name);
    if (cursor === null) return NO_DATA;
    if (cursor.kind === "rows") return cursor.rows.description;
    return await this.#prove({ statement, bind, portal: "" }, step, cursor.shard);
  }

  /** SQL's cursors are portals by their names, which libpq's users describe. */
  async #describeCursor(name: string, step: Step): Promise<Buffer> {
    const cursor = this.#cursor(name);
    if (cursor?.kind === "rows") return cursor.rows.description;
    if (cursor === null) throw noPortal(name);
    const server = await this.#statements.transaction.acquire(cursor.shard);
    this.#statements.begin(step.context, null);
    const describe = encodeDescribe({ target: "portal", name });
    await this.#relay(server, describe, { kind: "describe" });
    return Buffer.alloc(0);
  }

  #cursor(name: string): Cursor | null {
    const { cursors, transaction } = this.#statements;
    cursors.forgetOthersThan(transaction.number);
    return cursors.get(name);
  }

  async #close({ target, name }: TargetPart): Promise<void> {
    if (target === "statement") forgetStatement(this.#statements.state, name);
    else await this.#drop(name);
    this.#answer(CLOSE_COMPLETE);
  }

  /** A portal, or the cursor that PostgreSQL would have as one. */
  async #drop(name: string): Promise<void> {
    const portal = this.#portals.get(name);
    this.#portals.delete(name);
    const cursor = portal === undefined && name !== "" ? this.#cursor(name) : null;
    if (cursor !== null) this.#statements.cursors.delete(name);
    const isOpen = this.#statements.transaction.usedShards.length > 0;
    if (portal?.place.kind === "server" && isOpen)
      await this.#relay(portal.place.server, encodeClose(portal.place.name), OUR_CLOSE);
    if (cursor?.kind !== "server") return;
    const server = await this.#statements.transaction.acquire(cursor.shard);
    await this.#relay(server, encodeClose(name), OUR_CLOSE);
  }

  async #execute(part: ExecutePart, step: Step): Promise<"done" | "refusedByGate"> {
    const portal = this.#portal(part.portal);
    this.#hasExecuted = true;
    if (portal === null) {
      await this.#executeCursor(part);
      return "done";
    }
    const { place } = portal;
    switch (place.kind) {
      case "bound":
        return await this.#run(portal, part, step);
      case "held":
        this.#give(place.rows, place.tag, part.maxRows);
        return "done";
      case "server":
        await this.#executeOn(place, part.maxRows);
        return "done";
      case "ended":
        if (!place.hasRows)
          throw new StatementRefused(
            SQLSTATE.objectNotInPrerequisiteState,
            `portal "${part.portal}" cannot be run`,
          );
        this.#tag(tagOfPart(place.tag, 0));
        return "done";
      default:
        return assertNever(place, "place of a portal");
    }
  }

  /** For the first time, and the last: from here on it has a place. */
  async #run(
    portal: Portal,
    { maxRows }: ExecutePart,
    step: Step,
  ): Promise<"done" | "refusedByGate"> {
    const { statement } = portal;
    const { effects } = statement;
    const { context } = step;
    if (isOfSession(effects)) {
      const statements = this.#statements;
      const tag = await runOfSession(statement.sql, effects, { statements, context });
      portal.place = { kind: "ended", tag, hasRows: false };
      this.#tag(tag);
      return "done";
    }
    this.#sendTag();
    // What was executed before it in the pipeline may have made the table.
    const router = await this.#statements.router(context);
    const route = await this.#route(portal, router, context);
    const isServers = (route.kind === "one" || route.kind === "any") && !isOfCursor(effects);
    if (isServers && maxRows > 0) {
      await this.#openNow(portal, step);
      if (portal.place.kind === "server") await this.#executeOn(portal.place, maxRows);
      return "done";
    }
    this.#statements.begin(context, step.isOneTransaction || maxRows > 0 ? "BEGIN" : null);
    const { cursors, sink } = this.#statements;
    const room = LARGEST_HELD_BYTES - cursors.heldBytes - this.#heldBytes;
    const collector = maxRows > 0 && effects.kind !== "copy" ? new RowCollector(room, sink) : null;
    const shown = collector ?? new DescribedSink(sink, portal.wantsDescription);
    const isCopy = isCopyIn(route);
    let outcome: StatementOutcome;
    try {
      outcome = await this.#runOn(portal, shown, { ...step, router, route });
    } catch (error) {
      if (isCopy && this.#statements.hasAskedForData) throw new FailedInCopy(error);
      if (isJudgedByItsRun(route)) this.#misplaced(error);
      throw error;
    }
    if (outcome.kind === "refusedByGate") return "refusedByGate";
    if (isCopy && this.#statements.hasAskedForData) this.#isRestTaken = true;
    if (collector === null) this.#ended(portal, outcome.tag, shown);
    else this.#hold(portal, outcome.tag, { rows: collector.take(), maxRows });
    portal.wantsDescription = false;
    return "done";
  }

  async #runOn(
    portal: Portal,
    sink: ClientSink,
    at: Step & { readonly router: Router; readonly route: Route },
  ): Promise<StatementOutcome> {
    const { statement, parameters } = portal;
    const { context, router, isFresh } = at;
    const { effects } = statement;
    if (isOfCursor(effects))
      return await runOfCursor(this.#statements, requestOf(portal, statement.sql), {
        ...{ context, router, parameters, effects, isFresh, sink },
      });
    const { sql, route } = await withDrawnValues(portal.sql, at.route, {
      ...{ statements: this.#statements, context, router, parameters },
    });
    const request = requestOf(portal, sql);
    return await this.#statements.run(request, { context, route, effects, isFresh, sink });
  }

  /** An error of the run that answers Parse or Bind: what was said of those is not true. */
  #misplaced(error: unknown): void {
    if (!(error instanceof StatementFailed) || this.#statements.sink.hasWritten) return;
    if (error.phase === "parse") this.#undo.parse();
    else if (error.phase === "bind") this.#undo.bind();
  }

  #ended(portal: Portal, tag: string, sink: ClientSink): void {
    const hasRows = sink instanceof DescribedSink && sink.hasRows;
    portal.place = { kind: "ended", tag, hasRows };
    this.#tag(tag);
  }

  /** Refused only by the tables as they are now. */
  async #route(portal: Portal, router: Router, context: ExecutionContext): Promise<Route> {
    const route = portal.route(router);
    if (route.kind !== "refused") return route;
    const { statement, parameters } = portal;
    return portal.use(await this.#statements.plan(statement.sql, parameters, context));
  }

  #hold(
    portal: Portal,
    tag: string,
    { rows, maxRows }: { readonly rows: HeldRows; readonly maxRows: number },
  ): void {
    const hasRows = rows.description[0] === BACKEND.rowDescription;
    if (portal.wantsDescription) this.#answer(hasRows ? rows.description : NO_DATA);
    if (hasRows) {
      portal.place = { kind: "held", rows, tag };
      this.#give(rows, tag, maxRows);
    } else {
      portal.place = { kind: "ended", tag, hasRows };
      this.#tag(tag);
    }
  }

  /** As PostgreSQL: who gets as many as they asked for is not told whether there are more. */
  #give(rows: HeldRows, tag: string, maxRows: number): void {
    const given = rows.next(maxRows);
    this.#answer(Buffer.concat(given));
    if (maxRows > 0 && given.length === maxRows) this.#answer(PORTAL_SUSPENDED);
    else this.#tag(tagOfPart(tag, given.length));
  }

  async #openNow(portal: Portal, step: Step): Promise<void> {
    const { wantsDescription } = portal;
    portal.wantsDescription = false;
    await this.#open(portal, step);
    const { place } = portal;
    if (!wantsDescription || place.kind !== "server") return;
    const describe = encodeDescribe({ target: "portal", name: place.name });
    await this.#relay(place.server, describe, { kind: "describe" });
  }

  /** A cursor's own rows, by the name of its portal. */
  async #executeCursor({ portal: name, maxRows }: ExecutePart): Promise<void> {
    const cursor = this.#cursor(name);
    if (cursor === null) throw noPortal(name);
    if (cursor.kind === "rows") {
      this.#give(cursor.rows, "SELECT 0", maxRows);
      return;
    }
    const server = await this.#statements.transaction.acquire(cursor.shard);
    await this.#executeOn({ server, name }, maxRows);
  }

  async #executeOn(
    { server, name }: { readonly server: ServerConnection; readonly name: string },
    maxRows: number,
  ): Promise<void> {
    await this.#relay(server, encodeExecute({ portal: name, maxRows }), { kind: "execute" });
  }

  /** One message of ours to one server, whose answer goes to the client. */
  async #relay(server: ServerConnection, message: Buffer, expected: Expectation): Promise<void> {
    const { relay, sink } = this.#statements;
    this.#sendTag();
    sink.flush();
    relay.attach(server);
    relay.begin("extended", false);
    relay.expect(expected);
    relay.expect(OUR_SYNC);
    server.send(Buffer.concat([message, SYNC]));
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

  /** A Query comes: it ends what was not ended by a Sync, and PostgreSQL has its own use for the unnamed portal. */
  async beforeQuery(): Promise<void> {
    this.#sendTag();
    this.#statements.sink.flush();
    await this.#drop("");
  }

  afterQuery(): void {
    if (this.#statements.state.transaction === "none") this.#portals.clear();
    this.#clear();
  }

  #clear(): void {
    this.#isUnsynced = false;
    this.#hasExecuted = false;
    this.#isRestTaken = false;
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

  /** null: it may be a cursor. @throws StatementRefused */
  #portal(name: string): Portal | null {
    const portal = this.#portals.get(name);
    if (portal?.madeIn === this.#statements.transaction.number) return portal;
    this.#portals.delete(name);
    if (this.#cursor(name) !== null) return null;
    throw noPortal(name);
  }

  get #heldBytes(): number {
    let sum = 0;
    for (const { place } of this.#portals.values())
      if (place.kind === "held") sum += place.rows.bytes;
    return sum;
  }
}

function noPortal(name: string): StatementRefused {
  return new StatementRefused(SQLSTATE.invalidCursorName, `portal "${name}" does not exist`);
}

/** What goes to the shards as it is, in the extended protocol: they say themselves which message they refuse. */
function isJudgedByItsRun({ kind }: Route): boolean {
  return kind === "one" || kind === "any" || kind === "many" || kind === "split" || kind === "draw";
}

function isCopyIn(route: Route): boolean {
  return route.kind === "copyIn" || (route.kind === "replayed" && route.plan.kind === "copied");
}

/** Of the session, and nothing in it for a server to look up: once it is read it is right. */
function isPlain({ sql, effects }: PreparedStatement): boolean {
  const isKnown =
    isOfSession(effects) || effects.kind === "fetch" || effects.kind === "closeCursor";
  return effects.isPlainControl || (isKnown && parse(sql).kind === "parsed");
}

function encodeClose(name: string): Buffer {
  return encodeCloseTarget({ target: "portal", name });
}

const OUR_SYNC: Expectation = { kind: "sync", isOurs: true };
const OUR_CLOSE: Expectation = { kind: "close", isOurs: true };

interface Step {
  readonly context: ExecutionContext;
  /** The message at hand, and what follows it. */
  readonly rest: readonly PipelinePart[];
  /** Its Executes commit together. */
  readonly isOneTransaction: boolean;
  /** Nothing has run before it in its transaction. */
  readonly isFresh: boolean;
}

function requestOf({ statement, bind }: Portal, sql: string): StatementRequest {
  const { parameterFormats, parameters, resultFormats } = bind.values;
  return {
    ...{ protocol: "extended", sql, parameterTypes: statement.parameterTypes },
    ...{ parameterFormats, parameters, resultFormats, wantsDescription: true },
  };
}
