import type { SqlClient } from "../../backend/sql-client.js";
import type { EngineContext } from "../context.js";
import type { SessionUse, Sides } from "../control/sides.js";
import type { DecisionHandle } from "../model/activities.js";
import { otherSide } from "../model/migration.js";
import { type LaneWatch, openLaneWatch } from "../stream/lane-watch.js";
import { openSettlement } from "../stream/settle-aside.js";
import type { SettleSessions } from "../stream/settlement.js";
import { controlSession } from "./board.js";

/** Everything that the pause needs, opened before it begins: each would cost a few milliseconds inside it. */
export interface SwitchSessions {
  readonly control: SqlClient;
  /** By shard, of the side that is left and of the side that will serve. */
  readonly from: readonly SqlClient[];
  readonly to: readonly SqlClient[];
  readonly lanes: LaneWatch;
  readonly settlement: SettleSessions;
  /**
   * A second session to the control database, for after an error: the first one may be the error. It outlives
   * the attempt's signal, as an attempt that was told to stop shall still leave no hold behind.
   */
  readonly undo: Undo;
}

export interface Undo {
  /** Another one when it has died meanwhile. @throws ServerUnreachable */
  readonly session: () => Promise<SqlClient>;
  /** Ends it after `timeoutMs`, whatever it waits for. */
  readonly limit: (timeoutMs: number) => Disposable;
}

/** 500 ms: a lock that nobody should hold must not eat the pause (R28). */
const SWITCH: SessionUse = { purpose: "switch", lockTimeoutMs: 500 };

/** @throws ServerUnreachable */
export async function openSwitchSessions(
  context: EngineContext,
  sides: Sides,
  decision: DecisionHandle,
): Promise<SwitchSessions> {
  const stream = { ref: sides.ref, stream: decision.stream };
  const undo = undoOf(sides, decision);
  const [control, from, to, lanes] = await Promise.all([
    controlSession(sides, decision.serving),
    sides.sessions(otherSide(decision.serving), SWITCH),
    sides.sessions(decision.serving, SWITCH),
    openLaneWatch(context, sides, stream),
    undo.session(),
  ]);
  const settlement = await openSettlement(sides, { ...stream, lanes });
  return { control, from, to, lanes, settlement, undo };
}

function undoOf(sides: Sides, decision: DecisionHandle): Undo {
  const ended = new AbortController();
  const use: SessionUse = { purpose: "switch undo", lockTimeoutMs: 500, signal: ended.signal };
  return {
    session: () => sides.session(otherSide(decision.serving), 0, use),
    limit: (timeoutMs) => {
      const timer = setTimeout(
        () => ended.abort(new Error(`no answer to the undoing within ${timeoutMs} ms`)),
        timeoutMs,
      );
      return { [Symbol.dispose]: () => clearTimeout(timer) };
    },
  };
}
