import type { SqlClient } from "../../backend/sql-client.js";
import { quoteIdentifier, quoteQualified } from "../../core/identifier.js";
import { ensureOrigin, setupOrigin } from "../../replication/origin.js";
import { waitUntilVisible } from "../../replication/slot.js";
import { LaneTaken } from "../../replication/stream-errors.js";
import { columnText, type Tuple, tupleTexts } from "../../replication/tuple.js";
import { NOT_A_KEY, shardOfText } from "../../topology/hash.js";
import type { EngineContext } from "../context.js";
import type { SessionUse, Sides } from "../control/sides.js";
import {
  type MigrationRef,
  names,
  otherSide,
  type StreamNumber,
  streamFrom,
  type TablePlan,
} from "../model/migration.js";
import { emitMarker, type LaneWatch, openLaneWatch, type StreamInput } from "./lane-watch.js";
import { batchLockName } from "./lanes/lane-session.js";
import { readRows } from "./source-reader.js";

export interface SettleResult {
  readonly settledKeys: number;
  /** Keys that cannot be settled now, in words: on two shards, or against another unique constraint. */
  readonly conflicts: readonly string[];
}

/** Its own, so that settled rows carry an origin of ours and do not return (R34). */
export function settleOriginName(ref: MigrationRef, stream: StreamNumber, toShard: number): string {
  return `${names.origin(ref, stream, 0, toShard)}_settle`;
}

interface AsideRow {
  readonly schema_name: string;
  readonly table_name: string;
  readonly key: readonly string[];
  readonly is_settled: boolean;
}

const SETTLE: SessionUse = { purpose: "settle", lockTimeoutMs: 5_000 };
/** A purpose of its own, as its sessions must be there before the pause: a lock must not eat it (R28). */
const SETTLE_IN_PAUSE: SessionUse = { purpose: "switch settle", lockTimeoutMs: 500 };
const MARKER_TIMEOUT_MS = 10_000;
/** Lanes of the shard stand still meanwhile. */
const QUIET_TIMEOUT_MS = 2_000;

/**
 * R33: decides the keys that the lanes could not, from the rows as the from-shards have them now. Exactly one
 * shard has the row: it is written; none: it is deleted; more: it stays aside, named. The row's snapshots are
 * kept with it: later changes that they have are skipped by the lanes, all others applied.
 *
 * Any number of runs: they take turns at each to-shard, and what is settled is not settled again.
 * @throws what the servers say; nothing of the shard that failed has been settled then
 */
export async function settleAside(
  context: EngineContext,
  sides: Sides,
  input: StreamInput,
): Promise<SettleResult> {
  const to = otherSide(streamFrom(input.stream));
  const writers = await sides.sessions(to, SETTLE);
  const asides = await readAsides(writers, input);
  // The usual case: the from-side is not troubled.
  if (asides.every((rows) => rows.length === 0)) return NOTHING;
  const readers = await sides.sessions(otherSide(to), SETTLE);
  const lanes = await openLaneWatch(context, sides, input);
  const sessions = { writers, readers, lanes };
  return await settle(context, { ...input, ...sessions, sides, asides, deadlineAtMs: Infinity });
}

/** What settlement needs of the servers, there before it begins. */
export interface SettleSessions {
  /** By to-shard. */
  readonly writers: readonly SqlClient[];
  /** By from-shard. */
  readonly readers: readonly SqlClient[];
  readonly lanes: LaneWatch;
}

/** @returns sessions for `settleWithin`, opened before the pause begins */
export async function openSettlement(
  sides: Sides,
  input: StreamInput & { readonly lanes: LaneWatch },
): Promise<SettleSessions> {
  const to = otherSide(streamFrom(input.stream));
  const [writers, readers] = await Promise.all([
    sides.sessions(to, SETTLE_IN_PAUSE),
    sides.sessions(otherSide(to), SETTLE_IN_PAUSE),
  ]);
  return { writers, readers, lanes: input.lanes };
}

