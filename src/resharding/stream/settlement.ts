import type { SqlClient } from "../../backend/sql-client.js";
import type { AppliedTable } from "../../replication/apply/applied-table.js";
import { type Attempt, insertRows } from "../../replication/apply/table-batch.js";
import { TableWriter } from "../../replication/apply/table-writer.js";
import {
  findHolder,
  type Holder,
  readUniqueRules,
  takeOutDoubles,
  type UniqueRule,
} from "../../replication/apply/unique-rules.js";
import { ensureOrigin, setupOrigin } from "../../replication/origin.js";
import { waitUntilVisible } from "../../replication/slot.js";
import { LaneRowExists, LaneTaken } from "../../replication/stream-errors.js";
import { columnText, encodeTuple, type Tuple } from "../../replication/tuple.js";
import { NOT_A_KEY, shardOfText } from "../../topology/hash.js";
import type { EngineContext } from "../context.js";
import type { Sides } from "../control/sides.js";
import {
  type MigrationRef,
  names,
  otherSide,
  type StreamNumber,
  streamFrom,
  type TablePlan,
} from "../model/migration.js";
import { type AsideRow, noteConflict, noteSnapshots, readUnsettled } from "./aside-store.js";
import type { LaneWatch, StreamInput } from "./lane-watch.js";
import { asideName } from "./lanes/aside.js";
import { batchLockName } from "./lanes/lane-session.js";
import { uncheckedOf } from "./lanes/lane-tables.js";
import { readRows } from "./source-reader.js";

export interface SettleResult {
  readonly settledKeys: number;
  /** Why keys are left, in words: on two shards, against another unique constraint, or not now. */
  readonly conflicts: readonly string[];
}

/** What settlement needs of the servers, there before it begins. */
export interface SettleSessions {
  /** By to-shard. */
  readonly writers: readonly SqlClient[];
  /** By from-shard. */
  readonly readers: readonly SqlClient[];
  readonly lanes: LaneWatch;
}

export interface SettleWork extends StreamInput, SettleSessions {
  readonly sides: Sides;
  /** By `performance.now()`. */
  readonly deadlineAtMs: number;
}

/** Lanes of all shards stand still meanwhile. */
const QUIET_TIMEOUT_MS = 500;
/** Of each shard, for the same reason. */
const KEYS_AT_ONCE = 5_000;

/** Its own, so that settled rows carry an origin of ours and do not return (R34). */
export function settleOriginName(ref: MigrationRef, stream: StreamNumber, toShard: number): string {
  return `${names.origin(ref, stream, 0, toShard)}_settle`;
}

