import { SQLSTATE } from "../../core/sqlstate.js";
import type { ParameterValues } from "../../router/key-value.js";
import type { Route } from "../../router/route.js";
import { classify } from "../../sql/classify.js";
import { encodeCommandComplete, READY } from "../../wire/backend.js";
import { encodeQuery } from "../../wire/frontend.js";
import type { DecodedRequest } from "../execution/decoded-request.js";
import type { ExecutionContext, Handled } from "../execution/executor.js";
import { effectsOf, isOfSession, type StatementEffects } from "../execution/statement-effects.js";
import { StatementRefused } from "../session-errors.js";
import { type CursorStatement, isOfCursor, runOfCursor } from "./cursors.js";
import { type DrawContext, withDrawnValues } from "./drawn-values.js";
import type { StatementRequest } from "./scatter/contract.js";
import { runOfSession } from "./session-statements.js";
import type { ShardedStatements, StatementOutcome } from "./statements.js";

const NO_PARAMETERS: ParameterValues = { values: [], formats: [], typeOids: [] };

/** The simple protocol over several shards: a text for one shard passes through as it is. */
export class SimpleProtocol {
  readonly #statements: ShardedStatements;

  constructor(statements: ShardedStatements) {
    this.#statements = statements;
  }

  /** @param isFresh nothing of the transaction has run before */
  async handle(
    { sql, frame, effects }: Extract<DecodedRequest, { kind: "query" }>,
    context: ExecutionContext,
    isFresh: boolean,
  ): Promise<Handled> {
    const [only] = effects;
    if (!only || only.kind === "several") return await this.#several(sql, context);
    const { state } = this.#statements;
    const wasBegun = state.transaction !== "none";
    if (isOfSession(only)) {
      const tag = await runOfSession(sql, only, { statements: this.#statements, context });
      return await this.#end([tag], context);
    }
    if (isOfCursor(only)) {
      const router = await this.#statements.router(context);
      const outcome = await this.#ofCursor(sql, { context, router, effects: only, isFresh });
      if (outcome.kind === "refusedByGate") return this.#statements.backOff(wasBegun);
      return await this.#end([outcome.tag], context);
    }
    const planned = await this.#statements.plan(sql, NO_PARAMETERS, context);
    const { route: first, router } = planned;
    // What came without a Sync before it is in a transaction that is not the client's, and ends with this.
    const isOfOurs = !wasBegun && this.#statements.transaction.isBegun;
    if ((first.kind === "one" || first.kind === "any") && !isOfOurs) {
      this.#statements.begin(context, null);
      const passed = {
        protocol: "simple",
        statements: [{ sql: planned.sql, effects: only }],
        isFresh,
      } as const;
      const shard = this.#statements.shardOf(first);
      const server = await this.#statements.attach(shard, passed, context);
      server.unnamedStatement = null;
      server.send(planned.sql === sql ? frame : encodeQuery(planned.sql));
      const outcome = await this.#statements.relay.outcome();
      return await this.#statements.settle(outcome, { context, wasBegun });
    }
    const { sql: text, route } = await this.#drawn(planned.sql, first, { context, router });
    const outcome = await this.#statements.run(requestOf(text), {
      context,
      route,
      effects: only,
      isFresh,
    });
    if (outcome.kind === "refusedByGate") return this.#statements.backOff(wasBegun);
    return await this.#end([outcome.tag], context);
  }

  /** Several statements in one text are one transaction, unless they say otherwise; that is refused. */
  async #several(text: string, context: ExecutionContext): Promise<Handled> {
    const { state, sink } = this.#statements;
    const statements = classify(text).map(({ start, end }) => {
      const sql = text.slice(start, end);
      return { sql, effects: effectsOf(sql) };
    });
    for (const { effects } of statements)
      if (/^(begin|commit|rollback|twoPhase)$/.test(effects.kind))
        throw new StatementRefused(
          SQLSTATE.featureNotSupported,
          "transaction control among other statements on a sharded database",
          { hint: "Send BEGIN, COMMIT and ROLLBACK by themselves." },
        );
    if (state.transaction === "none") this.#statements.begin(context, "BEGIN");
    let tag: string | null = null;
    for (const each of statements) {
      if (tag !== null) sink.write(encodeCommandComplete(tag));
      const outcome = await this.#oneOfSeveral(each, context);
      tag = outcome.kind === "complete" ? outcome.tag : null;
    }
    return await this.#end(tag === null ? [] : [tag], context);
  }

  async #oneOfSeveral(
    { sql, effects }: { readonly sql: string; readonly effects: StatementEffects },
    context: ExecutionContext,
  ): Promise<StatementOutcome> {
    const statements = this.#statements;
    if (isOfSession(effects)) {
      const tag = await runOfSession(sql, effects, { statements, context });
      return { kind: "complete", tag };
    }
    // The one before it may have made the table.
    if (isOfCursor(effects)) {
      const router = await statements.router(context);
      return await this.#ofCursor(sql, { context, router, effects, isFresh: false });
    }
    const planned = await statements.plan(sql, NO_PARAMETERS, context);
    const { router } = planned;
    const { sql: text, route } = await this.#drawn(planned.sql, planned.route, { context, router });
    return await statements.run(requestOf(text), { context, route, effects, isFresh: false });
  }

  async #ofCursor(sql: string, at: Omit<CursorStatement, "parameters">): Promise<StatementOutcome> {
    const { context } = at;
    this.#statements.begin(context, null);
    return await runOfCursor(this.#statements, requestOf(sql), {
      ...at,
      parameters: NO_PARAMETERS,
    });
  }

  async #drawn(sql: string, planned: Route, at: Omit<DrawContext, "statements" | "parameters">) {
    const { context, router } = at;
    const parameters = NO_PARAMETERS;
    const statements = this.#statements;
    return await withDrawnValues(sql, planned, { statements, context, router, parameters });
  }

  async #end(tags: readonly string[], context: ExecutionContext): Promise<Handled> {
    await this.#statements.commitImplicit(context);
    const { status, sink } = this.#statements;
    sink.write(Buffer.concat([...tags.map(encodeCommandComplete), READY[status]]));
    return status === "I" ? "idle" : "open";
  }
}

function requestOf(sql: string): StatementRequest {
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
