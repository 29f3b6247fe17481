import { SQLSTATE } from "../../core/sqlstate.js";
import type { ParameterValues } from "../../router/key-value.js";
import type { Router } from "../../router/router.js";
import { parse } from "../../sql/parser.js";
import type { ShardId } from "../../topology/topology.js";
import { BACKEND } from "../../wire/backend.js";
import { Framer } from "../../wire/framer.js";
import type { ExecutionContext } from "../execution/executor.js";
import type { StatementEffects } from "../execution/statement-effects.js";
import { StatementRefused } from "../session-errors.js";
import { withDrawnValues } from "./drawn-values.js";
import { type Cursor, LARGEST_CURSORS_BYTES, type OpenCursors } from "./open-cursors.js";
import type { ClientSink, StatementRequest } from "./scatter/contract.js";
import { ScatterLimitExceeded } from "./scatter/scatter-errors.js";
import type { ShardedStatements, StatementOutcome } from "./statements.js";

export interface CursorStatement {
  readonly context: ExecutionContext;
  readonly router: Router;
  readonly parameters: ParameterValues;
  readonly effects: StatementEffects;
  readonly isFresh: boolean;
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
    if (/\bbinary\b/i.test(options)) throw refused("a BINARY cursor over several shards");
    if (/(?<!no\s+)\bscroll\b/i.test(options)) throw refused("a SCROLL cursor over several shards");
    const statements = this.#statements;
    const settled = await withDrawnValues(query, planned, { ...at, statements });
    const sink = new CursorRows(LARGEST_CURSORS_BYTES - this.#open.heldBytes);
    const outcome = await statements.run(
      { ...request, sql: settled.sql, resultFormats: [], wantsDescription: true },
      { ...at, route: settled.route, sink },
    );
    if (outcome.kind !== "complete") return outcome;
    const madeIn = isOpen ? statements.transaction.number : null;
    this.#open.set(name, { kind: "rows", ...sink.take(), isHeld, next: 0, madeIn });
    return { kind: "complete", tag: "DECLARE CURSOR" };
  }

  async #fetch(request: StatementRequest, at: CursorStatement): Promise<StatementOutcome> {
    const fetch = fetchOf(request.sql);
    const cursor = this.#named(fetch.name);
    if (cursor.kind === "server") return await this.#onShard(request, at, cursor.shard);
    if (fetch.isBackward || fetch.count === 0)
      throw refused("FETCH in another direction than forward from a cursor over several shards");
    if (request.resultFormats.includes(1))
      throw refused("values in binary from a cursor over several shards");
    const end = Math.min(cursor.rows.length, cursor.next + fetch.count);
    const rows = cursor.rows.slice(cursor.next, end);
    cursor.next = end;
    const tag = `${fetch.isMove ? "MOVE" : "FETCH"} ${rows.length}`;
    if (fetch.isMove) return { kind: "complete", tag };
    const { sink } = this.#statements;
    if (request.wantsDescription) sink.write(cursor.description);
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

/** Takes the answer of the cursor's query in the client's place. */
class CursorRows implements ClientSink {
  readonly #framer = new Framer();
  readonly #limit: number;
  readonly #rows: Buffer[] = [];
  #description: Buffer = Buffer.alloc(0);
  #bytes = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Past the limit rows are dropped: `take` says so. */
  write(frames: Buffer): boolean {
    this.#framer.push(frames);
    while (this.#framer.next()) {
      const { type, buffer, start, end } = this.#framer;
      if (type === BACKEND.rowDescription)
        this.#description = Buffer.from(buffer.subarray(start, end));
      if (type !== BACKEND.dataRow) continue;
      this.#bytes += end - start;
      if (this.#bytes <= this.#limit) this.#rows.push(Buffer.from(buffer.subarray(start, end)));
    }
    return true;
  }

  async drained(): Promise<void> {}

  /** @throws ScatterLimitExceeded when there were more than could be held */
  take(): {
    readonly description: Buffer;
    readonly rows: readonly Buffer[];
    readonly bytes: number;
  } {
    if (this.#bytes > this.#limit)
      throw new ScatterLimitExceeded("rows of cursors over several shards", LARGEST_CURSORS_BYTES);
    return { description: this.#description, rows: this.#rows, bytes: this.#bytes };
  }
}

interface Fetch {
  readonly name: string;
  readonly count: number;
  readonly isBackward: boolean;
  readonly isMove: boolean;
}

function fetchOf(sql: string): Fetch {
  const parsed = parse(sql);
  const [statement] = parsed.kind !== "parsed" ? [] : parsed.statements;
  if (statement === undefined || !("FetchStmt" in statement))
    throw refused("this form of FETCH on a sharded database");
  const { direction, howMany, portalname, ismove } = statement.FetchStmt;
  return {
    name: portalname ?? "",
    count: Number(howMany ?? 0),
    isBackward: (direction ?? "FETCH_FORWARD") !== "FETCH_FORWARD" || Number(howMany ?? 0) < 0,
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
    hint: "Fetch forward, in text; or name the sharding key, so that one shard has all the rows.",
  });
}