/**
 * `settleAside` inside a pause: opens nothing, waits for nothing beyond the deadline, and for no lock longer
 * than the pause may.
 * @param input `deadlineAtMs` by `performance.now()`
 */
export async function settleWithin(
  context: EngineContext,
  sides: Sides,
  input: StreamInput & { readonly sessions: SettleSessions; readonly deadlineAtMs: number },
): Promise<SettleResult> {
  const { sessions, ...rest } = input;
  const asides = await readAsides(sessions.writers, input);
  if (asides.every((rows) => rows.length === 0)) return NOTHING;
  return await settle(context, { ...rest, ...sessions, sides, asides });
}

const NOTHING: SettleResult = { settledKeys: 0, conflicts: [] };

interface SettleWork extends StreamInput, SettleSessions {
  readonly sides: Sides;
  /** By to-shard. */
  readonly asides: readonly (readonly AsideRow[])[];
  readonly deadlineAtMs: number;
}

async function settle(context: EngineContext, work: SettleWork): Promise<SettleResult> {
  if (!(await passJointMarker(work)))
    return { settledKeys: 0, conflicts: ["the lanes do not pass a marker now"] };
  const results: SettleResult[] = [];
  for (const [toShard, writer] of work.writers.entries()) {
    const aside = work.asides[toShard] ?? [];
    const shard = new ShardSettlement(context, { ...work, toShard, writer });
    await shard.forget(aside.filter((row) => row.is_settled));
    results.push(await shard.settle(aside.filter((row) => !row.is_settled)));
  }
  return {
    settledKeys: results.reduce((sum, result) => sum + result.settledKeys, 0),
    conflicts: results.flatMap((result) => result.conflicts),
  };
}

async function readAsides(
  writers: readonly SqlClient[],
  input: StreamInput,
): Promise<readonly (readonly AsideRow[])[]> {
  return await Promise.all(writers.map((writer) => readAside(writer, input)));
}

function msLeft(deadlineAtMs: number): number {
  return Math.max(0, deadlineAtMs - performance.now());
}

async function readAside(client: SqlClient, input: StreamInput): Promise<readonly AsideRow[]> {
  const { rows } = await client.query<AsideRow>(
    `SELECT schema_name, table_name, key, settled_at IS NOT NULL AS is_settled
     FROM sluice.aside WHERE migration = $1 AND stream = $2`,
    [input.ref.id, input.stream],
  );
  return rows;
}

/** All lanes past one point in each from-shard: what was settled before it is behind them for good. */
async function passJointMarker(work: SettleWork): Promise<boolean> {
  const message = { migration: work.ref.id, kind: "probe", token: "settle" } as const;
  const lsns = await Promise.all(work.readers.map((reader) => emitMarker(reader, message)));
  const timeoutMs = Math.min(MARKER_TIMEOUT_MS, msLeft(work.deadlineAtMs));
  return (await work.lanes.waitPast(lsns, timeoutMs)).kind === "past";
}

interface SettlementWork extends SettleWork {
  readonly toShard: number;
  readonly writer: SqlClient;
}

/** The keys of one to-shard. */
class ShardSettlement {
  readonly #context: EngineContext;
  readonly #work: SettlementWork;

  constructor(context: EngineContext, work: SettlementWork) {
    this.#context = context;
    this.#work = work;
  }

  /** Settled before the marker that all lanes have passed: no change that its snapshots have can come now. */
  async forget(rows: readonly AsideRow[]): Promise<void> {
    const { writer, ref, stream } = this.#work;
    for (const row of rows)
      await writer.query(
        `DELETE FROM sluice.aside WHERE migration = $1 AND stream = $2 AND schema_name = $3
           AND table_name = $4 AND key = $5 AND settled_at IS NOT NULL`,
        [ref.id, stream, row.schema_name, row.table_name, row.key],
      );
  }

