import type { SqlClient } from "../../backend/sql-client.js";
import { assert } from "../../core/assert.js";
import { type CopyIn, openCopyIn } from "../../replication/copy-in.js";
import { type CopySink, copyOut } from "../../replication/copy-out.js";
import {
  BinaryCopySplitter,
  CopyBroadcast,
  type CopySplitter,
} from "../../replication/copy-splitter.js";
import { TextCopySplitter } from "../../replication/copy-text-splitter.js";
import type { EngineContext } from "../context.js";
import type { TablePlan } from "../model/migration.js";
import { type CopyFormat, isBinaryKey, keyRouter } from "./key-router.js";
import { columnList, type KeyRange, rangeCondition, tableLabel, tableName } from "./range-sql.js";
import type { SnapshotReader } from "./snapshot-reader.js";
import { makeStaging } from "./staged-rows.js";

/** Into the table itself, or into a staging table beside it, see `writeStaged`. */
export type CopyWay = "direct" | "staged";

export interface StreamInput {
  readonly table: TablePlan;
  readonly range: KeyRange;
  readonly source: SnapshotReader;
  readonly sourceShard: number;
  readonly sourceShardCount: number;
  /** Sessions on the destination shards, each within its transaction. */
  readonly destination: readonly SqlClient[];
  readonly way: CopyWay;
}

/** What one destination shard has taken. */
export interface ShardShare {
  readonly rowCount: number;
  readonly byteCount: number;
}

const HEARTBEAT_MS = 1000;

/**
 * Reads the range once and deals its rows to all destination shards. Nothing is committed. What is in
 * memory is bounded: the slowest shard holds the source back.
 * @returns rows and bytes per destination shard
 */
export async function streamRange(
  context: EngineContext,
  input: StreamInput,
): Promise<readonly ShardShare[]> {
  const { table, range, source } = input;
  const format = copyFormat(context, table);
  const columns = columnList(table);
  const outputs: CopyIn[] = [];
  for (const client of input.destination) {
    const into = input.way === "staged" ? await makeStaging(client, table) : tableName(table);
    outputs.push(
      await openCopyIn(client, `COPY ${into} (${columns}) FROM STDIN WITH (FORMAT ${format})`),
    );
  }
  const splitter = splitterFor(input, format, outputs);
  const read = await copyOut(
    source.client,
    `COPY (SELECT ${columns} FROM ONLY ${tableName(table)} WHERE ${rangeCondition(table, range)})
       TO STDOUT WITH (FORMAT ${format})`,
    withHeartbeat(context, table, splitter),
  );
  splitter.finish();
  const shares: ShardShare[] = [];
  for (const output of outputs)
    shares.push({ rowCount: await output.finish(), byteCount: output.byteCount });
  checkCounts(table, read, shares);
  return shares;
}

/** Binary carries OIDs of user-defined types, which differ from server to server; then text. */
function copyFormat(context: EngineContext, table: TablePlan): CopyFormat {
  const isSafe = table.columns.every((column) => column.binarySafe) && isBinaryKey(table);
  return isSafe ? context.policy.copyFormat : "text";
}

function splitterFor(
  input: StreamInput,
  format: CopyFormat,
  outputs: readonly CopyIn[],
): CopySplitter {
  const { table } = input;
  if (table.kind === "omnisharded") return new CopyBroadcast(outputs);
  const keyField = table.columns.findIndex((column) => column.name === table.shardingColumn);
  assert(keyField >= 0, `${tableLabel(table)} has no sharding column`);
  const route = keyRouter({ ...input, format, destinationShardCount: outputs.length });
  return format === "binary"
    ? new BinaryCopySplitter(outputs, keyField, route)
    : new TextCopySplitter(outputs, keyField, route);
}

function withHeartbeat(context: EngineContext, table: TablePlan, splitter: CopySplitter): CopySink {
  let lastAt = performance.now();
  return {
    push: (bytes, start, end) => splitter.push(bytes, start, end),
    pressure: () => {
      // Asked once per chunk of the socket.
      if (performance.now() - lastAt > HEARTBEAT_MS) {
        lastAt = performance.now();
        const { rowCount, byteCount } = splitter;
        context.heartbeat({ table: tableLabel(table), rowCount, byteCount });
      }
      return splitter.pressure();
    },
  };
}

function checkCounts(table: TablePlan, read: number, shares: readonly ShardShare[]): void {
  const written = shares.map((share) => share.rowCount);
  const isComplete =
    table.kind === "omnisharded"
      ? written.every((count) => count === read)
      : written.reduce((sum, count) => sum + count, 0) === read;
  assert(isComplete, `${tableLabel(table)}: read ${read} rows but wrote ${written.join(" + ")}`);
}
