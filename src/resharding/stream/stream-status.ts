import type { SqlClient } from "../../backend/sql-client.js";
import { ERROR_CODES } from "../../core/errors.js";
import { type Lsn, parseLsn } from "../../core/lsn.js";
import type { EngineContext } from "../context.js";
import { askUntil, type LongQuestion } from "../control/ask-until.js";
import { LOOK, openSides, type Sides } from "../control/sides.js";
import type { LaneStatus, StreamStatus } from "../model/activities.js";
import { isStandbyReading } from "../model/cutover-plan.js";
import { type Blocker, otherSide, streamFrom } from "../model/migration.js";
import type { StreamInput } from "./lane-watch.js";

/**
 * What the lanes have to do still, and why one does not go on. Reads only.
 * @throws MigrationUnknown, ServerUnreachable
 */
export async function streamStatus(
  context: EngineContext,
  input: StreamInput,
): Promise<StreamStatus> {
  await using sides = await openSides(context, input.ref);
  return await readStreamStatus(sides, input);
}

/**
 * Looks until all lanes read, or `waitMs` are over.
 * Second run: it reads only.
 */
export async function awaitStandby(
  context: EngineContext,
  input: LongQuestion,
): Promise<StreamStatus> {
  await using sides = await openSides(context, input.ref);
  return await askUntil(context, input, {
    ask: () => readStreamStatus(sides, input),
    isEnough: isStandbyReading,
  });
}

/** `streamStatus` within an activity that has the sides open. */
export async function readStreamStatus(sides: Sides, input: StreamInput): Promise<StreamStatus> {
  // Lanes before the WAL's end: the other way round a busy stream could look done.
  const to = await sides.sessions(otherSide(streamFrom(input.stream)), LOOK);
  const rows = (await Promise.all(to.map((client) => readLanes(client, input)))).flat();
  const from = await sides.sessions(streamFrom(input.stream), LOOK);
  const ends = await Promise.all(from.map(readWalEnd));
  const lanes: LaneStatus[] = [];
  let lagBytes: number | null = 0;
  for (const [fromShard, end] of ends.entries())
    for (const toShard of to.keys()) {
      const row = rows.find((one) => one.from_shard === fromShard && one.to_shard === toShard);
      lanes.push(laneStatus(row, fromShard, toShard));
      // A stream in standby wants nothing of what it has not seen: it has no lag.
      const applied = row?.state === "standby" ? null : (row?.applied_lsn ?? null);
      if (applied === null || lagBytes === null) lagBytes = null;
      else lagBytes = Math.max(lagBytes, Number(end - parseLsn(applied)));
    }
  const stopped = rows.find((row) => row.state === "stopped");
  const asideKeys = rows.reduce((sum, row) => sum + (row.from_shard === 0 ? row.aside_keys : 0), 0);
  const conflicts = asideKeys === 0 ? [] : await readConflicts(sides, to, input);
  return {
    stream: input.stream,
    lanes,
    lagBytes,
    asideKeys,
    ...(conflicts.length > 0 ? { asideConflicts: conflicts } : {}),
    blocker: stopped ? stoppedBlocker(stopped) : null,
  };
}

/** Each once, with the columns of the key and without its values (R56): SHOW EVIDENCE has those. */
async function readConflicts(
  sides: Sides,
  clients: readonly SqlClient[],
  input: StreamInput,
): Promise<readonly string[]> {
  const found = new Set<string>();
  for (const client of clients) {
    const { rows } = await client.query<{ schema: string; name: string; conflict: string }>(
      `SELECT DISTINCT schema_name AS schema, table_name AS name, conflict FROM sluice.aside
        WHERE migration = $1 AND stream = $2 AND settled_at IS NULL AND conflict IS NOT NULL
        ORDER BY 1, 2, 3 LIMIT ${SHOWN_CONFLICTS}`,
      [input.ref.id, input.stream],
    );
    for (const { schema, name, conflict } of rows) {
      const plan = sides.spec.tables.find((one) => one.schema === schema && one.name === name);
      found.add(`key (${plan?.keyColumns?.join(", ") ?? ""}) of ${schema}.${name}: ${conflict}`);
    }
  }
  return [...found].slice(0, SHOWN_CONFLICTS);
}

const SHOWN_CONFLICTS = 5;

interface LaneRow {
  readonly from_shard: number;
  readonly to_shard: number;
  readonly state: "standby" | "applying" | "stopped";
  readonly applied_lsn: string | null;
  readonly change_count: string;
  readonly stopped_code: string | null;
  readonly stopped_reason: string | null;
  readonly aside_keys: number;
}

async function readLanes(client: SqlClient, input: StreamInput): Promise<readonly LaneRow[]> {
  const { rows } = await client.query<LaneRow>(
    `SELECT from_shard, to_shard, state, change_count, stopped_code, stopped_reason,
            greatest(applied_lsn, start_lsn)::text AS applied_lsn,
            (SELECT count(*)::integer FROM sluice.aside a
             WHERE a.migration = $1 AND a.stream = $2 AND settled_at IS NULL) AS aside_keys
     FROM sluice.lane WHERE migration = $1 AND stream = $2`,
    [input.ref.id, input.stream],
  );
  return rows;
}

async function readWalEnd(client: SqlClient): Promise<Lsn> {
  const { rows } = await client.query<{ lsn: string }>(
    "SELECT pg_current_wal_insert_lsn()::text AS lsn",
  );
  return parseLsn(rows[0]?.lsn ?? "");
}

function laneStatus(row: LaneRow | undefined, fromShard: number, toShard: number): LaneStatus {
  return {
    fromShard,
    toShard,
    state: row?.state ?? "missing",
    appliedLsn: row?.applied_lsn ?? "0/0",
    changeCount: Number(row?.change_count ?? 0),
  };
}

function stoppedBlocker(row: LaneRow): Blocker {
  const code = ERROR_CODES.find((one) => one === row.stopped_code) ?? "WAITING";
  const lane = `lane ${row.from_shard} -> ${row.to_shard}`;
  // R56: the row itself stays in the database; the command reads it there.
  return { code, message: `${lane} is stopped: ${row.stopped_reason ?? ""}; see SHOW EVIDENCE` };
}
