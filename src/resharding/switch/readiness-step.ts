import { setTimeout as delay } from "node:timers/promises";
import type { SqlClient } from "../../backend/sql-client.js";
import { parseLsn } from "../../core/lsn.js";
import type { EngineContext } from "../context.js";
import { askUntil, type LongQuestion } from "../control/ask-until.js";
import { LOOK, openSides, type Sides } from "../control/sides.js";
import type { NodeInfo, ReadinessResult, StreamStatus } from "../model/activities.js";
import {
  type Blocker,
  type MigrationRef,
  type StreamNumber,
  streamFrom,
} from "../model/migration.js";
import { countPendingStatements } from "../schema/sync-schema-step.js";
import { readStreamStatus } from "../stream/stream-status.js";
import { type Board, readBoard } from "./board.js";
import { findChanged, TablesChanged } from "./fingerprint.js";
import { findStrangers, TablesAdded } from "./gate.js";
import { readNodes } from "./nodes.js";

/**
 * May a switch begin, and would it be short? Every reason why not, each a sentence with its figures
 * (promise 7). Looks until none is left, or `waitMs` are over; all looks share one session to each database.
 * Second run, or any number beside each other: they read only.
 */
export async function awaitReadiness(
  context: EngineContext,
  input: LongQuestion,
): Promise<ReadinessResult> {
  await using sides = await openSides(context, input.ref);
  return await askUntil(context, input, {
    ask: () => lookAtReadiness(context, { ...input, sides }),
    isEnough: ({ isReady }) => isReady,
  });
}

interface LookInput {
  readonly sides: Sides;
  readonly ref: MigrationRef;
  readonly stream: StreamNumber;
}

async function lookAtReadiness(context: EngineContext, input: LookInput): Promise<ReadinessResult> {
  const { sides } = input;
  const board = await readBoard(sides, input.ref);
  const status = await readStreamStatus(sides, input);
  const oldest = await oldestWriters(input);
  const drainMs = await predictDrain(context, { ...input, status });
  const nodes = await readNodes(sides, board.serving);
  const predictedPauseMs = Math.round(
    drainMs + Math.max(0, ...oldest.map((one) => one.ageMs)) + OWN_COST_MS,
  );
  const waitingFor = [
    ...boardBlockers(board, input.stream),
    ...streamBlockers(status, context.policy.trafficStopThresholdBytes),
    ...nodeBlockers(nodes, board),
    ...(await verificationBlockers(context, input)),
    ...(await schemaBlockers(input)),
    ...(await definitionBlockers(input)),
    ...oldest.flatMap((one) =>
      isLong(one, context.policy.pauseBudgetMs) ? [waiting(one.who)] : [],
    ),
    ...(predictedPauseMs > context.policy.pauseBudgetMs
      ? [
          waiting(
            `predicted pause ${predictedPauseMs} ms, budget ${context.policy.pauseBudgetMs} ms`,
          ),
        ]
      : []),
  ];
  return {
    isReady: waitingFor.length === 0,
    waitingFor,
    lagBytes: status.lagBytes,
    predictedPauseMs,
    ...dependencies(sides),
  };
}

function dependencies({ spec }: Sides): Pick<ReadinessResult, "rollbackDependsOn"> {
  const found = spec.tables.flatMap((table) => table.rollbackDependsOn ?? []);
  return found.length === 0 ? {} : { rollbackDependsOn: found };
}

/** Gate, barrier, marker, compare-and-set and the nodes' answers: 10 ms p50, 24 ms max, measured 2026-11. */
const OWN_COST_MS = 25;

function waiting(message: string): Blocker {
  return { code: "WAITING", message };
}

function boardBlockers(board: Board, stream: StreamNumber): Blocker[] {
  const found: Blocker[] = [];
  if (board.unreachable.length > 0) found.push(waiting(`silent: ${board.unreachable.join(", ")}`));
  const open = board.decisions.find((decision) => decision.state === "prepared");
  if (open) found.push(waiting(`epoch ${open.epoch} is being decided`));
  if (board.serving !== streamFrom(stream)) {
    found.push(waiting(`the ${board.serving} side serves; this stream does not start there`));
  }
  return found;
}

function streamBlockers(status: StreamStatus, thresholdBytes: number): Blocker[] {
  if (status.blocker) return [status.blocker];
  const found: Blocker[] = [];
  for (const lane of status.lanes) {
    if (lane.state !== "applying") {
      found.push(waiting(`lane ${lane.fromShard} -> ${lane.toShard} is ${lane.state}`));
    }
  }
  if (status.lagBytes === null) found.push(waiting("lag is not known yet"));
  else if (status.lagBytes > thresholdBytes) {
    found.push(waiting(`${status.lagBytes} bytes to apply, threshold ${thresholdBytes}`));
  }
  if (status.asideKeys > 0) {
    const conflicts = status.asideConflicts ?? [];
    const words = [...conflicts, ...(conflicts.length > 0 ? ["SHOW EVIDENCE names the rows"] : [])];
    const why = words.map((one) => `; ${one}`).join("");
    found.push(waiting(`${status.asideKeys} keys are set aside, not settled yet${why}`));
  }
  return found;
}

function nodeBlockers(nodes: readonly NodeInfo[], board: Board): Blocker[] {
  const late = nodes.filter((node) => node.epoch < board.epoch);
  const found = late.map((node) => waiting(`node ${node.nodeId} is at epoch ${node.epoch}`));
  const hashes = new Set(nodes.map((node) => node.configHash));
  if (hashes.size > 1) {
    found.push(
      waiting(`nodes differ in configuration: ${nodes.map((node) => node.nodeId).join(", ")}`),
    );
  }
  return found;
}