/** R1's edge: what lanes may have met is visible to snapshots from now on. @returns whom it waited for in vain */
export async function untilVisible(
  readers: readonly SqlClient[],
  waiting: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<string> {
  const late = await Promise.all(readers.map((reader) => waitUntilVisible(reader, waiting)));
  return late.filter((one) => one !== null).join("; ");
}

export function notNow(reason: string): SettleResult {
  return { settledKeys: 0, conflicts: [reason] };
}

export function msLeft({ deadlineAtMs }: SettleWork, atMostMs: number): number {
  return Math.min(atMostMs, Math.max(0, deadlineAtMs - performance.now()));
}

/** Keys of one table, by `asideName`. */
type Keys = ReadonlyMap<string, AsideRow>;
/** Rows of the from-side that belong to one to-shard, by `asideName` of their keys. */
type OwnedRows = ReadonlyMap<string, readonly Tuple[]>;

/**
 * One settlement: the keys that are aside on any to-shard, on all of them, from the same snapshots. A row that has
 * moved without a word to where it was found missing lies on another to-shard still, which may have noticed nothing
 * (R9); so every shard deletes it, writes it if it belongs there, and judges it by these snapshots from then on.
 *
 * Each to-shard commits by itself. Dies between two commits: the key has no `settled_at` on any shard before
 * `markSettled`, so it counts as aside, and the next settlement does all of it again, with younger snapshots. What
 * lanes did meanwhile on the shards that had committed, those snapshots have.
 */
export class Settlement {
  readonly #context: EngineContext;
  readonly #work: SettleWork;

  constructor(context: EngineContext, work: SettleWork) {
    this.#context = context;
    this.#work = work;
  }

  /**
   * @returns with the snapshots once every shard has committed; null: nothing was settled
   * @throws with the sessions in any state: they must be closed
   */
  async run(): Promise<SettleResult & { readonly snapshots: readonly string[] | null }> {
    const { writers } = this.#work;
    await Promise.all(writers.map((writer, toShard) => this.#begin(writer, toShard)));
    const outcome = await this.#settleLocked();
    await this.#context.announce("stream.beforeSettleCommit");
    for (const [toShard, writer] of writers.entries()) {
      if (toShard > 0) await this.#context.announce("stream.betweenSettleCommits");
      await writer.query("COMMIT");
      await writer.query("SELECT pg_replication_origin_session_reset()");
    }
    return outcome;
  }

  /** With the lock no lane writes here any more. */
  async #begin(writer: SqlClient, toShard: number): Promise<void> {
    const { ref, stream } = this.#work;
    const origin = settleOriginName(ref, stream, toShard);
    await ensureOrigin(writer, origin);
    if ((await setupOrigin(writer, origin)) === null)
      throw new LaneTaken(`another settlement of shard ${toShard} is running`);
    await writer.query("SET session_replication_role = replica");
    await writer.query("BEGIN");
    await writer.query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", [
      batchLockName({ ref, stream, toShard }),
    ]);
  }

  /**
   * The wait once more: every change that a lane has dropped for being aside, or made to a row that is replaced now,
   * is visible to the snapshots that come after.
   */
  async #settleLocked(): Promise<SettleResult & { readonly snapshots: readonly string[] | null }> {
    const { readers, sides } = this.#work;
    const timeoutMs = msLeft(this.#work, QUIET_TIMEOUT_MS);
    const late = await untilVisible(readers, { timeoutMs, signal: this.#context.signal });
    if (late !== "") return { ...notNow(`waiting for ${late}`), snapshots: null };
    const { keys: aside, hasMore } = await this.#readAside();
    const snapshots = await Promise.all(readers.map(beginSnapshot));
    const conflicts: string[] = hasMore ? ["there are more keys than are settled at once"] : [];
    let settledKeys = 0;
    for (const plan of sides.spec.tables) {
      const keys = aside.get(`${plan.schema}.${plan.name}`);
      if (!keys) continue;
      if (msLeft(this.#work, 1) === 0) {
        conflicts.push(`keys of ${plan.schema}.${plan.name} were left: the time is over`);
        continue;
      }
      const outcome = await this.#settleTable(plan, { keys, snapshots });
      conflicts.push(...outcome.conflicts);
      settledKeys += outcome.settledKeys;
    }
    return { settledKeys, conflicts, snapshots };
  }

  /** What is aside on any shard, by "schema.table". */
  async #readAside(): Promise<{
    readonly keys: ReadonlyMap<string, Keys>;
    readonly hasMore: boolean;
  }> {
    const found = new Map<string, Map<string, AsideRow>>();
    const lists = await Promise.all(
      this.#work.writers.map((writer) =>
        readUnsettled(writer, { ...this.#work, limit: KEYS_AT_ONCE }),
      ),
    );
    for (const row of lists.flat()) {
      const table = `${row.schema_name}.${row.table_name}`;
      const keys = found.get(table) ?? new Map<string, AsideRow>();
      found.set(table, keys);
      keys.set(asideName({ schema: row.schema_name, name: row.table_name }, row.key), row);
    }
    return { keys: found, hasMore: lists.some(({ length }) => length === KEYS_AT_ONCE) };
  }

  async #settleTable(
    plan: TablePlan,
    input: { readonly keys: Keys; readonly snapshots: readonly string[] },
  ): Promise<SettleResult> {
    const owned = await this.#readOwned(plan, input.keys);
    const what = `(${plan.keyColumns?.join(", ") ?? ""}) of ${plan.schema}.${plan.name}`;
    const left = new Map(input.keys);
    const conflicts: string[] = [];
    for (const [toShard, rows] of owned.entries())
      for (const [name, { length }] of rows) {
        if (length < 2 || !left.has(name)) continue;
        conflicts.push(
          `a key ${what} is on ${length} shards, and both rows are for shard ${toShard}`,
        );
        await this.#noteConflict(plan, [left.get(name)], `it is on ${length} shards`);
        left.delete(name);
      }
    while (left.size > 0) {
      await this.#onEach((writer) => writer.query("SAVEPOINT settle"));
      const refused = await this.#write(plan, left, owned);
      if (refused.size === 0) break;
      await this.#onEach((writer) => writer.query("ROLLBACK TO SAVEPOINT settle"));
      for (const [name, holder] of refused) {
        const conflict =
          holder === null
            ? "its row meets another unique value"
            : `another row has its value of ${holder.rule.description}`;
        await this.#noteConflict(plan, [left.get(name)], conflict, holder?.key);
        left.delete(name);
        conflicts.push(`a key ${what}: ${conflict}`);
      }
    }
    if (left.size > 0)
      await this.#onEach((writer) =>
        noteSnapshots(writer, {
          ...this.#work,
          rows: [...left.values()],
          snapshots: input.snapshots,
        }),
      );
    return { settledKeys: left.size, conflicts };
  }

  async #onEach(act: (writer: SqlClient, toShard: number) => Promise<unknown>): Promise<void> {
    await Promise.all(this.#work.writers.map(act));
  }

  /** What is returned names no key (R56): SHOW EVIDENCE does. */
  async #noteConflict(
    plan: TablePlan,
    rows: readonly (AsideRow | undefined)[],
    conflict: string,
    holder?: readonly string[],
  ): Promise<void> {
    const keys = rows.flatMap((row) => (row ? [row.key] : []));
    await this.#onEach((writer) =>
      noteConflict(writer, { ...this.#work, plan, keys, conflict, holder }),
    );
  }

  /** Rows of the keys over all from-shards, by to-shard; of omnisharded tables the owner's only (R13). */
  async #readOwned(plan: TablePlan, keys: Keys): Promise<readonly OwnedRows[]> {
    const { writers } = this.#work;
    const owned = writers.map(() => new Map<string, Tuple[]>());
    const readers =
      plan.kind === "omnisharded" ? this.#work.readers.slice(0, 1) : this.#work.readers;
    const texts = [...keys.values()].map((row) => row.key);
    const lists = await Promise.all(readers.map((reader) => readRows(reader, plan, texts)));
    for (const row of lists.flat()) {
      const name = nameOf(plan, row);
      for (const [toShard, rows] of owned.entries())
        if (this.#belongsTo(plan, row, toShard)) rows.set(name, [...(rows.get(name) ?? []), row]);
    }
    return owned;
  }

  #belongsTo(plan: TablePlan, row: Tuple, toShard: number): boolean {
    if (plan.kind === "omnisharded" || plan.shardingType === null) return true;
    const index = plan.columns.findIndex((column) => column.name === plan.shardingColumn);
    const text = columnText(row, index);
    if (typeof text !== "string") return false;
    const { sides, stream } = this.#work;
    const { shardCount } = sides.spec[otherSide(streamFrom(stream))];
    const shard = shardOfText(text, plan.shardingType, shardCount);
    return shard !== NOT_A_KEY && shard === toShard;
  }

  /**
   * Deletes what is there and writes what belongs there.
   * @returns keys whose row another one keeps out, with that one
   */
  async #write(
    plan: TablePlan,
    keys: Keys,
    owned: readonly OwnedRows[],
  ): Promise<ReadonlyMap<string, Holder | null>> {
    const refused = new Map<string, Holder | null>();
    await this.#onEach(async (writer, toShard) => {
      const rows = [...(owned[toShard] ?? [])].flatMap(([name, list]) =>
        keys.has(name) ? list : [],
      );
      const matches = [...keys.values()].map((row) => keyTuple(plan, row.key));
      for (const [row, holder] of await writeRows(writer, plan, { matches, rows }))
        refused.set(nameOf(plan, row), holder);
    });
    return refused;
  }
}

