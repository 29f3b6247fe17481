import { SQLSTATE } from "../../core/sqlstate.js";
import type { ParameterValues } from "../../router/key-value.js";
import type { Router } from "../../router/router.js";
import { parse } from "../../sql/parser.js";
import type { ShardId } from "../../topology/topology.js";
import type { ExecutionContext } from "../execution/executor.js";
import type { StatementEffects } from "../execution/statement-effects.js";
import { StatementRefused } from "../session-errors.js";
import { withDrawnValues } from "./drawn-values.js";
import { LARGEST_HELD_BYTES, type Movement, RowCollector } from "./held-rows.js";
import type { Cursor, OpenCursors } from "./open-cursors.js";
import type { ClientSink, StatementRequest } from "./scatter/contract.js";
import type { ShardedStatements, StatementOutcome } from "./statements.js";

export interface CursorStatement {
  readonly context: ExecutionContext;
  readonly router: Router;
  readonly parameters: ParameterValues;
  readonly effects: StatementEffects;
  readonly isFresh: boolean;
  /** Who takes description and rows; absent: the client. */
  readonly sink?: ClientSink;
}

/** DECLARE, FETCH, MOVE and CLOSE. */
export function isOfCursor({ kind }: StatementEffects): boolean {
  return kind === "declare" || kind === "fetch" || kind === "closeCursor";
}

const DECLARE =
  /^\s*declare\s+("(?:[^"]|"")+"|[\w$\u0080-\uffff]+)\s+((?:(?:binary|insensitive|asensitive|no|scroll)\s+)*)cursor\s+(?:(with|without)\s+hold\s+)?for\s+(.*)$/is;

/** As `ShardedStatements.run`, for what `isOfCursor`. */
export async function runOfCursor(
  statements: ShardedStatements,
  request: StatementRequest,
  at: CursorStatement,
): Promise<StatementOutcome> {
  return await new CursorRun(statements).run(request, at);
}

/** One statement about cursors. */
class CursorRun {
  readonly #statements: ShardedStatements;
  readonly #open: OpenCursors;

  constructor(statements: ShardedStatements) {
    this.#statements = statements;
    this.#open = statements.cursors;
  }

  async run(request: StatementRequest, at: CursorStatement): Promise<StatementOutcome> {
    this.#open.forgetOthersThan(this.#statements.transaction.number);
    switch (at.effects.kind) {
      case "declare":
        return await this.#declare(request, at);
      case "fetch":
        return await this.#fetch(request, at);
      default:
        return await this.#close(request, at);
    }
  }

