import type { ServerConnection } from "../../backend/server-connection.js";
import { PoolRetired } from "../../backend/server-errors.js";
import { assertNever } from "../../core/assert.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { Route } from "../../router/route.js";
import type { Router } from "../../router/router.js";
import { parse } from "../../sql/parser.js";
import type { ShardId } from "../../topology/topology.js";
import {
  BIND_COMPLETE,
  CLOSE_COMPLETE,
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
import { StatementFailed, StatementRefused, TablesChanged } from "../session-errors.js";
import { fetchOf, isOfCursor } from "./cursors.js";
import { noPortal, OpenPortals } from "./open-portals.js";
import { PipelineAnswers } from "./pipeline-answers.js";
import { Portal } from "./portal.js";
import { isJudgedByItsRun, type PartOutcome, PortalRuns, type Step } from "./portal-runs.js";
import type { ShardedStatements } from "./statements.js";

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
  readonly #answers: PipelineAnswers;
  readonly #portals: OpenPortals;
  readonly #runs: PortalRuns;
  /** Those of the pipeline at hand that were routed before it was taken apart. */
  readonly #routed = new Map<BindPart, Portal>();
  #isUnsynced = false;
  #hasExecuted = false;
  #made: string[] = [];
  #bound: string[] = [];
  /** What takes back what was said last of a Parse, and of a Bind. */
  readonly #undo = { parse: () => {}, bind: () => {} };

  constructor(statements: ShardedStatements) {
    this.#statements = statements;
    this.#answers = new PipelineAnswers(statements);
    this.#portals = new OpenPortals(statements, this.#answers);
    this.#runs = new PortalRuns(statements, this.#answers, this.#portals);
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
    this.#answers.flush();
    this.#clear();
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
      const rest = request.parts.slice(at, at + LOOK_AHEAD);
      const step = { context, rest, isOneTransaction, isFresh: isFresh && !this.#hasExecuted };
      try {
        const outcome = await this.#part(part, step);
        if (outcome === "tookRest") break;
        if (outcome === "done") continue;
      } catch (error) {
        if (error instanceof PoolRetired && step.isFresh) this.#rewind();
        throw error;
      }
      this.#rewind();
      state.transaction = wasBegun ? "begun" : "none";
      return "refusedByGate";
    }
    this.#answers.flush();
    return this.#handled();
  }

  #handled(): Handled {
    return this.#isUnsynced || this.#statements.state.transaction !== "none" ? "open" : "idle";
  }

  /** Nothing was shown to the client: all of it will be done again. */
  #rewind(): void {
    this.#statements.sink.dropHeldBack();
    for (const name of this.#made) forgetStatement(this.#statements.state, name);
    for (const name of this.#bound) this.#portals.forget(name);
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
      return place !== undefined || this.#portals.cursor(part.portal) !== null;
    }
    const isTarget =
      (part.kind === "describe" || part.kind === "close") && part.target === "portal";
    if (!isTarget || bound.has(part.name)) return false;
    return this.#portals.get(part.name) !== null || this.#portals.cursor(part.name) !== null;
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
      if (part.kind === "close" && part.target === "portal") {
        this.#portals.forget(part.name);
        this.#statements.cursors.delete(part.name);
      }
      if (part.kind !== "bind" || !part.statement) continue;
      const portal = new Portal(part.statement, part, this.#statements.transaction.number);
      portal.place = { kind: "server", server, name: part.portal };
      this.#portals.share(portal);
      this.#portals.set(part.portal, portal);
    }
  }

  async #part(part: PipelinePart, step: Step): Promise<PartOutcome> {
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
        this.#answers.flush();
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
      if (!isPlain(statement)) await this.#runs.prove({ statement, bind: null, portal: "" }, step);
    if (name !== "") state.registry.take(statement);
    state.statements.set(name, statement);
    this.#made.push(name);
    this.#undo.parse = () => {
      sink.dropHeldBack(from);
      forgetStatement(state, name);
    };
    this.#answers.add(PARSE_COMPLETE);
  }

  async #bind(part: BindPart, step: Step): Promise<void> {
    const statement = this.#statement(part.statementName);
    const { sink, transaction } = this.#statements;
    const name = part.portal;
    if (name === "") await this.#portals.close(name);
    else if (this.#portals.get(name) || this.#portals.cursor(name))
      throw new StatementRefused(SQLSTATE.duplicateCursor, `cursor "${name}" already exists`);
    const routed = this.#routed.get(part);
    const portal = routed ?? new Portal(statement, part, transaction.number);
    const from = sink.heldBack;
    if (!(await this.#isProvenLater(step, "bind")) && !isPlain(statement))
      await this.#runs.open(portal, step);
    this.#portals.set(name, portal);
    this.#bound.push(name);
    this.#undo.bind = () => sink.dropHeldBack(from);
    this.#answers.add(BIND_COMPLETE);
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

  async #describe(part: TargetPart, step: Step): Promise<void> {
    const { name } = part;
    if (part.target === "statement") {
      const statement = this.#statement(name);
      this.#answers.add(await this.#runs.prove({ statement, bind: null, portal: "" }, step));
      return;
    }
    const portal = this.#portals.named(name);
    if (portal === null) {
      this.#answers.add(await this.#describeCursor(name));
      return;
    }
    const { place, statement, bind } = portal;
    const next = step.rest[1];
    const runsNext = next?.kind === "execute" && next.portal === name;
    const { effects } = statement;
    if (isOfSession(effects) || effects.kind === "declare" || effects.kind === "closeCursor")
      this.#answers.add(NO_DATA);
    else if (place.kind === "held") this.#answers.add(place.rows.description);
    else if (place.kind === "server") {
      const describe = encodeDescribe({ target: "portal", name: place.name });
      await this.#answers.relay(place.server, describe, { kind: "describe" });
    } else if (effects.kind === "fetch") this.#answers.add(await this.#describeFetch(portal, step));
    // Told with the rows, where those come at once.
    else if (place.kind === "bound" && runsNext && (await this.#isJudged(portal, step)))
      portal.wantsDescription = true;
    else this.#answers.add(await this.#runs.prove({ statement, bind, portal: "" }, step));
  }

  async #isJudged(portal: Portal, { context }: Step): Promise<boolean> {
    return isJudgedByItsRun(portal.route(await this.#statements.router(context)));
  }

  async #describeFetch({ statement, bind }: Portal, step: Step): Promise<Buffer> {
    const { name, isMove } = fetchOf(statement.sql);
    const cursor = isMove ? null : this.#portals.cursor(name);
    if (cursor === null) return NO_DATA;
    if (cursor.kind === "rows") return cursor.rows.description;
    return await this.#runs.prove({ statement, bind, portal: "" }, step, cursor.shard);
  }

  /** SQL's cursors are portals by their names, which libpq's users describe. */
  async #describeCursor(name: string): Promise<Buffer> {
    const cursor = this.#portals.cursor(name);
    if (cursor?.kind === "rows") return cursor.rows.description;
    if (cursor === null) throw noPortal(name);
    const server = await this.#statements.transaction.acquire(cursor.shard);
    const describe = encodeDescribe({ target: "portal", name });
    await this.#answers.relay(server, describe, { kind: "describe" });
    return Buffer.alloc(0);
  }

  async #close({ target, name }: TargetPart): Promise<void> {
    if (target === "statement") forgetStatement(this.#statements.state, name);
    else await this.#portals.close(name);
    this.#answers.add(CLOSE_COMPLETE);
  }

  async #execute(part: ExecutePart, step: Step): Promise<PartOutcome> {
    this.#hasExecuted = true;
    try {
      return await this.#runs.execute(part, step);
    } catch (error) {
      // It answers Parse or Bind: what was said of those is not true.
      const isMisplaced = error instanceof StatementFailed && !this.#statements.sink.hasWritten;
      if (isMisplaced && error.phase === "parse") this.#undo.parse();
      else if (isMisplaced && error.phase === "bind") this.#undo.bind();
      throw error;
    }
  }

  async #sync({ context }: Step): Promise<void> {
    const { state, sink } = this.#statements;
    await this.#statements.commitImplicit(context);
    this.#answers.sendTag();
    sink.holdBack(READY[this.#statements.status]);
    sink.flush();
    if (state.transaction === "none") this.#portals.clear();
    this.#clear();
  }

  /** A Query comes: it ends what was not ended by a Sync, and PostgreSQL has its own use for the unnamed portal. */
  async beforeQuery(): Promise<void> {
    this.#answers.flush();
    await this.#portals.close("");
  }

  afterQuery(): void {
    if (this.#statements.state.transaction === "none") this.#portals.clear();
    this.#clear();
  }

  #clear(): void {
    this.#isUnsynced = false;
    this.#hasExecuted = false;
    this.#answers.clear();
    this.#routed.clear();
  }

  #statement(name: string): PreparedStatement {
    const statement = this.#statements.state.statements.get(name);
    if (statement) return statement;
    const shown = name === "" ? "unnamed prepared statement" : `prepared statement "${name}"`;
    throw new StatementRefused(SQLSTATE.invalidSqlStatementName, `${shown} does not exist`);
  }
}

/** Of the session, and nothing in it for a server to look up: once it is read it is right. */
function isPlain({ sql, effects }: PreparedStatement): boolean {
  const isKnown =
    isOfSession(effects) || effects.kind === "fetch" || effects.kind === "closeCursor";
  return effects.isPlainControl || (isKnown && parse(sql).kind === "parsed");
}
