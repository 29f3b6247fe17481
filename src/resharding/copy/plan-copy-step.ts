import type { SqlClient } from "../../backend/sql-client.js";
import { assert } from "../../core/assert.js";
import type { EngineContext } from "../context.js";
import { openSides, type SessionUse, type Sides, shardAddress } from "../control/sides.js";
import type { TableCopyPlan } from "../model/activities.js";
import type { MigrationRef, TablePlan } from "../model/migration.js";
import { assertCovers, type Chunk, insertChunks, isDone, readChunks } from "./chunk-store.js";
import { toCopyFailed } from "./copy-failed.js";
import { type Cut, cutRanges } from "./range-cutter.js";
import { type KeyRange, tableLabel } from "./range-sql.js";
import { readAtSnapshot } from "./snapshot-reader.js";

const PLAN: SessionUse = { purpose: "copy plan" };

/**
 * Cuts every table, per source shard, into key ranges and stores them on every destination shard before the
 * first row is copied; the stream finds a key's snapshot there.
 *
 * Second run, or one beside the first: whoever gets a table's lock on destination shard 0 first cuts it, all
 * others read what is there, so the cuts never change.
 * @returns what is stored, with the ranges that are done already
 * @throws CopyFailed, SnapshotOnStandby, ServerUnreachable
 */
export async function planCopy(
  context: EngineContext,
  ref: MigrationRef,
): Promise<readonly TableCopyPlan[]> {
  await using sides = await openSides(context, ref);
  const clients = await sides.sessions("destination", PLAN);
  const plans: TableCopyPlan[] = [];
  for (const table of sides.spec.tables) {
    for (const sourceShard of sourceShardsOf(table, sides.spec.source.shardCount)) {
      context.signal.throwIfAborted();
      try {
        plans.push(await planTable(context, { ref, sides, clients, table, sourceShard }));
      } catch (error) {
        context.signal.throwIfAborted();
        throw toCopyFailed(error, tableLabel(table));
      }
      context.heartbeat({ plannedTables: plans.length });
    }
  }
  return plans;
}

/** R13: of an omnisharded table only the owner's rows count; shard 0 owns them in every direction. */
function sourceShardsOf(table: TablePlan, shardCount: number): readonly number[] {
  if (table.kind === "omnisharded") return [0];
  return Array.from({ length: shardCount }, (_, shard) => shard);
}

interface PlanInput {
  readonly ref: MigrationRef;
  readonly sides: Sides;
  /** One per destination shard. */
  readonly clients: readonly SqlClient[];
  readonly table: TablePlan;
  readonly sourceShard: number;
}

async function planTable(context: EngineContext, input: PlanInput): Promise<TableCopyPlan> {
  const { ref, clients, table, sourceShard } = input;
  const of = { table, sourceShard };
  const [first, ...others] = clients;
  assert(first, "the destination has a shard");
  const cut = await cutTable(context, input);
  const truth = await storeOnce(first, { ...input, ranges: cut.ranges });
  assertCovers(table, truth);
  const copies: (readonly Chunk[])[] = [truth];
  for (const client of others) {
    await insertChunks(client, ref, { ...of, ranges: truth });
    const stored = await readChunks(client, ref, of);
    assert(
      stored.length === truth.length &&
        stored.every((chunk, index) => chunk.upper === truth[index]?.upper),
      `destination shards hold different ranges of ${tableLabel(table)}`,
    );
    copies.push(stored);
  }
  const doneRanges = truth
    .filter((chunk) => isDone(copies.flatMap((stored) => stored[chunk.range] ?? [])))
    .map((chunk) => chunk.range);
  return {
    schema: table.schema,
    table: table.name,
    sourceShard,
    rangeCount: truth.length,
    doneRanges,
    estimatedRows: cut.estimatedRows,
  };
}

async function cutTable(context: EngineContext, input: PlanInput): Promise<Cut> {
  const { sides, table, sourceShard } = input;
  const source = await sides.session("source", sourceShard, PLAN);
  const of = { address: shardAddress(sides.source, sourceShard), table };
  return await readAtSnapshot(source, of, (client) =>
    cutRanges(client, table, context.policy.copyRangeRows),
  );
}

/** @returns the table's cuts on destination shard 0: these ones only where there were none */
async function storeOnce(
  client: SqlClient,
  input: PlanInput & { readonly ranges: readonly KeyRange[] },
): Promise<readonly Chunk[]> {
  const { ref, table, sourceShard } = input;
  await client.query("BEGIN");
  // Two planners with different samples would otherwise mix their cuts.
  await client.query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", [
    `sluice.copy_plan ${ref.id} ${sourceShard} ${tableLabel(table)}`,
  ]);
  const stored = await readChunks(client, ref, input);
  if (stored.length === 0) await insertChunks(client, ref, input);
  await client.query("COMMIT");
  return stored.length > 0 ? stored : await readChunks(client, ref, input);
}
