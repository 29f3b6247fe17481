import type { SqlClient } from "../../backend/sql-client.js";
import { assert } from "../../core/assert.js";
import type { EngineContext } from "../context.js";
import { upgradeControlSchema } from "../control/control-schema.js";
import { type EvidencePlace, keepEvidence } from "../control/evidence.js";
import { LOOK, openSides, type SessionUse, type Sides, shardAddress } from "../control/sides.js";
import { readChunks } from "../copy/chunk-store.js";
import { toCopyFailed } from "../copy/copy-failed.js";
import { type KeyRange, tableLabel, WHOLE_TABLE } from "../copy/range-sql.js";
import type { VerifyResult } from "../model/activities.js";
import {
  type MigrationRef,
  otherSide,
  type StreamNumber,
  streamFrom,
  type TablePlan,
} from "../model/migration.js";
import { openLaneWatch } from "../stream/lane-watch.js";
import { compareFromShards } from "./from-shards.js";
import { markerPasser } from "./marker-passer.js";
import { writeReceipts } from "./receipts.js";
import { SideReader } from "./sides-reader.js";
import { compareTable } from "./table-compare.js";

const RECEIPTS: SessionUse = { purpose: "verify receipts" };

/**
 * Compares what the from-side of a stream has with what is on the other side, shard by shard as the router
 * places the rows (R40), while applications write (R41); on the way back also its omnisharded tables over its
 * shards. Writes a receipt per table and shard to shard 0 of the from-side.
 *
 * Second run, or one beside the first: reads only; receipts of the same pass are replaced as a whole.
 * @returns clean, or what is not; keys that do not differ but were written all the time are not clean either
 * @throws MarkerNotPassed when the lanes do not get on, CopyFailed, SnapshotOnStandby, ServerUnreachable
 */
export async function verifyPass(
  context: EngineContext,
  input: { readonly ref: MigrationRef; readonly stream: StreamNumber; readonly pass: number },
): Promise<VerifyResult> {
  const { ref, stream, pass } = input;
  await using sides = await openSides(context, ref);
  const from = await SideReader.open(sides, streamFrom(stream));
  const to = await SideReader.open(sides, otherSide(streamFrom(stream)));
  // Not one of the readers': the receipts of a table are a transaction, too.
  const control = await sides.session(streamFrom(stream), 0, RECEIPTS);
  await upgradeControlSchema(control);
  const watch = await openLaneWatch(context, sides, { ref, stream });
  const passMarker = markerPasser(context, { ref, stream }, { sides, from: from.clients, watch });
  // Without it the first comparison would find the whole lag, and read every key of it again.
  await passMarker();
  const differences: string[] = [];
  let lastingCount = 0;
  let rowCount = 0;
  for (const table of sides.spec.tables) {
    const startedAt = await serverNow(control);
    try {
      const ranges = await rangesOf({ ref, sides, table });
      const comparison = await compareTable(context, {
        sides: { from, to },
        table,
        ranges,
        passMarker,
      });
      const shardFindings = await compareFromShards(sides, { stream, table });
      const receipt = { ref, stream, pass, table, startedAt, comparison, shardFindings };
      const found = await writeReceipts(control, receipt);
      differences.push(...found);
      lastingCount += found.length - (comparison.movingCount > 0 ? 1 : 0);
      const counted =
        table.kind === "omnisharded" ? comparison.expected.slice(0, 1) : comparison.expected;
      rowCount += counted.reduce((sum, total) => sum + total.rowCount, 0);
    } catch (error) {
      context.signal.throwIfAborted();
      const failed = toCopyFailed(error, `${tableLabel(table)} (verification)`);
      const scope = `${tableLabel(table)}, stream ${stream}`;
      const place: EvidencePlace = { ref, step: "verify", scope, table };
      await keepEvidence(shardAddress(sides[streamFrom(stream)], 0), place, failed);
      throw failed;
    }
  }
  const isClean = differences.length === 0;
  const motion = !isClean && lastingCount === 0 ? { isInMotion: true } : {};
  return { isClean, ...motion, rowCount, differences };
}

/** The copy's cuts serve both directions: any complete set of ranges would do. */
async function rangesOf(input: {
  readonly ref: MigrationRef;
  readonly sides: Sides;
  readonly table: TablePlan;
}): Promise<readonly KeyRange[]> {
  const { ref, sides, table } = input;
  const client = await sides.session("destination", 0, LOOK);
  const chunks = await readChunks(client, ref, { table, sourceShard: 0 });
  return chunks.length > 0 ? chunks : [WHOLE_TABLE];
}

/** The database's clock, as policies compare a receipt's age with it. */
async function serverNow(client: SqlClient): Promise<Date> {
  const result = await client.query<{ now: Date }>("SELECT clock_timestamp() AS now");
  const [row] = result.rows;
  assert(row, "the clock answers");
  return row.now;
}