/** The switch needs a clean pass that began after the copy and is not older than the policy says. */
async function verificationBlockers(context: EngineContext, input: LookInput): Promise<Blocker[]> {
  const client = await input.sides.session(streamFrom(input.stream), 0, LOOK);
  const result = await client.query<{
    pass: number;
    isClean: boolean;
    ageMs: number;
    tables: number;
  }>(
    `SELECT pass, bool_and(is_clean) AS "isClean", count(DISTINCT (schema_name, table_name))::int AS tables,
            (extract(epoch FROM clock_timestamp() - min(started_at)) * 1000)::float8 AS "ageMs"
       FROM sluice.receipt WHERE migration = $1 AND stream = $2
      GROUP BY pass ORDER BY pass DESC LIMIT 1`,
    [input.ref.id, input.stream],
  );
  const last = result.rows[0];
  if (!last) return [waiting("no verification pass has finished")];
  if (last.tables < input.sides.spec.tables.length)
    return [waiting(`verification pass ${last.pass} goes on`)];
  if (!last.isClean) return [waiting(`verification pass ${last.pass} found differences`)];
  if (last.ageMs > context.policy.verifyMaxAgeMs) {
    return [waiting(`the last clean pass began ${Math.round(last.ageMs / 1000)} s ago`)];
  }
  return [];
}

/** What was made or changed meanwhile on the side that is read: a switch would leave it behind. */
async function definitionBlockers(input: LookInput): Promise<Blocker[]> {
  const { ref, stream } = input;
  const { tables } = input.sides.spec;
  const clients = await input.sides.sessions(streamFrom(stream), LOOK);
  const found = await Promise.all(
    clients.map(async (client) => ({
      added: await findStrangers(client, tables),
      changed: await findChanged(client, { ref, stream, tables }),
    })),
  );
  const added = [...new Set(found.flatMap((one) => one.added))];
  const changed = [...new Set(found.flatMap((one) => one.changed))];
  return [
    ...(added.length > 0 ? [toBlocker(new TablesAdded(added.join(", ")))] : []),
    ...(changed.length > 0 ? [toBlocker(new TablesChanged(changed.join(", ")))] : []),
  ];
}

function toBlocker(error: TablesAdded | TablesChanged): Blocker {
  return { code: error.code, message: `${error.message}. ${error.hint ?? ""}` };
}

/** Constraints that waited for the last rows: without them the destination would take what the source refuses. */
async function schemaBlockers({ sides, ref }: LookInput): Promise<Blocker[]> {
  const clients = await sides.sessions("destination", LOOK);
  const counts = await Promise.all(clients.map((client) => countPendingStatements(client, ref.id)));
  const pending = counts.reduce((sum, count) => sum + count, 0);
  return pending === 0 ? [] : [waiting(`${pending} schema statements have not been done yet`)];
}

interface OldWriter {
  readonly ageMs: number;
  readonly who: string;
  readonly isPrepared: boolean;
}

/** Two phases of one commit are this near to each other; an older one may never be ended by anybody. */
const PREPARED_MS = 250;

function isLong(writer: OldWriter, budgetMs: number): boolean {
  return writer.ageMs > (writer.isPrepared ? PREPARED_MS : budgetMs);
}

/** Open transactions that have written, and prepared ones: the barrier would wait for them (R23). */
async function oldestWriters({ sides, stream }: LookInput): Promise<OldWriter[]> {
  const clients = await sides.sessions(streamFrom(stream), LOOK);
  return (await Promise.all(clients.map(oldestWriter))).flat();
}

async function oldestWriter(client: SqlClient, shard: number): Promise<OldWriter[]> {
  const result = await client.query<OldWriter>(
    `(SELECT (extract(epoch FROM clock_timestamp() - xact_start) * 1000)::float8 AS "ageMs",
             format('shard %s: oldest write transaction %s s, pid %s, application %s', $1::int,
                    round(extract(epoch FROM clock_timestamp() - xact_start)::numeric, 1), pid,
                    application_name) AS who, false AS "isPrepared"
        FROM pg_stat_activity
       WHERE datname = current_database() AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()
         AND backend_type = 'client backend'
       ORDER BY xact_start LIMIT 1)
     UNION ALL
     (SELECT (extract(epoch FROM clock_timestamp() - prepared) * 1000)::float8,
             format('shard %s: prepared transaction %s, %s s old', $1::int, gid,
                    round(extract(epoch FROM clock_timestamp() - prepared)::numeric, 1)), true
        FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared LIMIT 1)`,
    [shard],
  );
  return result.rows;
}

/** Between the two looks whose difference is the apply rate. */
const SAMPLE_MS = 200;
/** What a lane does at least when nothing can be measured, bytes of WAL per ms: 4 MB/s. */
const ASSUMED_RATE = 4_000;

async function predictDrain(
  context: EngineContext,
  input: LookInput & { readonly status: StreamStatus },
): Promise<number> {
  const lag = input.status.lagBytes ?? 0;
  // Small enough to need no measurement: one batch.
  if (lag < 64_000) return lag / ASSUMED_RATE;
  await delay(SAMPLE_MS, undefined, { signal: context.signal });
  const later = await readStreamStatus(input.sides, input);
  const rates = later.lanes.map((lane, index) => {
    const before = input.status.lanes[index];
    return before ? appliedBytes(before.appliedLsn, lane.appliedLsn) / SAMPLE_MS : 0;
  });
  return (later.lagBytes ?? lag) / Math.max(ASSUMED_RATE, ...rates);
}

function appliedBytes(before: string, after: string): number {
  return Math.max(0, Number(parseLsn(after) - parseLsn(before)));
}