function nameOf(plan: TablePlan, row: Tuple): string {
  return asideName(
    plan,
    keyIndexesOf(plan).map((index) => columnText(row, index) ?? ""),
  );
}

/** Looking for the other row costs a statement or two each, while the lanes stand still. */
const NAMED_HOLDERS = 50;

/** @returns rows that could not be written: another one is there, the one beside it if it was found */
async function writeRows(
  writer: SqlClient,
  plan: TablePlan,
  input: { readonly matches: readonly Tuple[]; readonly rows: readonly Tuple[] },
): Promise<ReadonlyMap<Tuple, Holder | null>> {
  const rules = await readUniqueRules(writer, plan);
  const table = settledTable(plan, rules);
  const written = new TableWriter(writer, table, { isTolerant: true });
  await written.delete(input.matches);
  const attempt = table.isDeferrable ? attemptOn(writer) : null;
  const unmet = await insertRows(input.rows, written, attempt);
  const refused = new Set(unmet.flatMap((one) => one?.rows ?? []));
  const unchecked = uncheckedOf(rules, plan);
  const kept = input.rows.filter((row) => !refused.has(row));
  const keys = kept.map((row) => keyIndexesOf(plan).map((index) => columnText(row, index) ?? ""));
  if (unchecked.length > 0 && keys.length > 0) {
    const taken = await takeOutDoubles(writer, table, { rules: unchecked, keys });
    const names = new Set(taken.map((key) => asideName(plan, key)));
    for (const row of kept) if (names.has(nameOf(plan, row))) refused.add(row);
  }
  const found = new Map<Tuple, Holder | null>();
  for (const row of refused) {
    const isNamed = found.size < NAMED_HOLDERS;
    found.set(row, isNamed ? await findHolder(writer, table, { rules, row }) : null);
  }
  return found;
}

