import { type SqlClient, sqlStateOf } from "../../backend/sql-client.js";
import { assert } from "../../core/assert.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { EngineContext } from "../context.js";
import { type EvidencePlace, forgetEvidence, keepEvidence } from "../control/evidence.js";
import { openSides, type SessionUse, type Sides, shardAddress } from "../control/sides.js";
import type { CopyRangeInput, CopyRangeResult } from "../model/activities.js";
import type { TablePlan } from "../model/migration.js";
import { type Chunk, isDone, markCopied, readChunk } from "./chunk-store.js";
import { CopyFailed, toCopyFailed } from "./copy-failed.js";
import { takeRangeLock } from "./range-lock.js";
import { rangeCondition, shardOfRow, tableLabel, tableName, tableOf } from "./range-sql.js";
import { type CopyWay, type ShardShare, streamRange } from "./range-writer.js";
import { openSnapshot } from "./snapshot-reader.js";
import { writeStaged } from "./staged-rows.js";

const COPY: SessionUse = { purpose: "copy" };

/**
 * Copies one range of one source shard to every destination shard, from one snapshot (R8).
 *
 * Second run: does nothing when every shard holds the range with one snapshot; else deletes and writes the
 * whole range again, in one transaction per shard. One beside the first ends it (see `takeRangeLock`).
 * A crash between the commits leaves different snapshots, so the range is not done and is repeated.
 *
 * The rows carry no replication origin. Origins tell a stream what not to send back (R34), and no stream of
 * ours ever reads these transactions: slots on the destination are made at arm, when every range is done;
 * what attempts may come later find that under the range's lock and write nothing.
 *
 * Rows of two source shards that meet under one key are set aside, see `writeStaged`; copied again for that, as no
 * range need pay for it that meets none.
 * @throws CopyFailed, SnapshotOnStandby, ServerUnreachable
 */
export async function copyRange(
  context: EngineContext,
  input: CopyRangeInput,
): Promise<CopyRangeResult> {
  const direct = await copyOnce(context, input, "direct");
  if (direct !== null) return direct;
  const staged = await copyOnce(context, input, "staged");
  assert(staged, "staged rows meet no others");
  return staged;
}

/** @returns null: rows meet others of their keys, and are to be written by way of a staging table */
async function copyOnce(
  context: EngineContext,
  input: CopyRangeInput,
  way: CopyWay,
): Promise<CopyRangeResult | null> {
  await using sides = await openSides(context, input.ref);
  const table = tableOf(sides.spec, input.schema, input.table);
  try {
    const result = await copyOrFindDone(context, { ...input, sides, plan: table, way });
    await context.announce("copy.afterRange");
    return result;
  } catch (error) {
    // A cancelled attempt fails by its closed connections, which is not news.
    context.signal.throwIfAborted();
    if (way === "direct" && mayMeet(table, sides) && meetsRow(error)) return null;
    const failed = toCopyFailed(error, `${tableLabel(table)} range ${input.range}`);
    // Their transactions end first: what is noted shall not wait for the locks of what has failed.
    await sides[Symbol.asyncDispose]();
    await keepEvidence(shardAddress(sides.destination, 0), evidencePlace(input), failed);
    throw failed;
  }
}

/**
 * Two source shards may have rows of one key (R9): two rows of equal ids, or one that has gone from shard to shard
 * between the snapshots of their ranges. Settlement tells one from the other.
 */
function mayMeet(table: TablePlan, sides: Sides): boolean {
  return table.kind === "sharded" && table.keyColumns !== null && sides.spec.source.shardCount > 1;
}

function meetsRow(error: unknown): boolean {
  return error instanceof Error && sqlStateOf(error) === SQLSTATE.uniqueViolation;
}

function evidencePlace({ ref, schema, table, sourceShard, range }: CopyRangeInput): EvidencePlace {
  const scope = `${schema}.${table}, range ${range} of source shard ${sourceShard}`;
  return { ref, step: "copy", scope, table: { schema, name: table } };
}

interface RangeJob extends CopyRangeInput {
  readonly sides: Sides;
  readonly plan: TablePlan;
  readonly way: CopyWay;
}

