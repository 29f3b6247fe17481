import type { ServerConnection } from "../../backend/server-connection.js";
import { assertNever } from "../../core/assert.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { Route } from "../../router/route.js";
import type { Router } from "../../router/router.js";
import { BACKEND, NO_DATA, PORTAL_SUSPENDED } from "../../wire/backend.js";
import { encodeDescribe, encodeExecute } from "../../wire/frontend.js";
import type { ExecutePart, PipelinePart } from "../execution/decoded-request.js";
import type { ExecutionContext } from "../execution/executor.js";
import { isOfSession } from "../execution/statement-effects.js";
import { FailedInCopy, StatementFailed, StatementRefused } from "../session-errors.js";
import { isOfCursor, runOfCursor } from "./cursors.js";
import { DescribedSink } from "./described-sink.js";
import { withDrawnValues } from "./drawn-values.js";
import { type HeldRows, LARGEST_HELD_BYTES, RowCollector } from "./held-rows.js";
import { noPortal, type OpenPortals } from "./open-portals.js";
import type { PipelineAnswers } from "./pipeline-answers.js";
import { type Portal, tagOfPart } from "./portal.js";
import { type Proposition, prove } from "./proof.js";
import type { ClientSink, StatementRequest } from "./scatter/contract.js";
import { runOfSession } from "./session-statements.js";
import type { ShardedStatements, StatementOutcome } from "./statements.js";

export type PartOutcome =
  | "done"
  | "refusedByGate"
  /** A COPY has read what followed it in its pipeline as a part of its data. */
  | "tookRest";

export interface Step {
  readonly context: ExecutionContext;
  /** The message at hand, and what follows it. */
  readonly rest: readonly PipelinePart[];
  /** Its Executes commit together. */
  readonly isOneTransaction: boolean;
  /** Nothing has run before it in its transaction. */
  readonly isFresh: boolean;
}

/** Runs portals, each once, and gives their answers in as many parts as the client asks for. */
export class PortalRuns {
  readonly #statements: ShardedStatements;
  readonly #answers: PipelineAnswers;
  readonly #portals: OpenPortals;
  #lastPortal = 0;

  constructor(statements: ShardedStatements, answers: PipelineAnswers, portals: OpenPortals) {
    this.#statements = statements;
    this.#answers = answers;
    this.#portals = portals;
  }