  async #declare(request: StatementRequest, at: CursorStatement): Promise<StatementOutcome> {
    const match = DECLARE.exec(request.sql);
    if (match === null) throw refused("this form of DECLARE on a sharded database");
    const [, written = "", options = "", hold = "", query = ""] = match;
    const name = nameOf(written);
    const isHeld = hold.toLowerCase() === "with";
    const isOpen = this.#statements.state.transaction !== "none";
    if (this.#open.get(name))
      throw new StatementRefused(SQLSTATE.duplicateCursor, `cursor "${name}" already exists`);
    if (!isHeld && !isOpen && !this.#statements.transaction.isBegun)
      throw new StatementRefused(
        SQLSTATE.noActiveSqlTransaction,
        "DECLARE CURSOR can only be used in transaction blocks",
      );
    const planned = at.router.route(query, at.parameters);
    const isOfOne = planned.kind === "one" || planned.kind === "any";
    if (!isHeld && isOfOne) {
      this.#statements.begin(at.context, null);
      const shard = this.#statements.shardOf(planned);
      const outcome = await this.#onShard(request, at, shard);
      if (outcome.kind === "complete") {
        const madeIn = this.#statements.transaction.number;
        this.#open.set(name, { kind: "server", shard, madeIn });
      }
      return outcome;
    }
    const statements = this.#statements;
    const settled = await withDrawnValues(query, planned, { ...at, statements });
    const sink = new RowCollector(LARGEST_HELD_BYTES - this.#open.heldBytes, statements.sink);
    const resultFormats = /\bbinary\b/i.test(options) ? [1] : [];
    const outcome = await statements.run(
      { ...request, protocol: "extended", sql: settled.sql, resultFormats, wantsDescription: true },
      { ...at, route: settled.route, sink },
    );
    if (outcome.kind !== "complete") return outcome;
    const madeIn = isOpen ? statements.transaction.number : null;
    const isForward = /\bno\s+scroll\b/i.test(options);
    this.#open.set(name, { kind: "rows", rows: sink.take(), isHeld, isForward, madeIn });
    return { kind: "complete", tag: "DECLARE CURSOR" };
  }

  async #fetch(request: StatementRequest, at: CursorStatement): Promise<StatementOutcome> {
    const fetch = fetchOf(request.sql);
    const cursor = this.#named(fetch.name);
    if (cursor.kind === "server") return await this.#onShard(request, at, cursor.shard);
    if (request.resultFormats.includes(1))
      throw refused("values in binary from a cursor over several shards");
    if (cursor.isForward && cursor.rows.goesBack(fetch))
      throw new StatementRefused(
        SQLSTATE.objectNotInPrerequisiteState,
        "cursor can only scan forward",
        { hint: "Declare it with SCROLL option to enable backward scan." },
      );
    const rows = cursor.rows.move(fetch);
    const tag = `${fetch.isMove ? "MOVE" : "FETCH"} ${rows.length}`;
    if (fetch.isMove) return { kind: "complete", tag };
    const { sink = this.#statements.sink } = at;
    if (request.wantsDescription) sink.write(cursor.rows.description);
    if (rows.length > 0 && !sink.write(Buffer.concat(rows))) await sink.drained();
    return { kind: "complete", tag };
  }

  async #close(request: StatementRequest, at: CursorStatement): Promise<StatementOutcome> {
    const name = closedName(request.sql);
    if (name === null) {
      for (const shard of this.#open.shards) await this.#onShard(request, at, shard);
      this.#open.closeAll();
      return { kind: "complete", tag: "CLOSE CURSOR ALL" };
    }
    const cursor = this.#named(name);
    const closed = { kind: "complete", tag: "CLOSE CURSOR" } as const;
    const outcome =
      cursor.kind === "server" ? await this.#onShard(request, at, cursor.shard) : closed;
    this.#open.delete(name);
    return outcome;
  }

  async #onShard(
    request: StatementRequest,
    at: CursorStatement,
    shard: ShardId,
  ): Promise<StatementOutcome> {
    const route = { kind: "one", shard, isWrite: false } as const;
    return await this.#statements.run(request, { ...at, route });
  }

  #named(name: string): Cursor {
    const cursor = this.#open.get(name);
    if (cursor) return cursor;
    throw new StatementRefused(SQLSTATE.invalidCursorName, `cursor "${name}" does not exist`);
  }
}

interface Fetch extends Movement {
  readonly name: string;
  readonly isMove: boolean;
}

const DIRECTIONS: Readonly<Record<string, Movement["direction"]>> = {
  FETCH_FORWARD: "forward",
  FETCH_BACKWARD: "backward",
  FETCH_ABSOLUTE: "absolute",
  FETCH_RELATIVE: "relative",
};

/** ALL is the largest number there, and the smallest the other way round. */
const ALL_ROWS = 2 ** 62;

/** Of FETCH or MOVE. @throws StatementRefused */
export function fetchOf(sql: string): Fetch {
  const parsed = parse(sql);
  const [statement] = parsed.kind !== "parsed" ? [] : parsed.statements;
  if (statement === undefined || !("FetchStmt" in statement))
    throw refused("this form of FETCH on a sharded database");
  const { direction, howMany, portalname, ismove } = statement.FetchStmt;
  const count = Number(howMany ?? 0);
  return {
    name: portalname ?? "",
    direction: DIRECTIONS[direction ?? "FETCH_FORWARD"] ?? "forward",
    count: Math.abs(count) >= ALL_ROWS ? Math.sign(count) * Number.POSITIVE_INFINITY : count,
    isMove: ismove === true,
  };
}

/** null: ALL. */
function closedName(sql: string): string | null {
  const parsed = parse(sql);
  const [statement] = parsed.kind !== "parsed" ? [] : parsed.statements;
  if (statement === undefined || !("ClosePortalStmt" in statement))
    throw refused("this form of CLOSE on a sharded database");
  return statement.ClosePortalStmt.portalname ?? null;
}

function nameOf(written: string): string {
  return written.startsWith('"')
    ? written.slice(1, -1).replaceAll('""', '"')
    : written.toLowerCase();
}

function refused(what: string): StatementRefused {
  return new StatementRefused(SQLSTATE.featureNotSupported, what, {
    hint: "Fetch in text; or name the sharding key, so that one shard has all the rows.",
  });
}