  async settle(rows: readonly AsideRow[]): Promise<SettleResult> {
    if (rows.length === 0) return { settledKeys: 0, conflicts: [] };
    const { writer } = this.#work;
    try {
      await this.#takeOrigin();
      await writer.query("SET session_replication_role = replica");
      await writer.query("BEGIN");
      const result = await this.#settleLocked(rows);
      await this.#context.announce("stream.beforeSettleCommit");
      await writer.query("COMMIT");
      await writer.query("SELECT pg_replication_origin_session_reset()");
      return result;
    } catch (error) {
      // In the middle of a transaction, with an origin set: the next run shall get another session.
      await writer[Symbol.asyncDispose]();
      throw error;
    } finally {
      for (const reader of this.#work.readers) await reader.query("ROLLBACK").catch(() => {});
    }
  }

  async #takeOrigin(): Promise<void> {
    const { ref, stream, toShard, writer } = this.#work;
    const origin = settleOriginName(ref, stream, toShard);
    await ensureOrigin(writer, origin);
    const lsn = await setupOrigin(writer, origin);
    if (lsn === null) throw new LaneTaken(`another settlement of shard ${toShard} is running`);
  }

  /**
   * The lock first: no lane writes here from now on. Then the wait: every change that a lane has dropped for
   * being aside is visible to the snapshots that come after (R1's edge, once more).
   */
  async #settleLocked(rows: readonly AsideRow[]): Promise<SettleResult> {
    const { writer, readers } = this.#work;
    await writer.query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", [
      batchLockName(this.#work),
    ]);
    const timeoutMs = Math.min(QUIET_TIMEOUT_MS, msLeft(this.#work.deadlineAtMs));
    const waiting = { timeoutMs, signal: this.#context.signal };
    const late = (await Promise.all(readers.map((reader) => waitUntilVisible(reader, waiting))))
      .filter((one) => one !== null)
      .join("; ");
    if (late !== "") return { settledKeys: 0, conflicts: [`waiting for ${late}`] };
    const snapshots = await Promise.all(readers.map(beginSnapshot));
    const conflicts: string[] = [];
    let settledKeys = 0;
    for (const plan of this.#work.sides.spec.tables) {
      const keys = rows
        .filter((row) => row.schema_name === plan.schema && row.table_name === plan.name)
        .map((row) => row.key);
      if (keys.length === 0) continue;
      const outcome = await this.#settleTable(plan, { keys, snapshots });
      conflicts.push(...outcome.conflicts);
      settledKeys += outcome.settledKeys;
    }
    return { settledKeys, conflicts };
  }

  async #settleTable(
    plan: TablePlan,
    input: {
      readonly keys: readonly (readonly string[])[];
      readonly snapshots: readonly string[];
    },
  ): Promise<SettleResult> {
    const found = await this.#readOwners(plan, input.keys);
    const conflicts: string[] = [];
    let settledKeys = 0;
    for (const key of input.keys) {
      if (msLeft(this.#work.deadlineAtMs) === 0) {
        conflicts.push(`keys of ${plan.schema}.${plan.name} were left: the time is over`);
        break;
      }
      const rows = found.get(JSON.stringify(key)) ?? [];
      if (rows.length > 1) {
        conflicts.push(`a key of ${plan.schema}.${plan.name} is on ${rows.length} shards`);
        await this.#noteConflict(plan, key, `it is on ${rows.length} shards`);
        continue;
      }
      const isWritten = await this.#writeOnce(plan, { key, row: rows[0] ?? null });
      if (!isWritten) {
        conflicts.push(`a row of ${plan.schema}.${plan.name} meets another unique value`);
        await this.#noteConflict(plan, key, "its row meets another unique value");
        continue;
      }
      await this.#markSettled(plan, key, input.snapshots);
      settledKeys++;
    }
    return { settledKeys, conflicts };
  }

  /** For SHOW EVIDENCE, which names the key beside it; what is returned names none (R56). */
  async #noteConflict(plan: TablePlan, key: readonly string[], conflict: string): Promise<void> {
    const { ref, stream, writer } = this.#work;
    await writer.query(
      `UPDATE sluice.aside SET conflict = $6
       WHERE migration = $1 AND stream = $2 AND schema_name = $3 AND table_name = $4 AND key = $5`,
      [ref.id, stream, plan.schema, plan.name, key, conflict],
    );
  }

  /** Rows by key over all from-shards; of omnisharded tables the owner's only (R13). */
  async #readOwners(
    plan: TablePlan,
    keys: readonly (readonly string[])[],
  ): Promise<ReadonlyMap<string, readonly Tuple[]>> {
    const found = new Map<string, Tuple[]>();
    const keyIndexes = (plan.keyColumns ?? []).map((name) =>
      plan.columns.findIndex((column) => column.name === name),
    );
    const readers =
      plan.kind === "omnisharded" ? this.#work.readers.slice(0, 1) : this.#work.readers;
    for (const reader of readers)
      for (const row of await readRows(reader, plan, keys)) {
        const name = JSON.stringify(keyIndexes.map((index) => columnText(row, index)));
        found.set(name, [...(found.get(name) ?? []), row]);
      }
    return found;
  }

  /** Deletes what is there and writes the row, if it belongs to this shard. @returns false: unique violation */
  async #writeOnce(
    plan: TablePlan,
    input: { readonly key: readonly string[]; readonly row: Tuple | null },
  ): Promise<boolean> {
    const { writer } = this.#work;
    const table = quoteQualified(plan.schema, plan.name);
    const keyConditions = (plan.keyColumns ?? []).map((name, index) => {
      const type = plan.columns.find((column) => column.name === name)?.type ?? "text";
      return `${quoteIdentifier(name)} = $${index + 1}::text::${type}`;
    });
    await writer.query("SAVEPOINT settle");
    await writer.query(`DELETE FROM ONLY ${table} WHERE ${keyConditions.join(" AND ")}`, [
      ...input.key,
    ]);
    if (input.row === null || !this.#belongsHere(plan, input.row)) return true;
    const columns = plan.columns.map((column) => quoteIdentifier(column.name));
    const values = plan.columns.map((column, index) => `$${index + 1}::text::${column.type}`);
    const inserted = await writer.query(
      `INSERT INTO ${table} (${columns.join(", ")}) OVERRIDING SYSTEM VALUE
       VALUES (${values.join(", ")}) ON CONFLICT DO NOTHING`,
      tupleTexts(input.row).map((value) => value ?? null),
    );
    if (inserted.rowCount === 1) return true;
    await writer.query("ROLLBACK TO SAVEPOINT settle");
    return false;
  }

  #belongsHere(plan: TablePlan, row: Tuple): boolean {
    if (plan.kind === "omnisharded" || plan.shardingType === null) return true;
    const index = plan.columns.findIndex((column) => column.name === plan.shardingColumn);
    const text = columnText(row, index);
    if (typeof text !== "string") return false;
    const { sides, stream, toShard } = this.#work;
    const { shardCount } = sides.spec[otherSide(streamFrom(stream))];
    const shard = shardOfText(text, plan.shardingType, shardCount);
    return shard !== NOT_A_KEY && shard === toShard;
  }

  async #markSettled(
    plan: TablePlan,
    key: readonly string[],
    snapshots: readonly string[],
  ): Promise<void> {
    const { ref, stream, writer } = this.#work;
    await writer.query(
      `UPDATE sluice.aside SET settled_at = clock_timestamp(), snapshots = $6
       WHERE migration = $1 AND stream = $2 AND schema_name = $3 AND table_name = $4 AND key = $5`,
      [ref.id, stream, plan.schema, plan.name, key, [...snapshots]],
    );
  }
}

/** One snapshot for all that is read on this shard. */
async function beginSnapshot(reader: SqlClient): Promise<string> {
  await reader.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  const { rows } = await reader.query<{ snapshot: string }>(
    "SELECT pg_current_snapshot()::text AS snapshot",
  );
  return rows[0]?.snapshot ?? "";
}
