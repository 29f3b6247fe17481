import { type SqlClient, sqlStateOf } from "../../../backend/sql-client.js";
import type { SluiceError } from "../../../core/errors.js";
import { quoteLiteral } from "../../../core/identifier.js";
import { formatLsn, type Lsn } from "../../../core/lsn.js";
import { RowEvidence } from "../../../core/row-evidence.js";
import type { AppliedTable } from "../../../replication/apply/applied-table.js";
import { type Attempt, TableBatch } from "../../../replication/apply/table-batch.js";
import { TableWriter } from "../../../replication/apply/table-writer.js";
import { takeOutDoubles, type UniqueRule } from "../../../replication/apply/unique-rules.js";
import {
  LaneRowExists,
  LaneRowMissing,
  StreamUnsupportedChange,
} from "../../../replication/stream-errors.js";
import { columnText, fillUnchanged, hasUnchanged, type Tuple } from "../../../replication/tuple.js";
import type { EngineContext } from "../../context.js";
import { evidenceOf, markWritten } from "../../control/evidence.js";
import type { TablePlan } from "../../model/migration.js";
import { AsideKeys } from "./aside.js";
import { isInRange, type RangeMap } from "./copied-ranges.js";
import type { LaneBoundary, LaneChange, LaneItem, LaneQueue } from "./lane-change.js";
import { batchLockName, type LaneSession } from "./lane-session.js";

/** One table of the migration as a lane needs it. */
export interface LaneTable {
  readonly plan: TablePlan;
  readonly applied: AppliedTable;
  /** Other lanes write the same table of this shard, without a common order (R33). */
  readonly isShared: boolean;
  /** What the lane cannot decide is set aside: the table is shared, or its key moves without a word (R9). */
  readonly isTolerant: boolean;
  /** Constraints that PostgreSQL does not check here, and that two shards may each have kept. */
  readonly unchecked: readonly UniqueRule[];
  /** R1: null where nothing was copied (streams after the first), or all of it is behind us. */
  readonly ranges: RangeMap | null;
}

export interface LaneOptions {
  readonly session: LaneSession;
  readonly queue: LaneQueue;
  readonly tables: readonly LaneTable[];
  /** R1: transactions that commit here or later are in no range. */
  readonly judgeUntilLsn: Lsn;
  /** The source's position when this run began, and no predecessor could fetch any more. */
  readonly startedAtLsn: Lsn;
  /** The row as the source has it now, whole; null when it is gone (R12). */
  readonly fetchRow: (table: number, row: Tuple) => Promise<FetchedRow>;
  /** Everything before is durable here. */
  readonly onDurable: (lsn: Lsn) => void;
  /** Bytes of the budget that are free again. */
  readonly onTaken: (bytes: number) => void;
}

export interface FetchedRow {
  readonly row: Tuple | null;
  /** Of the source: it has seen nothing that commits at or after this. */
  readonly asOfLsn: Lsn;
}

/**
 * Applies what the decoder queued for one lane: many source transactions in one of its own, with the origin's
 * position and the lane's row in the same commit (R15). Dies anywhere: the next one reads the position from
 * the origin and gets again what was not committed, nothing else.
 */
export class Lane {
  readonly #context: EngineContext;
  readonly #options: LaneOptions;
  readonly #client: SqlClient;
  readonly #writers: readonly TableWriter[];
  readonly #batches: readonly TableBatch[];
  readonly #aside: AsideKeys;
  /** R12: before this a row may hold a large value of the next row that gets its key, see `#complete`. */
  #mixedUntilLsn: Lsn;
  /** By table: rows that the batch brings to a table with `unchecked` rules. */
  readonly #fresh: Tuple[][];
  #isOpen = false;
  #changeCount = 0;

  constructor(context: EngineContext, options: LaneOptions) {
    this.#mixedUntilLsn = options.startedAtLsn;
    this.#context = context;
    this.#options = options;
    this.#client = options.session.client;
    this.#aside = new AsideKeys(options.session.id);
    this.#batches = options.tables.map((table) => new TableBatch(table.applied));
    this.#fresh = options.tables.map(() => []);
    this.#writers = options.tables.map(
      (table) => new TableWriter(this.#client, table.applied, { isTolerant: table.isTolerant }),
    );
  }

