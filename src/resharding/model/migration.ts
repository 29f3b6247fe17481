import type { ErrorCode } from "../../core/errors.js";

/**
 * The two clusters of a migration. Fixed when it starts and never exchanged, unlike the database *names*,
 * which a cutover swaps: side "source" is where the rows were at the beginning.
 */
export type Side = "source" | "destination";

export function otherSide(side: Side): Side {
  return side === "source" ? "destination" : "source";
}

/** Everything that a payload needs to name a migration. */
export interface MigrationRef {
  /** 12 hex digits, made once; part of slot, publication, origin and sequence names. */
  readonly id: string;
  /** The configuration's names at the start. */
  readonly source: string;
  readonly destination: string;
  readonly publication: string;
}

/**
 * Streams are numbered by committed switches: 0 feeds the destination, 1 (after the first switch) the
 * source, 2 the destination again. A failed switch attempt does not count, so the number is stable.
 */
export type StreamNumber = number;

/** The side that a stream reads; it writes the other one. */
export function streamFrom(stream: StreamNumber): Side {
  return stream % 2 === 0 ? "source" : "destination";
}

export type TableKind = "sharded" | "omnisharded";

/** How our code repeats the order of a key byte for byte (R5); null: the table is one range. */
export type RangeKeyType = "int" | "uuid";

export interface ColumnPlan {
  readonly name: string;
  /** `format_type` of the column: what a cast needs. */
  readonly type: string;
  readonly notNull: boolean;
  /** Binary COPY is safe to another server: no OID of a user-defined type inside. */
  readonly binarySafe: boolean;
  /** verify: hash as it is, or cast to text because the type has no extended hash function. */
  readonly hashAsText: boolean;
  /** Part of the replica identity's key (all columns under FULL): what the stream says of an old row. */
  readonly inIdentity: boolean;
}

export interface TablePlan {
  readonly schema: string;
  readonly name: string;
  readonly kind: TableKind;
  /** null for an omnisharded table. */
  readonly shardingColumn: string | null;
  readonly shardingType: "bigint" | "uuid" | "varchar" | null;
  /** Without generated columns; their order is the order in COPY and in SQL of ours. */
  readonly columns: readonly ColumnPlan[];
  /** Each server computes them; verification compares them. Absent in plans of earlier versions. */
  readonly generated?: readonly ColumnPlan[];
  readonly identity: "default" | "index" | "full";
  /**
   * A unique, NOT NULL, not deferrable key whose columns are all in the replica identity, or null:
   * such a table is applied row by row and matched on every identity column.
   */
  readonly keyColumns: readonly string[] | null;
  /** First key column when its order is repeatable in our code and ranges are worth it. */
  readonly rangeColumn: string | null;
  readonly rangeType: RangeKeyType | null;
  /** Unique constraints other than the key: the batch of such a table is applied in order, not folded. */
  readonly otherUnique: boolean;
  /** Leaf partitions are moved as tables of their own name on both sides; this is their root, else null. */
  readonly partitionRoot: string | null;
  /**
   * Unique indexes without the sharding key whose values nothing keeps apart: after the switch each shard sees to
   * its own, and the way back depends on them. "table.index (columns)".
   */
  readonly rollbackDependsOn?: readonly string[];
}

/**
 * R9: whether an update or a delete says on which shard its row was: the identity has the sharding column, as
 * FULL always has. Where it has not (a primary key `id` beside `tenant_id`), the key alone names the row.
 * Follows from the columns, so no plan says it twice, and those stored by an earlier version say it, too.
 */
export function namesOldShard(
  plan: Pick<TablePlan, "columns" | "kind" | "shardingColumn">,
): boolean {
  if (plan.kind === "omnisharded") return true;
  return plan.columns.some((column) => column.name === plan.shardingColumn && column.inIdentity);
}

export interface ClusterSpec {
  readonly shardCount: number;
}

/**
 * What is moved, fixed at preflight and stored on every shard of both sides (`sluice.migration.spec`). Sequences
 * are not in it: they are asked of the servers at arm and in the pause (R48).
 */
export interface MigrationSpec {
  readonly version: 1;
  readonly source: ClusterSpec;
  readonly destination: ClusterSpec;
  readonly tables: readonly TablePlan[];
}

/** One finding of preflight. */
export interface Check {
  /** Stable, kebab-case: `wal-level`, `replica-identity`. */
  readonly id: string;
  /** What it looked at: a shard, a table, a node. */
  readonly scope: string;
  /** note: worth knowing, nothing to do. warning: something is otherwise afterwards, or may stand in the way. */
  readonly severity: "ok" | "note" | "warning" | "error";
  readonly evidence: string;
  /** What to do, as a statement to type where there is one. Empty when ok. */
  readonly remedy: string;
  /** For a page on which many findings of one kind are one: what is said once, and what it is said of. */
  readonly gist?: { readonly text: string; readonly item: string };
}

export const CONTROL_SCHEMA = "sluice";

/** PostgreSQL identifiers are 63 bytes; these stay below 40. */
export const names = {
  publication: (ref: { readonly id: string }) => `sluice_${ref.id}`,
  slot: (ref: { readonly id: string }, stream: StreamNumber, fromShard: number) =>
    `sluice_${ref.id}_${stream}_${fromShard}`,
  origin: (ref: { readonly id: string }, stream: StreamNumber, from: number, to: number) =>
    `sluice_${ref.id}_${stream}_${from}_${to}`,
  gateSequence: (ref: { readonly id: string }) => `gate_${ref.id}`,
  gateTrigger: (ref: { readonly id: string }) => `sluice_gate_${ref.id}`,
} as const;

/** The id in a base slot name as COPY_DATA answers it, `sluice_<id>_0`; null: not a name of ours. */
export function migrationOfSlot(slot: string): string | null {
  return /^sluice_([0-9a-f]{12})_0$/.exec(slot)?.[1] ?? null;
}

/** Every origin of ours begins so; a reverse stream drops what carries one. */
export const ORIGIN_PREFIX = "sluice_";

/** Prefix of our logical messages. */
export const MESSAGE_PREFIX = "sluice";

/** Content of a logical message, as JSON. */
export interface MarkerMessage {
  readonly migration: string;
  /** "drain": the last message of a direction before the decision. "start": a standby stream begins here. */
  readonly kind: "drain" | "start" | "probe";
  readonly token: string;
}

/** Why something cannot go on now, for people and for SHOW TASKS (promise 7). */
export interface Blocker {
  readonly code: ErrorCode | "WAITING";
  readonly message: string;
}
