import { condition, sleep } from "@temporalio/workflow";
import { activity } from "../task/activity-options.js";
import { together } from "../task/step-runner.js";
import type { ReplicateRun } from "./replicate-run.js";

/** A stream that ended by itself is asked again after this: no busy loop, whatever ends it. */
const AGAIN_MS = 1_000;

/** One long activity per shard that is read, until cancelled. Positions live in the databases. */
export async function keepStreaming(run: ReplicateRun): Promise<void> {
  await together(run.fromShards().map((fromShard) => () => streamShard(run, fromShard)));
}

async function streamShard(run: ReplicateRun, fromShard: number): Promise<never> {
  const { ref, stream } = run.input;
  const summary = `stream ${stream}: read shard ${fromShard} of ${ref.source} -> ${ref.destination}`;
  for (;;) {
    await run.step("runStream", () =>
      activity("runStream", { summary })({ ref, stream, fromShard }),
    );
    // Drained by a switch. Committed, this loop is stopped; undone, the stream goes on.
    await condition(() => !run.isSwitching);
    await sleep(AGAIN_MS);
  }
}