function attemptOn(writer: SqlClient): Attempt {
  return async (work) => {
    await writer.query("SAVEPOINT attempt");
    try {
      const value = await work();
      await writer.query("RELEASE SAVEPOINT attempt");
      return { value };
    } catch (error) {
      if (!(error instanceof LaneRowExists)) throw error;
      await writer.query("ROLLBACK TO SAVEPOINT attempt; RELEASE SAVEPOINT attempt");
      return null;
    }
  };
}

function keyIndexesOf(plan: TablePlan): readonly number[] {
  return (plan.keyColumns ?? []).map((name) =>
    plan.columns.findIndex((column) => column.name === name),
  );
}

function keyTuple(plan: TablePlan, key: readonly string[]): Tuple {
  const indexes = keyIndexesOf(plan);
  return encodeTuple(plan.columns.map((_, index) => key[indexes.indexOf(index)] ?? null));
}

/** Of the key whatever row there is, wherever it came from. */
function settledTable(plan: TablePlan, rules: readonly UniqueRule[]): AppliedTable {
  const keyColumns = keyIndexesOf(plan);
  return {
    schema: plan.schema,
    name: plan.name,
    columns: plan.columns,
    keyColumns,
    matchColumns: keyColumns,
    ownRows: null,
    isKeyOnly: true,
    isDeferrable: rules.some((rule) => rule.isDeferrable),
    isFoldable: false,
    alwaysIdentity: new Set(),
  };
}

/** One snapshot for all that is read on this shard. */
async function beginSnapshot(reader: SqlClient): Promise<string> {
  await reader.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  const { rows } = await reader.query<{ snapshot: string }>(
    "SELECT pg_current_snapshot()::text AS snapshot",
  );
  return rows[0]?.snapshot ?? "";
}
