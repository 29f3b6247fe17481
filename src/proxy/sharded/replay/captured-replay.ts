import type { ServerConnection } from "../../../backend/server-connection.js";
import { assert } from "../../../core/assert.js";
import type { CapturedReplay } from "../../../router/route.js";
import { encodeErrorFields } from "../../../wire/error-fields.js";
import { SYNC } from "../../../wire/frontend.js";
import type { ScatterOutcome } from "../scatter/contract.js";
import { statementMessages } from "../scatter/shard-messages.js";
import { ShardStatement } from "../scatter/shard-statement.js";
import { countOf } from "../scatter/tags.js";
import { ClientRows } from "./client-rows.js";
import { HeldAnswer } from "./held-answer.js";
import { notReplayable } from "./replay-errors.js";
import {
  arrayText,
  execution,
  FirstColumns,
  GUARD_OFF,
  GUARD_ON,
  type ReplicaEnd,
} from "./replica-rows.js";
import { firstFailure, type ReplayEnds } from "./returned-replay.js";

/** For the statement that follows, in its transaction or savepoint. */
export const CAPTURE_ON = "SET LOCAL sluice.capture = 'on'; SET LOCAL sluice.captured = ''";
const CAPTURE_OFF =
  "SELECT pg_catalog.current_setting('sluice.captured'); SET LOCAL sluice.capture = ''; SET LOCAL sluice.captured = ''";

/** One row that was written on the deciding shard, and what writes it on another. */
interface CapturedRow {
  readonly sql: string;
  readonly parameters: readonly Buffer[];
  /** As it must come back. */
  readonly row: string;
}

/** The statement runs as it is; what it wrote, with its triggers and foreign keys, is asked for afterwards. */
export async function replayCaptured(
  plan: CapturedReplay,
  { request, sink, owner, replicas }: ReplayEnds,
): Promise<ScatterOutcome> {
  const before = await owner.query(`${CAPTURE_ON}; ${plan.obstacleSql}`);
  if (before.error) return { kind: "failed", error: encodeErrorFields("E", before.error) };
  const obstacle = before.rows[0]?.[0] ?? "columns";
  if (obstacle !== "") throw notReplayable(plan.table, obstacle);
  const client = new ClientRows(sink);
  const statement = new ShardStatement(owner, new HeldAnswer(request, client, owner));
  const end = await statement.run(statementMessages(request, request.sql, null));
  if (end.kind === "failed") return end;
  const after = await owner.query(CAPTURE_OFF);
  if (after.error) return { kind: "failed", error: encodeErrorFields("E", after.error) };
  const rows = rowsOf(after.rows[0]?.[0] ?? "", plan);
  if (rows.length > 0) {
    const servers = await replicas();
    const ends = await Promise.all(servers.map((server) => replayOn(server, rows)));
    const failed = await firstFailure(plan, servers, ends);
    if (failed !== null) return { kind: "failed", error: failed };
  }
  client.show();
  return { kind: "complete", tag: end.tags.at(-1) ?? "" };
}

/** @param captured lines as `sluice.replay_capture()` writes them */
function rowsOf(captured: string, plan: CapturedReplay): readonly CapturedRow[] {
  return captured
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [schema, name, verb, before, after] = JSON.parse(line) as CapturedLine;
      const replay = plan.replayOf({ schema, name });
      if (replay === null) throw notReplayable(name, "columns");
      const arrays = [before, after]
        .filter((row) => row !== null)
        .map((row) => arrayText([Buffer.from(row, "utf8")]));
      const row = after ?? before;
      assert(row !== null, "a captured write has a row");
      return { sql: replay[verb], parameters: arrays, row };
    });
}

type CapturedLine = readonly [
  schema: string,
  name: string,
  verb: "INSERT" | "UPDATE" | "DELETE",
  before: string | null,
  after: string | null,
];

async function replayOn(
  server: ServerConnection,
  rows: readonly CapturedRow[],
): Promise<ReplicaEnd> {
  const answers = new FirstColumns();
  const statement = new ShardStatement(server, answers);
  const end = await statement.run(
    Buffer.concat([
      execution(GUARD_ON, []),
      ...rows.map(({ sql, parameters }) => execution(sql, parameters)),
      execution(GUARD_OFF, []),
      SYNC,
    ]),
  );
  if (end.kind === "failed") return end;
  const isSame =
    rows.every((_, index) => countOf(end.tags[index + 1] ?? "") === 1) &&
    rows.every(({ row }, index) => answers.values[index] === row);
  return { kind: isSame ? "same" : "otherwise" };
}
