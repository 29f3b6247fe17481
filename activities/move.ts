import type { EngineContext } from "../src/resharding/context.js";
import { copyRange } from "../src/resharding/copy/copy-range-step.js";
import { planCopy } from "../src/resharding/copy/plan-copy-step.js";
import type { MoveActivities, StreamEnd } from "../src/resharding/model/activities.js";
import { syncSchema } from "../src/resharding/schema/sync-schema-step.js";
import { runStream } from "../src/resharding/stream/run-stream-step.js";
import { verifyPass } from "../src/resharding/verify/verify-pass-step.js";
import { type ActivityDeps, activityOf, type StepsOf, stopReason } from "./activity.js";

/** What the activities of a mover do; each step's docstring says why a second run is harmless. */
export const MOVE_STEPS: StepsOf<MoveActivities> = {
  syncSchema,
  planCopy,
  copyRange,
  runStream: streamUntilStopped,
  verifyPass,
};

/** Activities of a mover: they carry rows, and may be killed at any time. */
export function createMoveActivities(deps: ActivityDeps): MoveActivities {
  return {
    syncSchema: activityOf(deps, MOVE_STEPS.syncSchema),
    planCopy: activityOf(deps, MOVE_STEPS.planCopy),
    copyRange: activityOf(deps, MOVE_STEPS.copyRange),
    runStream: activityOf(deps, MOVE_STEPS.runStream),
    verifyPass: activityOf(deps, MOVE_STEPS.verifyPass),
  };
}

/**
 * A stream that was stopped returns in good order, but to Temporal that is no result: after a worker's
 * shutdown it would never be started again.
 * Second run: its lanes end their predecessors and go on behind the position that came with the rows (R16).
 */
async function streamUntilStopped(
  context: EngineContext,
  input: Parameters<MoveActivities["runStream"]>[0],
): Promise<StreamEnd> {
  const end = await runStream(context, input);
  if (context.signal.aborted) throw stopReason(context.signal);
  return end;
}
