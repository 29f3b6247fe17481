import type { SqlClient } from "../../backend/sql-client.js";
import { SluiceError } from "../../core/errors.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { EngineContext } from "../context.js";
import type { Sides } from "../control/sides.js";
import {
  emitMarker,
  type LanePosition,
  type LaneWatch,
  type StreamInput,
} from "../stream/lane-watch.js";
import { readUnsettledNames, settleAside } from "../stream/settle-aside.js";

/** The lanes do not get past a marker: a comparison would only find their lag. */
class MarkerNotPassed extends SluiceError {
  readonly code = "SLUICE_MARKER_NOT_PASSED";
  readonly sqlState = SQLSTATE.objectNotInPrerequisiteState;
  readonly recovery = "retry";
  constructor(behind: readonly LanePosition[]) {
    const lanes = behind.map((lane) => `${lane.fromShard} -> ${lane.toShard} (${lane.state})`);
    super(`lanes have not passed the verification's marker: ${lanes.join(", ") || "none runs"}`, {
      hint: "SHOW REPLICATION_SLOTS and SHOW TASKS say whether the stream runs and what stopped it.",
    });
  }
}

const TIMEOUT_MS = 60_000;

/** Keys by `asideName`. */
export type UnsettledNames = ReadonlySet<string>;
const NONE: UnsettledNames = new Set();

/**
 * @param from one session per from-shard, in the order of the shards
 * @returns a function that writes a marker into every from-shard's WAL and returns when every lane has
 * durably committed past its shard's, and what the lanes set aside on the way is settled (R9, R33): then
 * everything that was committed before the call is on the to-side, but for the keys that it returns, which could
 * not be settled now. It throws MarkerNotPassed.
 */
export function markerPasser(
  context: EngineContext,
  input: StreamInput,
  using: {
    readonly sides: Sides;
    readonly from: readonly SqlClient[];
    readonly watch: LaneWatch;
  },
): () => Promise<UnsettledNames> {
  const message = { migration: input.ref.id, kind: "probe", token: "verify" } as const;
  return async () => {
    const lsns = await Promise.all(using.from.map((client) => emitMarker(client, message)));
    const outcome = await using.watch.waitPast(lsns, TIMEOUT_MS);
    if (outcome.kind !== "past") throw new MarkerNotPassed(outcome.behind);
    const { conflicts } = await settleAside(context, using.sides, input);
    return conflicts.length === 0 ? NONE : await readUnsettledNames(using.sides, input);
  };
}