async function copyOrFindDone(context: EngineContext, job: RangeJob): Promise<CopyRangeResult> {
  const { sides, plan } = job;
  const destination = await sides.sessions("destination", COPY);
  const chunks: Chunk[] = [];
  for (const client of destination) chunks.push(await beginOnShard(context, client, job));
  if (isDone(chunks)) return summary(plan, chunks);
  for (const client of destination) await refuseBesideLanes(client, job);
  const [range] = chunks;
  assert(range, "the destination has a shard");
  const address = shardAddress(sides.source, job.sourceShard);
  const reader = await sides.session("source", job.sourceShard, COPY);
  const source = await openSnapshot(reader, { address, table: plan });
  await context.announce("copy.afterSnapshot");
  for (const [shard, client] of destination.entries())
    if (chunks[shard]?.snapshot) await deleteRange(client, job, range);
  const shares = await streamRange(context, {
    table: plan,
    range,
    source,
    sourceShard: job.sourceShard,
    sourceShardCount: sides.spec.source.shardCount,
    destination,
    way: job.way,
  });
  if (job.way === "staged")
    for (const client of destination) await writeStaged(client, { ...job, table: plan });
  for (const [shard, client] of destination.entries()) {
    const share = shares[shard];
    assert(share, "every shard has a share");
    await markCopied(client, job, { ...share, snapshot: source.snapshot });
  }
  await context.announce("copy.beforeCommit");
  await commitAll(context, destination);
  const [first] = destination;
  if (first) await forgetEvidence(first, evidencePlace(job));
  return summary(plan, shares);
}

/** Opens the shard's transaction, with the range in our hands. */
async function beginOnShard(
  context: EngineContext,
  client: SqlClient,
  job: RangeJob,
): Promise<Chunk> {
  await client.query("BEGIN");
  await takeRangeLock(context, client, job);
  // User triggers, foreign keys and the gate are for the application's writes, not for ours.
  await client.query("SET LOCAL session_replication_role = replica");
  return await readChunk(client, job);
}

/**
 * R8: a repeat beside a lane would delete what the lane has applied since. Lanes begin when all ranges are
 * done, so there is none beside us, unless something is badly wrong.
 */
async function refuseBesideLanes(client: SqlClient, job: RangeJob): Promise<void> {
  const lanes = await client.query(
    `SELECT 1 FROM sluice.lane
      WHERE migration = $1 AND stream = 0 AND state = 'applying' AND applied_lsn > '0/0'`,
    [job.ref.id],
  );
  if (lanes.rows.length === 0) return;
  throw new CopyFailed(
    `${tableLabel(job.plan)} is being caught up: its ranges cannot be copied now`,
    {
      recovery: "operator",
      hint: "Abort the migration and start it again.",
    },
  );
}

/** Rows of other source shards may lie within the same bounds; they stay. */
async function deleteRange(client: SqlClient, job: RangeJob, range: Chunk): Promise<void> {
  const { plan, sides, sourceShard } = job;
  const conditions = [rangeCondition(plan, range)];
  if (plan.kind === "sharded" && sides.spec.source.shardCount > 1)
    conditions.push(`${shardOfRow(plan, sides.spec.source.shardCount)} = ${sourceShard}`);
  await client.query(`DELETE FROM ONLY ${tableName(plan)} WHERE ${conditions.join(" AND ")}`);
}

async function commitAll(context: EngineContext, clients: readonly SqlClient[]): Promise<void> {
  for (const [shard, client] of clients.entries()) {
    if (shard > 0) await context.announce("copy.betweenCommits");
    const result = await client.query("COMMIT");
    assert(result.command === "COMMIT", `shard ${shard} answered COMMIT with ${result.command}`);
  }
}

/** An omnisharded row counts once, wherever else it is. */
function summary(table: TablePlan, shares: readonly ShardShare[]): CopyRangeResult {
  const counted = table.kind === "omnisharded" ? shares.slice(0, 1) : shares;
  return {
    rowCount: counted.reduce((sum, share) => sum + share.rowCount, 0),
    byteCount: counted.reduce((sum, share) => sum + share.byteCount, 0),
  };
}
