import type { EngineContext } from "../../../src/resharding/context.js";
import { openSides, type Sides } from "../../../src/resharding/control/sides.js";
import { toCopyFailed } from "../../../src/resharding/copy/copy-failed.js";
import { tableLabel } from "../../../src/resharding/copy/range-sql.js";
import type { MigrationRef, TablePlan } from "../../../src/resharding/model/migration.js";

import { RowCursor } from "./row-cursor.js";

/** Row-by-row equality of both sides. Holds keys of rows: for people, not for Temporal's history. */
export interface FinalComparison {
  readonly isEqual: boolean;
  readonly tables: readonly TableCounts[];
  /** The first of them, in words. */
  readonly differences: readonly string[];
}

interface TableCounts {
  readonly table: string;
  /** Rows per shard. */
  readonly source: readonly number[];
  readonly destination: readonly number[];
}

const MAX_DIFFERENCES = 20;

/**
 * Compares every row of every table by its text, and that it is on the shard where it routes, when nothing
 * moves: a write in between is reported as a difference. Streams both sides in the order of the key; memory
 * is bounded by a batch per shard and the rows of one key.
 * @throws CopyFailed, SnapshotOnStandby, ServerUnreachable
 */
export async function finalCompare(
  context: EngineContext,
  ref: MigrationRef,
): Promise<FinalComparison> {
  await using sides = await openSides(context, ref);
  const tables: TableCounts[] = [];
  const differences: string[] = [];
  for (const table of sides.spec.tables) {
    try {
      tables.push(await compareTable({ sides, table, differences }));
    } catch (error) {
      context.signal.throwIfAborted();
      throw toCopyFailed(error, `${tableLabel(table)} (comparison)`);
    }
  }
  return { isEqual: differences.length === 0, tables, differences };
}

interface TableInput {
  readonly sides: Sides;
  readonly table: TablePlan;
  /** Filled. */
  readonly differences: string[];
}

async function compareTable(input: TableInput): Promise<TableCounts> {
  const { sides, table } = input;
  const sourceShards = sides.source.shards.map((_, shard) => shard);
  const destinationShards = sides.destination.shards.map((_, shard) => shard);
  if (table.kind === "sharded") {
    const counts = await mergeCompare({ ...input, sourceShards, destinationShards });
    return { table: tableLabel(table), ...counts };
  }
  // R13: every shard against the owner.
  let source: readonly number[] = [];
  const destination: number[] = [];
  for (const shard of destinationShards) {
    const pair = { sourceShards: [0], destinationShards: [shard] };
    const counts = await mergeCompare({ ...input, ...pair });
    source = counts.source;
    destination.push(...counts.destination);
  }
  return { table: tableLabel(table), source, destination };
}

interface MergeInput extends TableInput {
  readonly sourceShards: readonly number[];
  readonly destinationShards: readonly number[];
}

async function mergeCompare(
  input: MergeInput,
): Promise<Pick<TableCounts, "source" | "destination">> {
  const { sides, table, differences } = input;
  const shardCount = sides.destination.shards.length;
  const cursors: RowCursor[] = [];
  try {
    for (const side of ["source", "destination"] as const)
      for (const shard of input[`${side}Shards`])
        cursors.push(await RowCursor.open(sides, side, { table, shard, shardCount }));
    const source = cursors.slice(0, input.sourceShards.length);
    const destination = cursors.slice(input.sourceShards.length);
    for (let sort = lowest(cursors); sort !== null; sort = lowest(cursors)) {
      const expected = await takeKey(source, sort, (row, shard) =>
        table.kind === "omnisharded" ? "" : String(row.place ?? `no shard, from ${shard}`),
      );
      const found = await takeKey(destination, sort, (_, shard) =>
        table.kind === "omnisharded" ? "" : String(shard),
      );
      if (isSame(expected.rows, found.rows)) continue;
      if (differences.length < MAX_DIFFERENCES) differences.push(describe(input, expected, found));
    }
    return {
      source: source.map((cursor) => cursor.rowCount),
      destination: destination.map((cursor) => cursor.rowCount),
    };
  } finally {
    for (const cursor of cursors) await cursor[Symbol.asyncDispose]();
  }
}

function lowest(cursors: readonly RowCursor[]): string | null {
  let sort: string | null = null;
  for (const { current } of cursors)
    if (current !== null && (sort === null || current.sort < sort)) sort = current.sort;
  return sort;
}

interface KeyRows {
  readonly name: string | null;
  /** "place:text", sorted. */
  readonly rows: readonly string[];
}

/** Takes all rows of one key off the cursors. */
async function takeKey(
  cursors: readonly RowCursor[],
  sort: string,
  placeOf: (row: { readonly place: number | null }, shard: number) => string,
): Promise<KeyRows> {
  const rows: string[] = [];
  let name: string | null = null;
  for (const cursor of cursors)
    for (let row = cursor.current; row?.sort === sort; row = cursor.current) {
      name = row.name;
      rows.push(`${placeOf(row, cursor.shard)}:${row.text}`);
      const fetched = cursor.advance();
      if (fetched) await fetched;
    }
  return { name, rows: rows.sort() };
}

function isSame(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((row, index) => row === other[index]);
}

function describe(input: MergeInput, expected: KeyRows, found: KeyRows): string {
  const name = `${tableLabel(input.table)} ${expected.name ?? found.name}`;
  const where =
    input.table.kind === "omnisharded" ? ` (shard ${input.destinationShards.join(", ")})` : "";
  if (found.rows.length === 0) return `${name}: missing at the destination${where}`;
  if (expected.rows.length === 0) return `${name}: not at the source${where}`;
  const places = (rows: readonly string[]) =>
    rows.map((row) => row.slice(0, row.indexOf(":"))).join(", ");
  const [should, is] = [places(expected.rows), places(found.rows)];
  if (should !== is) return `${name}: belongs on shard ${should}, is on ${is}`;
  return `${name}: values differ${where}`;
}
