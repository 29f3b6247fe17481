import { LSN_ZERO, type Lsn } from "../../../core/lsn.js";
import { RowEvidence } from "../../../core/row-evidence.js";
import type { Log } from "../../../observe/log.js";
import { describeTable } from "../../../replication/apply/applied-table.js";
import type { LogicalMessage, PgoutputHandler, Relation } from "../../../replication/pgoutput.js";
import { StreamMalformed, StreamUnsupportedChange } from "../../../replication/stream-errors.js";
import {
  COLUMN_TEXT,
  columnAt,
  columnText,
  fillUnchanged,
  type Tuple,
} from "../../../replication/tuple.js";
import { NOT_A_KEY, shardOfTextBytes } from "../../../topology/hash.js";
import {
  type MarkerMessage,
  MESSAGE_PREFIX,
  type MigrationRef,
  namesOldShard,
  ORIGIN_PREFIX,
  type TablePlan,
} from "../../model/migration.js";
import type { LaneChange, LaneQueue, SourceTransaction } from "./lane-change.js";

/** A lane as the router sees it. */
export interface RoutedLane {
  readonly queue: LaneQueue;
  /** Changes of transactions that commit before are in the lane already. */
  readonly skipBeforeLsn: Lsn;
  /** R34: everything is dropped until the start marker. The router clears it. */
  isStandby: boolean;
}

/** A column as the server describes it now; the stream must say the same. */
export interface ColumnShape {
  readonly name: string;
  readonly typeOid: number;
  readonly typeModifier: number;
}

export interface RoutedTable {
  readonly plan: TablePlan;
  readonly shape: readonly ColumnShape[];
}

export interface RouterOptions {
  readonly ref: MigrationRef;
  readonly fromShard: number;
  readonly fromShardCount: number;
  readonly tables: readonly RoutedTable[];
  readonly lanes: readonly RoutedLane[];
  readonly log: Log;
  /** Bytes queued for a lane; the lane gives them back. */
  readonly onQueued: (bytes: number) => void;
  /** A source transaction has been read to its end. */
  readonly onCommit: (endLsn: Lsn) => void;
}

interface KnownTable {
  readonly index: number;
  readonly plan: TablePlan;
  /** Position of the sharding column; -1: omnisharded. */
  readonly shardingColumn: number;
  /** R9: false where an old row is its key and nothing else. */
  readonly namesOldShard: boolean;
}

const ALL_SHARDS = -1;

const NO_TRANSACTION: SourceTransaction = { xid: 0, finalLsn: LSN_ZERO };

/**
 * Sends each change to the lanes of the shards that its row belongs to. One pass, in the order of the
 * stream, synchronous: a change is a few positions in bytes that stay where they are.
 */
export class ChangeRouter implements PgoutputHandler {
  readonly #options: RouterOptions;
  readonly #relations = new Map<number, KnownTable>();
  readonly #planned: ReadonlyMap<string, number>;
  readonly #touched: boolean[];
  #transaction = NO_TRANSACTION;
  #isDropped = false;
  #isStart = false;
  #isUrgent = false;
  #isInTransaction = false;
  /** Of the message that is being decoded. */
  messageBytes = 0;