  /**
   * Runs until the signal aborts.
   * @throws LaneRowMissing, LaneRowExists with the lane marked as stopped; whatever the database said
   */
  async run(signal: AbortSignal): Promise<never> {
    for (;;) {
      const { items, bytes } = await this.#options.queue.take(signal);
      try {
        await this.#apply(items);
      } catch (error) {
        await this.#stopWithEvidence(error);
        throw error;
      }
      this.#options.onTaken(bytes);
    }
  }

  async #apply(items: readonly LaneItem[]): Promise<void> {
    if (!this.#isOpen) await this.#begin();
    let boundary: LaneBoundary | null = null;
    for (const item of items) {
      if (item.kind === "commit") boundary = item;
      else await this.#add(item);
    }
    for (let table = 0; table < this.#batches.length; table++) await this.#flush(table);
    // A part of a large transaction stays open until its end arrives.
    if (boundary !== null && items.at(-1) === boundary) await this.#commit(items, boundary);
  }

  async #begin(): Promise<void> {
    const lock = quoteLiteral(batchLockName(this.#options.session.id));
    // Lanes that share tables take turns: one that deletes a key while the other inserts it, and the other way
    // round with a second key, would wait for each other until deadlock_timeout.
    const take = this.#options.tables.some((table) => table.isShared)
      ? "pg_advisory_xact_lock"
      : "pg_advisory_xact_lock_shared";
    await this.#client.query(`BEGIN; SELECT ${take}(hashtextextended(${lock}, 0))`);
    this.#isOpen = true;
    // Under the lock: settlement is either over, and seen, or has not begun.
    await this.#aside.load(this.#client);
  }

  /** R15: rows, origin and lane row in one commit. The row gives an empty batch an id, or nothing moves. */
  async #commit(items: readonly LaneItem[], boundary: LaneBoundary): Promise<void> {
    const { id } = this.#options.session;
    const isStart = items.some((item) => item.kind === "commit" && item.isStart);
    const lsn = quoteLiteral(formatLsn(boundary.endLsn));
    const start = isStart
      ? `, state = 'applying', start_lsn = coalesce(start_lsn, ${lsn}::pg_lsn)`
      : "";
    await this.#context.announce("stream.beforeCommit");
    // Dividing by the number of rows fails the batch if the lane's row is gone: the stream was dropped.
    await this.#client.query(
      `SELECT pg_replication_origin_xact_setup(${lsn}, ${timestampSql(boundary.commitTime)});
       WITH moved AS (
         UPDATE sluice.lane SET applied_lsn = ${lsn}, batch = batch + 1,
           change_count = change_count + ${this.#changeCount}, updated_at = clock_timestamp(),
           evidence = NULL${start}
         WHERE migration = ${quoteLiteral(id.ref.id)} AND stream = ${id.stream}
           AND from_shard = ${id.fromShard} AND to_shard = ${id.toShard} RETURNING 1)
       SELECT 1 / count(*) FROM moved;
       COMMIT`,
    );
    this.#isOpen = false;
    this.#changeCount = 0;
    await this.#context.announce(isStart ? "stream.afterStartMarker" : "stream.afterCommit");
    this.#options.onDurable(boundary.endLsn);
  }