  async execute(part: ExecutePart, step: Step): Promise<PartOutcome> {
    const portal = this.#portals.named(part.portal);
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
        this.#answers.tag(tagOfPart(place.tag, 0));
        return "done";
      default:
        return assertNever(place, "place of a portal");
    }
  }

  /** For the first time, and the last: from here on it has a place. */
  async #run(portal: Portal, { maxRows }: ExecutePart, step: Step): Promise<PartOutcome> {
    const { statement } = portal;
    const { effects } = statement;
    const { context } = step;
    if (isOfSession(effects)) {
      const statements = this.#statements;
      const tag = await runOfSession(statement.sql, effects, { statements, context });
      portal.place = { kind: "ended", tag, hasRows: false };
      this.#answers.tag(tag);
      return "done";
    }
    this.#answers.sendTag();
    // What was executed before it in the pipeline may have made the table.
    const router = await this.#statements.router(context);
    const route = await this.#route(portal, router, context);
    if (maxRows > 0 && isOfOne(route) && !isOfCursor(effects)) {
      await this.#openNow(portal, step);
      if (portal.place.kind === "server") await this.#executeOn(portal.place, maxRows);
      return "done";
    }
    this.#statements.begin(context, step.isOneTransaction || maxRows > 0 ? "BEGIN" : null);
    const { cursors, sink } = this.#statements;
    const room = LARGEST_HELD_BYTES - cursors.heldBytes - this.#portals.heldBytes;
    const collector = maxRows > 0 && effects.kind !== "copy" ? new RowCollector(room, sink) : null;
    const shown = collector ?? new DescribedSink(sink, portal.wantsDescription);
    const isCopy = isCopyIn(route);
    let outcome: StatementOutcome;
    try {
      outcome = await this.#runOn(portal, shown, { ...step, router, route });
    } catch (error) {
      if (isCopy && this.#statements.hasAskedForData) throw new FailedInCopy(error);
      // Of a statement of ours a server said it.
      if (error instanceof StatementFailed && !isJudgedByItsRun(route))
        throw new StatementFailed(error.frame);
      throw error;
    }
    if (outcome.kind === "refusedByGate") return "refusedByGate";
    if (collector === null) this.#ended(portal, outcome.tag, shown);
    else this.#hold(portal, outcome.tag, { rows: collector.take(), maxRows });
    portal.wantsDescription = false;
    return isCopy && this.#statements.hasAskedForData ? "tookRest" : "done";
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

  #ended(portal: Portal, tag: string, sink: ClientSink): void {
    const hasRows = sink instanceof DescribedSink && sink.hasRows;
    portal.place = { kind: "ended", tag, hasRows };
    this.#answers.tag(tag);
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
    if (portal.wantsDescription) this.#answers.add(hasRows ? rows.description : NO_DATA);
    if (hasRows) {
      portal.place = { kind: "held", rows, tag };
      this.#portals.share(portal);
      this.#give(rows, tag, maxRows);
    } else {
      portal.place = { kind: "ended", tag, hasRows };
      this.#answers.tag(tag);
    }
  }

  /** As PostgreSQL: who gets as many as they asked for is not told whether there are more. */
  #give(rows: HeldRows, tag: string, maxRows: number): void {
    const given = rows.next(maxRows);
    this.#answers.add(Buffer.concat(given));
    if (maxRows > 0 && given.length === maxRows) this.#answers.add(PORTAL_SUSPENDED);
    else this.#answers.tag(tagOfPart(tag, given.length));
  }

  /** A portal that does not run at once: where one server will do all of it, that is where it is from here on. */
  async open(portal: Portal, step: Step): Promise<void> {
    const { statement, bind } = portal;
    const route = portal.route(await this.#statements.router(step.context));
    const name = bind.portal === "" ? `sluice_portal_${++this.#lastPortal}` : bind.portal;
    if (isOfOne(route) && !isOfCursor(statement.effects)) {
      const shard = this.#statements.shardOf(route);
      this.#statements.noteChanges({ sql: portal.sql, effects: statement.effects }, step.context);
      const written = { ...statement, sql: portal.sql };
      await this.prove({ statement: written, bind, portal: name }, step, shard);
      const server = await this.#statements.transaction.acquire(shard);
      portal.place = { kind: "server", server, name };
      this.#portals.share(portal);
    } else await this.prove({ statement, bind, portal: "" }, step);
  }

  async #openNow(portal: Portal, step: Step): Promise<void> {
    const { wantsDescription } = portal;
    portal.wantsDescription = false;
    await this.open(portal, step);
    const { place } = portal;
    if (!wantsDescription || place.kind !== "server") return;
    const describe = encodeDescribe({ target: "portal", name: place.name });
    await this.#answers.relay(place.server, describe, { kind: "describe" });
  }

  /** A cursor's own rows, by the name of its portal. */
  async #executeCursor({ portal: name, maxRows }: ExecutePart): Promise<void> {
    const cursor = this.#portals.cursor(name);
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
    await this.#answers.relay(server, encodeExecute({ portal: name, maxRows }), {
      kind: "execute",
    });
  }

  /** @throws StatementFailed with the server's error */
  async prove(
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
}

/** What goes to the shards as it is, in the extended protocol: they say themselves which message they refuse. */
export function isJudgedByItsRun({ kind }: Route): boolean {
  return kind === "one" || kind === "any" || kind === "many" || kind === "split" || kind === "draw";
}

function isOfOne(route: Route): route is Extract<Route, { kind: "one" | "any" }> {
  return route.kind === "one" || route.kind === "any";
}

function isCopyIn(route: Route): boolean {
  return route.kind === "copyIn" || (route.kind === "replayed" && route.plan.kind === "copied");
}

function requestOf({ statement, bind }: Portal, sql: string): StatementRequest {
  const { parameterFormats, parameters, resultFormats } = bind.values;
  return {
    ...{ protocol: "extended", sql, parameterTypes: statement.parameterTypes },
    ...{ parameterFormats, parameters, resultFormats, wantsDescription: true },
  };
}
