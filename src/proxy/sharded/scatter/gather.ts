import type { ServerConnection } from "../../../backend/server-connection.js";
import { SQLSTATE } from "../../../core/sqlstate.js";
import { mayBeOfOtherTables } from "../../../core/sqlstate-tables.js";
import type { MergePlan, Route } from "../../../router/route.js";
import type { ShardId } from "../../../topology/topology.js";
import { BACKEND, type ColumnDescription, decodeRowDescription } from "../../../wire/backend.js";
import { decodeErrorFields, encodeThrown } from "../../../wire/error-fields.js";
import type { ScatterInput, ScatterOutcome } from "./contract.js";
import { BinaryCopyOut } from "./copy-out.js";
import { descriptionWithout } from "./hidden-columns.js";
import { AggregateMerge, type Merger, OrderedMerge, PassThrough } from "./mergers.js";
import { Outlet } from "./outlet.js";
import { RowsElsewhere, ScatterLimitExceeded, UnmergeableResult } from "./scatter-errors.js";
import {
  type AnswerHandler,
  type Phase,
  type ShardEnd,
  ShardStatement,
} from "./shard-statement.js";
import { addTags, countOf } from "./tags.js";
import { WrittenOrder } from "./written-order.js";

/** What one shard is sent. */
export interface ShardWork {
  readonly shard: ShardId;
  readonly messages: Buffer;
}

export interface GatherPlan {
  readonly merge: MergePlan;
  readonly rows: "merged" | "first";
  readonly count: "sum" | "first";
  /** Of an INSERT that was taken apart: which of the statement's rows each shard has; null: another statement. */
  readonly places: readonly (readonly number[])[] | null;
  /** Rows that an UPDATE finds elsewhere are an error. */
  readonly home?: Extract<Route, { kind: "many" }>["home"];
  /**
   * One shard after the other. For writes: statements that touch the same rows on several shards then meet
   * on the first one, where PostgreSQL queues them; in parallel they could wait for each other for ever,
   * which no server would see.
   */
  readonly isSequential: boolean;
}

/** Rows of one shard that wait for another's: past this it is not read from. */
const LARGEST_QUEUE_BYTES = 256 * 1024;
/** The same where the others' turn comes only behind it: rows that are locked and sorted. */
const LARGEST_WAIT_BYTES = 64 * 1024 * 1024;

/** Sends a statement to several shards and gives the client one answer. */
export class Gather {
  readonly #input: ScatterInput;
  readonly #plan: GatherPlan;
  readonly #outlet: Outlet;
  readonly #merger: Merger;
  readonly #statements: (ShardStatement | null)[];
  #columns: readonly ColumnDescription[] | null = null;
  #isDescribed = false;
  #copiesOut = false;
  /** In the binary format. */
  #copyOut: BinaryCopyOut | null = null;
  /** Ours or a server's, the first; then rows are dropped. */
  #error: Buffer | null = null;
  /** Of a server's error. */
  #phase: Phase = "execute";
  /** What came before the error is the client's; not where the statement may be done again elsewhere. */
  #isShownToItsError = false;