  /** R3: judged alone first; only what survives is folded. */
  async #add(change: LaneChange): Promise<void> {
    switch (change.kind) {
      case "insert":
        if (this.#isWanted(change, change.row)) await this.#insert(change.table, change.row);
        return;
      case "delete":
        if (this.#isWanted(change, change.match)) this.#delete(change.table, change.match);
        return;
      case "update":
        return await this.#addUpdate(change);
    }
  }

  /** A changed key is a delete judged by the old key's range and an insert judged by the new one's (R3). */
  async #addUpdate(change: LaneChange & { readonly kind: "update" }): Promise<void> {
    const { match, row, table } = change;
    if (this.#isSameKey(table, match, row)) {
      if (!this.#isWanted(change, row)) return;
      this.#update(table, match, row);
      return;
    }
    const isOldWanted = this.#isWanted(change, match);
    const isNewWanted = this.#isWanted(change, row);
    const isMixed = hasUnchanged(row) && change.transaction.finalLsn < this.#mixedUntilLsn;
    if (isOldWanted && isNewWanted && !isMixed) {
      this.#update(table, match, row);
      return;
    }
    if (isOldWanted) this.#delete(table, match);
    if (isNewWanted) await this.#insert(table, row);
  }

  async #insert(table: number, row: Tuple): Promise<void> {
    const whole = hasUnchanged(row) ? await this.#complete(table, row) : row;
    if (whole === null) return;
    this.#changeCount++;
    this.#batch(table).insert(whole);
    this.#noteFresh(table, whole);
  }

  #update(table: number, match: Tuple, row: Tuple): void {
    this.#changeCount++;
    this.#batch(table).update(match, row);
    this.#noteFresh(table, row);
  }

  #noteFresh(table: number, row: Tuple): void {
    if (this.#table(table).unchecked.length > 0) at(this.#fresh, table).push(row);
  }

  #delete(table: number, match: Tuple): void {
    this.#changeCount++;
    this.#batch(table).delete(match);
  }

  /**
   * R12: a row comes to us without its unchanged TOAST values. The source's present ones are as good: a newer
   * one is right in the end. Gone there: a later change removes this key, so it is set aside until then.
   *
   * The present ones may be those of another row, which has got the key since. They must not go on with this row:
   * until the lane is where the source was, a row that leaves a key takes no value along that it was not sent.
   *
   * R9: where a key moves without a word such a row is settled like all that move.
   */
  async #complete(table: number, row: Tuple): Promise<Tuple | null> {
    const { plan, applied } = this.#table(table);
    if (!applied.isKeyOnly) {
      const { row: now, asOfLsn } = await this.#options.fetchRow(table, row);
      if (asOfLsn > this.#mixedUntilLsn) this.#mixedUntilLsn = asOfLsn;
      if (now !== null) return fillUnchanged(row, now, () => true);
    }
    const key = keyOf(applied, row);
    if (key === null)
      throw new StreamUnsupportedChange(
        `a row of ${plan.schema}.${plan.name} moved without its large values, and the table has no key to read them by`,
      );
    await this.#flush(table);
    await this.#aside.setAside(this.#client, { plan, keys: [key], reason: "toast" });
    return null;
  }

  /** False: a copied range has it already (R1), or the key is set aside (R33). */
  #isWanted(change: LaneChange, row: Tuple): boolean {
    const { plan, applied, ranges } = this.#table(change.table);
    const { xid, finalLsn } = change.transaction;
    if (ranges !== null && finalLsn < this.#options.judgeUntilLsn) {
      const column = plan.columns.findIndex(({ name }) => name === plan.rangeColumn);
      const range = ranges.find(column < 0 ? "" : (columnText(row, column) ?? ""));
      if (range !== null && isInRange(range, xid)) return false;
    }
    if (this.#aside.isEmpty) return true;
    const key = keyOf(applied, row);
    return key === null || this.#aside.judge(plan, key, xid) === "apply";
  }

  #isSameKey(table: number, match: Tuple, row: Tuple): boolean {
    const columns = this.#table(table).applied.keyColumns;
    return columns?.every((index) => columnText(match, index) === columnText(row, index)) ?? true;
  }

  async #flush(table: number): Promise<void> {
    const batch = this.#batch(table);
    const writer = this.#writers[table];
    if (batch.isEmpty || !writer) return;
    const { plan, applied, isTolerant } = this.#table(table);
    const unmet = await batch.flush(writer, isTolerant ? this.#attempt : null);
    for (const reason of ["missing", "exists"] as const) {
      const rows = unmet.filter((one) => one.reason === reason).flatMap((one) => one.rows);
      const keys = rows.flatMap((row) => [keyOf(applied, row)].filter((key) => key !== null));
      await this.#aside.setAside(this.#client, { plan, keys, reason });
    }
    await this.#checkFresh(table);
  }

  /**
   * R33 for constraints that PostgreSQL does not check here: the value may be another shard's, for ever or until
   * that shard's lane comes to the change that gives it up. Settlement knows.
   */
  async #checkFresh(table: number): Promise<void> {
    const rows = at(this.#fresh, table).splice(0);
    if (rows.length === 0) return;
    const { plan, applied, unchecked: rules } = this.#table(table);
    const keys = rows.flatMap((row) => [keyOf(applied, row)].filter((key) => key !== null));
    const taken = await takeOutDoubles(this.#client, applied, { rules, keys });
    await this.#aside.setAside(this.#client, { plan, keys: taken, reason: "exists" });
  }

  /** A unique violation sets keys aside; the savepoint keeps the rest of the batch. */
  readonly #attempt: Attempt = async (work) => {
    await this.#client.query("SAVEPOINT attempt");
    try {
      const value = await work();
      await this.#client.query("RELEASE SAVEPOINT attempt");
      return { value };
    } catch (error) {
      if (!(error instanceof LaneRowExists)) throw error;
      await this.#client.query("ROLLBACK TO SAVEPOINT attempt; RELEASE SAVEPOINT attempt");
      return null;
    }
  };

  /**
   * R17: the lane stops and says why, where everybody can read it. The batch is rolled back. What the server
   * refused for another reason may be right next time, so only its row is noted.
   */
  async #stopWithEvidence(error: unknown): Promise<void> {
    const isStop = error instanceof LaneRowMissing || error instanceof LaneRowExists;
    const stop = isStop || error instanceof StreamUnsupportedChange ? error : null;
    if (stop !== null || evidenceOf(error) !== undefined)
      await noteOnLane(this.#client, this.#options.session, { stop, evidence: evidenceOf(error) });
  }

  #batch(table: number): TableBatch {
    return at(this.#batches, table);
  }

  #table(table: number): LaneTable {
    return at(this.#options.tables, table);
  }
}