  constructor(options: RouterOptions) {
    this.#options = options;
    this.#touched = options.lanes.map(() => false);
    this.#planned = new Map(
      options.tables.map(({ plan }, index) => [`${plan.schema}.${plan.name}`, index]),
    );
  }

  get isInTransaction(): boolean {
    return this.#isInTransaction;
  }

  begin(finalLsn: Lsn, _commitTime: bigint, xid: number): void {
    this.#transaction = { xid, finalLsn };
    this.#isInTransaction = true;
    this.#isDropped = false;
    this.#isStart = false;
    this.#isUrgent = false;
    this.#touched.fill(false);
  }

  commit(endLsn: Lsn, commitTime: bigint): void {
    this.#isInTransaction = false;
    this.#options.lanes.forEach((lane, index) => {
      if (this.#transaction.finalLsn < lane.skipBeforeLsn) return;
      const isStart = this.#isStart && lane.isStandby;
      const boundary = { kind: "commit", endLsn, commitTime, isStart } as const;
      if (isStart) lane.isStandby = false;
      else if (lane.isStandby) return;
      if (isStart || this.#isUrgent || this.#touched[index]) lane.queue.commit(boundary);
      else lane.queue.pass(boundary);
    });
    this.#options.onCommit(endLsn);
  }

  /** R34: what our lanes wrote must not return to where it came from. */
  origin(name: string): void {
    if (name.startsWith(ORIGIN_PREFIX)) this.#isDropped = true;
  }

  message(message: LogicalMessage): void {
    if (message.prefix !== MESSAGE_PREFIX || !message.isTransactional) return;
    const marker = parseMarker(message.content);
    if (marker?.migration !== this.#options.ref.id) return;
    this.#isUrgent = true;
    if (marker.kind === "start") this.#isStart = true;
  }

  /** @throws StreamUnsupportedChange when the table is not as it was planned */
  relation(relation: Relation): void {
    const name = `${relation.schema}.${relation.name}`;
    const index = this.#planned.get(name);
    const table = index === undefined ? undefined : this.#options.tables[index];
    if (index === undefined || !table)
      throw new StreamUnsupportedChange(`the stream carries table ${name}, which does not move`, {
        hint: "Sluice's publication was changed, or a table was renamed. Abort the migration and start again.",
      });
    const difference = differenceOf(relation, table);
    if (difference !== null)
      throw new StreamUnsupportedChange(`table ${name} was changed while it moves: ${difference}`, {
        hint: "Undo the change before traffic is switched, or abort the migration and start again.",
      });
    const { plan } = table;
    const shardingColumn =
      plan.kind === "omnisharded"
        ? -1
        : plan.columns.findIndex((column) => column.name === plan.shardingColumn);
    const known = { index, plan, shardingColumn, namesOldShard: namesOldShard(plan) };
    this.#relations.set(relation.id, known);
  }

  insert(relationId: number, bytes: Buffer, newAt: number): void {
    const known = this.#known(relationId);
    if (this.#isIgnored(known)) return;
    const row = { bytes, at: newAt };
    const change = {
      kind: "insert",
      transaction: this.#transaction,
      table: known.index,
      row,
    } as const;
    this.#send(change, this.#shardOfNew(known, row));
  }

  delete(relationId: number, bytes: Buffer, oldAt: number): void {
    const known = this.#known(relationId);
    if (this.#isIgnored(known)) return;
    const match = { bytes, at: oldAt };
    const change = {
      kind: "delete",
      transaction: this.#transaction,
      table: known.index,
      match,
    } as const;
    this.#send(change, this.#shardOfOld(known, match));
  }

  update(
    relationId: number,
    bytes: Buffer,
    oldAt: number,
    isOldWhole: boolean,
    newAt: number,
  ): void {
    const known = this.#known(relationId);
    if (this.#isIgnored(known)) return;
    const sent = { bytes, at: newAt };
    const old = oldAt < 0 ? null : { bytes, at: oldAt };
    const row = old === null ? sent : fillFromOld(sent, old, isOldWhole ? null : known.plan);
    const match = old ?? row;
    const newShard = this.#shardOfNew(known, row);
    const oldShard = old === null ? newShard : this.#shardOfOld(known, old);
    const transaction = this.#transaction;
    const table = known.index;
    if (oldShard === newShard) {
      this.#send({ kind: "update", transaction, table, match, row }, newShard);
      return;
    }
    // The row moves: away from one shard, to another. Or its key does, and who has the old one is not said.
    this.#send({ kind: "delete", transaction, table, match }, oldShard);
    this.#send({ kind: "insert", transaction, table, row }, newShard);
  }

  /** @throws StreamUnsupportedChange always, unless every lane drops it anyway */
  truncate(relationIds: readonly number[]): void {
    const names = relationIds.map((id) => describeTable(this.#known(id).plan));
    const { lanes } = this.#options;
    const isDropped = (lane: RoutedLane) =>
      lane.isStandby || this.#transaction.finalLsn < lane.skipBeforeLsn;
    if (this.#isDropped || lanes.every(isDropped)) return;
    throw new StreamUnsupportedChange(`TRUNCATE of moving tables: ${names.join(", ")}`, {
      hint: "Sluice does not stream TRUNCATE yet; use DELETE while a migration runs. STOP_TASK: before the switch to begin again, after it to finalize, as the way back is over.",
    });
  }

  #known(relationId: number): KnownTable {
    const known = this.#relations.get(relationId);
    if (!known) throw new StreamMalformed(`relation ${relationId} was not described`);
    return known;
  }

  /** R13: an omnisharded table has the same rows on every shard; shard 0's changes count. */
  #isIgnored(known: KnownTable): boolean {
    return this.#isDropped || (known.shardingColumn < 0 && this.#options.fromShard !== 0);
  }

  #shardOfOld(known: KnownTable, old: Tuple): number {
    return known.namesOldShard ? this.#shardOf(known, old) : ALL_SHARDS;
  }

  /**
   * R9: where the key alone names a row, its home is what keeps the deletes of two from-shards apart. A row whose
   * home is another shard would be deleted by no stream.
   */
  #shardOfNew(known: KnownTable, row: Tuple): number {
    const { fromShard, fromShardCount, lanes } = this.#options;
    if (!known.namesOldShard && fromShardCount > 1) {
      const { plan } = known;
      if (this.#shardOf(known, row, fromShardCount) !== fromShard)
        throw new StreamUnsupportedChange(
          `a row of ${describeTable(plan)} on shard ${fromShard} routes to another shard by its "${plan.shardingColumn ?? ""}"`,
          {
            evidence: evidenceOf(plan, row),
            hint: "Clients of the proxy do not see it there. Move or delete it, then abort the migration and start again.",
          },
        );
    }
    return this.#shardOf(known, row, lanes.length);
  }

  #shardOf(known: KnownTable, row: Tuple, shardCount = this.#options.lanes.length): number {
    const { plan, shardingColumn } = known;
    if (shardingColumn < 0) return ALL_SHARDS;
    const at = columnAt(row, shardingColumn);
    if (row.bytes[at] !== COLUMN_TEXT)
      throw new StreamUnsupportedChange(
        `a row of ${describeTable(plan)} has no sharding key ("${plan.shardingColumn ?? ""}" is NULL)`,
        {
          evidence: evidenceOf(plan, row),
          hint: "No shard would hold it. Give the row a key, then abort the migration and start again.",
        },
      );
    const end = at + 5 + row.bytes.readUInt32BE(at + 1);
    const shard = shardOfTextBytes(
      row.bytes,
      at + 5,
      end,
      plan.shardingType ?? "varchar",
      shardCount,
    );
    if (shard !== NOT_A_KEY) return shard;
    throw new StreamUnsupportedChange(
      `a row of ${describeTable(plan)} has a sharding key that is no ${plan.shardingType ?? ""}`,
      { evidence: evidenceOf(plan, row) },
    );
  }

  #send(change: LaneChange, shard: number): void {
    if (shard === ALL_SHARDS)
      for (let lane = 0; lane < this.#options.lanes.length; lane++) this.#push(change, lane);
    else this.#push(change, shard);
  }

  #push(change: LaneChange, index: number): void {
    const lane = this.#options.lanes[index];
    if (!lane || lane.isStandby || change.transaction.finalLsn < lane.skipBeforeLsn) return;
    this.#touched[index] = true;
    lane.queue.push(change, this.messageBytes);
    this.#options.onQueued(this.messageBytes);
  }
}

/** A row that has no shard, by its replica identity. */
function evidenceOf(plan: TablePlan, row: Tuple): RowEvidence {
  const columns = plan.columns.flatMap(({ name, inIdentity }, index) =>
    inIdentity ? [`${name} = ${columnText(row, index) ?? "NULL"}`] : [],
  );
  return new RowEvidence(columns.join(", "));
}

/** @param keysOf the plan when `old` holds the identity's columns only, null when it is the whole row */
function fillFromOld(row: Tuple, old: Tuple, keysOf: TablePlan | null): Tuple {
  return fillUnchanged(row, old, (index) => keysOf?.columns[index]?.inIdentity ?? true);
}

function parseMarker(content: string): Partial<MarkerMessage> | null {
  try {
    const value: unknown = JSON.parse(content);
    return typeof value === "object" && value !== null ? value : null;
  } catch {
    return null;
  }
}

const IDENTITY_LETTER = { default: "d", index: "i", full: "f" } as const;

/** What is not as planned, in words; null when all is. */
function differenceOf(relation: Relation, table: RoutedTable): string | null {
  const { plan, shape } = table;
  const streamed = relation.columns.map((column) => column.name).join(", ");
  const planned = plan.columns.map((column) => column.name).join(", ");
  if (streamed !== planned) return `its columns are (${streamed}), planned were (${planned})`;
  if (relation.identity !== IDENTITY_LETTER[plan.identity])
    return `its replica identity is "${relation.identity}", planned was ${plan.identity}`;
  for (const [index, column] of relation.columns.entries()) {
    const now = shape[index];
    if (now?.typeOid !== column.typeOid || now.typeModifier !== column.typeModifier)
      return `the type of column "${column.name}" is another`;
    if (column.isKey !== plan.columns[index]?.inIdentity)
      return `column "${column.name}" ${column.isKey ? "is" : "is not"} in its replica identity now`;
  }
  return null;
}
