import type { EngineContext } from "../context.js";
import { openSides } from "../control/sides.js";
import type { StreamEnd } from "../model/activities.js";
import type { StreamInput } from "./lane-watch.js";
import { StreamRun } from "./stream-run.js";

/**
 * Reads one shard of the from-side and feeds every shard of the other one, until the signal aborts: decoded
 * once, a lane per shard, at most BUDGET_BYTES in flight. Never reconnects: whatever breaks ends it, with all
 * its connections closed, and the next attempt begins from what the databases say.
 *
 * A second run ends the first one's sessions on the servers and goes on where the origins are (R16).
 * @throws SlotLost, ServerIdentityChanged, StreamUnsupportedChange, LaneRowMissing, LaneRowExists: a person
 *   must look; ServerUnreachable, LaneTaken: try again
 */
export async function runStream(
  context: EngineContext,
  input: StreamInput & { readonly fromShard: number },
): Promise<StreamEnd> {
  const stop = new AbortController();
  const abort = () => stop.abort(context.signal.reason);
  context.signal.addEventListener("abort", abort, { once: true });
  if (context.signal.aborted) abort();
  const attempt: EngineContext = { ...context, signal: stop.signal };
  try {
    await using sides = await openSides(attempt, input.ref);
    await new StreamRun(attempt, sides, { input, stop }).run();
  } catch (error) {
    if (!context.signal.aborted) throw error;
  } finally {
    context.signal.removeEventListener("abort", abort);
    stop.abort(new Error("the stream has ended"));
  }
  return { outcome: "cancelled" };
}