function at<T>(list: readonly T[], index: number): T {
  const item = list[index];
  if (item === undefined) throw new RangeError(`no table ${index}`);
  return item;
}

/** Texts of the key; null: the table has none. */
export function keyOf(table: AppliedTable, row: Tuple): readonly string[] | null {
  return table.keyColumns?.map((index) => columnText(row, index) ?? "") ?? null;
}

/** Marks a lane as stopped, so that no successor goes on before a person has looked. */
export async function stopLane(
  client: SqlClient,
  session: LaneSession,
  error: SluiceError,
): Promise<void> {
  await noteOnLane(client, session, { stop: error, evidence: evidenceOf(error) });
}

/** R56: the row that it is about has a column of its own, which no status and no error reads. */
async function noteOnLane(
  client: SqlClient,
  { id }: LaneSession,
  note: { readonly stop: SluiceError | null; readonly evidence: RowEvidence | undefined },
): Promise<void> {
  const { stop, evidence } = note;
  // A text of PostgreSQL's holds no NUL.
  const text = evidence === undefined ? null : RowEvidence.open(evidence).replaceAll("\0", "");
  try {
    await client.query("ROLLBACK");
    await client.query(
      `UPDATE sluice.lane SET evidence = $5, stopped_code = coalesce($6, stopped_code),
         stopped_reason = coalesce($7, stopped_reason),
         state = CASE WHEN $6::text IS NULL THEN state ELSE 'stopped' END,
         updated_at = clock_timestamp()
       WHERE migration = $1 AND stream = $2 AND from_shard = $3 AND to_shard = $4`,
      [
        ...[id.ref.id, id.stream, id.fromShard, id.toShard],
        ...[text, stop?.code ?? null, stop?.message ?? null],
      ],
    );
    if (evidence !== undefined) markWritten(evidence);
  } catch (failure) {
    // Without the mark the successor meets the same change and stops with it.
    if (sqlStateOf(failure) !== null) throw failure;
  }
}

/** Microseconds since 2000, exactly: a double would round them. */
function timestampSql(microseconds: bigint): string {
  return `'2000-01-01 00:00:00+00'::timestamptz + ${microseconds} * interval '1 microsecond'`;
}