  constructor(input: ScatterInput, plan: GatherPlan, inlets: number) {
    this.#input = input;
    this.#plan = plan;
    this.#statements = Array.from({ length: inlets }, () => null);
    this.#outlet = new Outlet(input.sink, () => this.#regulate());
    this.#merger =
      plan.places === null
        ? mergerFor(plan.merge, this.#outlet, inlets)
        : new WrittenOrder(this.#outlet, plan.places);
  }

  async run(works: readonly ShardWork[]): Promise<ScatterOutcome> {
    const ends = this.#plan.isSequential
      ? await this.#oneByOne(works)
      : await this.#together(works);
    if (this.#error === null) await this.#finish();
    if (this.#error !== null) {
      if (this.#isShownToItsError) this.#outlet.flush();
      return { kind: "failed", error: this.#error, phase: this.#phase };
    }
    if (this.#copyOut !== null) this.#outlet.write(this.#copyOut.end());
    if (this.#copiesOut) this.#outlet.write(COPY_DONE);
    this.#outlet.flush();
    const tags = ends.map((end) => (end.kind === "complete" ? (end.tags.at(-1) ?? "") : ""));
    const tag = this.#plan.count === "first" ? (tags[0] ?? "") : addTags(tags);
    const { rowCount } = this.#merger;
    return { kind: "complete", tag: rowCount === null ? tag : `SELECT ${rowCount}` };
  }

  async #oneByOne(works: readonly ShardWork[]): Promise<readonly ShardEnd[]> {
    const ends: ShardEnd[] = [];
    for (const [inlet, work] of works.entries()) {
      const connection = await this.#acquire(work.shard);
      if (connection === null) break;
      ends.push(await this.#runOn(connection, inlet, work));
      if (this.#error !== null) break;
    }
    return ends;
  }

  async #together(works: readonly ShardWork[]): Promise<readonly ShardEnd[]> {
    // In the order of the shards, or two statements could each hold what the other waits for.
    const connections: ServerConnection[] = [];
    for (const { shard } of works) {
      const connection = await this.#acquire(shard);
      if (connection === null) return [];
      connections.push(connection);
    }
    return await Promise.all(
      works.map(async (work, inlet) => {
        const connection = connections[inlet];
        return connection === undefined ? NOTHING : await this.#runOn(connection, inlet, work);
      }),
    );
  }

  async #acquire(shard: ShardId): Promise<ServerConnection | null> {
    try {
      return await this.#input.servers.acquire(shard);
    } catch (error) {
      this.#fail(encodeThrown(error));
      return null;
    }
  }

  async #runOn(connection: ServerConnection, inlet: number, work: ShardWork): Promise<ShardEnd> {
    const statement = new ShardStatement(connection, this.#handlerFor(inlet));
    this.#statements[inlet] = statement;
    const end = await statement.run(work.messages);
    if (end.kind === "failed") this.#failOn(end);
    else if (!this.#isElsewhere(work, end)) this.#guard(() => this.#merger.ended(inlet));
    this.#regulate();
    return end;
  }

  #isElsewhere({ shard }: ShardWork, { tags }: Extract<ShardEnd, { kind: "complete" }>): boolean {
    const { home } = this.#plan;
    const rows = countOf(tags.at(-1) ?? "");
    if (home === undefined || shard === home.shard || rows === 0) return false;
    this.#fail(encodeThrown(new RowsElsewhere(rows, home.refusal)));
    return true;
  }

  #handlerFor(inlet: number): AnswerHandler {
    const isSilent = this.#plan.rows === "first" && inlet > 0;
    return {
      description: (frame) => {
        if (!isSilent) this.#guard(() => this.#describe(frame));
      },
      rows: (buffer, start, end) => {
        if (isSilent || this.#error !== null) return;
        this.#guard(() => this.#take(inlet, buffer, start, end));
        this.#regulate();
      },
      notice: (frame) => {
        if (isSilent) return;
        this.#outlet.write(frame);
        this.#outlet.flush();
      },
      copyIn: () => {},
      drained: () => {},
    };
  }

  #take(inlet: number, buffer: Buffer, start: number, end: number): void {
    if (this.#copyOut === null) {
      this.#merger.rows(inlet, buffer, start, end);
      return;
    }
    const frames = this.#copyOut.take(inlet, buffer.subarray(start, end));
    if (frames.length > 0) this.#merger.rows(inlet, frames, 0, frames.length);
  }

  #describe(frame: Buffer): void {
    const { request } = this.#input;
    const type = frame[0];
    if (type === BACKEND.rowDescription) this.#compare(decodeRowDescription(frame));
    if (this.#isDescribed && !(type === BACKEND.copyOutResponse && !this.#copiesOut)) return;
    this.#isDescribed = true;
    if (type === BACKEND.copyOutResponse) {
      this.#copiesOut = true;
      if (frame[FORMAT_AT] === 1) this.#copyOut = new BinaryCopyOut();
    } else if (!request.wantsDescription) return;
    const { hidden = 0 } = this.#plan.merge;
    const isCut = hidden > 0 && type === BACKEND.rowDescription;
    this.#outlet.write(isCut ? descriptionWithout(frame, hidden) : frame);
  }

  /** Types of the application's own have other numbers on each shard; PostgreSQL's own have not. */
  #compare(columns: readonly ColumnDescription[]): void {
    const first = this.#columns;
    if (first === null) {
      this.#expect(columns);
      this.#columns = columns;
      this.#merger.begin(columns);
      return;
    }
    const isSame =
      first.length === columns.length &&
      first.every(({ name, typeId, format }, index) => {
        const other = columns[index];
        const isOwnType = typeId >= FIRST_OWN_TYPE && (other?.typeId ?? 0) >= FIRST_OWN_TYPE;
        return (
          other?.name === name && (other.typeId === typeId || isOwnType) && other.format === format
        );
      });
    if (!isSame) {
      throw new UnmergeableResult(
        "inconsistent row descriptions between shards",
        "Bring the tables of all shards to one definition, or name the columns in the statement.",
      );
    }
  }

  /** The merge counts positions by what `*` stood for when the tables were read. */
  #expect(columns: readonly ColumnDescription[]): void {
    const { columns: names, hidden = 0 } = this.#plan.merge;
    if (!names) return;
    const shown = columns.slice(hidden);
    const isAsPlanned =
      shown.length === names.length &&
      names.every((name, index) => name === null || name === shown[index]?.name);
    if (!isAsPlanned)
      throw new UnmergeableResult(
        "the columns of the rows are not those that the tables had",
        "Repeat the statement: the tables are read anew.",
      );
  }

  /** Holds back the shards whose rows nobody can take now, and lets the others go on. */
  #regulate(): void {
    if (!this.#outlet.isBlocked) this.#guard(() => this.#merger.pump());
    for (const [inlet, statement] of this.#statements.entries()) {
      if (statement === null || statement.isDone) continue;
      const waiting = this.#merger.waitingBytes(inlet);
      if (this.#plan.isSequential && waiting > LARGEST_WAIT_BYTES)
        this.#fail(
          encodeThrown(new ScatterLimitExceeded("rows that wait for a shard", LARGEST_WAIT_BYTES)),
        );
      // One after the other, the next shard begins only when this one has ended.
      const isFull = !this.#plan.isSequential && waiting > LARGEST_QUEUE_BYTES;
      const mustWait = this.#error === null && (this.#outlet.isBlocked || isFull);
      if (mustWait) statement.connection.pause();
      else statement.connection.resume();
    }
  }

  async #finish(): Promise<void> {
    try {
      await this.#merger.finish();
    } catch (error) {
      this.#fail(encodeThrown(error));
    }
  }

  #guard(work: () => void): void {
    if (this.#error !== null) return;
    try {
      work();
    } catch (error) {
      this.#fail(encodeThrown(error));
    }
  }

  #failOn({ error, phase }: Extract<ShardEnd, { kind: "failed" }>): void {
    if (this.#error !== null) return;
    this.#fail(error);
    if (this.#input.request.protocol !== "extended") return;
    this.#phase = phase;
    const fields = decodeErrorFields(error);
    const code = fields.get("C") ?? "";
    const mayBeRepeated = code === SQLSTATE.gateClosed || mayBeOfOtherTables(code, fields.get("n"));
    this.#isShownToItsError = !mayBeRepeated;
  }

  /** The others end at once: nobody waits for what nobody will see. */
  #fail(error: Buffer): void {
    if (this.#error !== null) return;
    this.#error = error;
    const isRunning = this.#statements.some((statement) => statement?.isDone === false);
    if (isRunning) void this.#input.servers.cancel();
  }
}

const NOTHING: ShardEnd = { kind: "complete", tags: [] };
/** FirstNormalObjectId. */
const FIRST_OWN_TYPE = 16_384;
/** Of CopyOutResponse. */
const FORMAT_AT = 5;
const COPY_DONE = Buffer.from([BACKEND.copyDone, 0, 0, 0, 4]);

function mergerFor(merge: MergePlan, outlet: Outlet, inlets: number): Merger {
  if (merge.aggregates !== null) return new AggregateMerge(outlet, merge);
  return merge.orderBy.length > 0
    ? new OrderedMerge(outlet, merge, inlets)
    : new PassThrough(outlet, merge);
}
