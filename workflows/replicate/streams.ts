import { condition, patched, sleep } from "@temporalio/workflow";
import { together } from "../task/side-by-side.js";
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
    await run.step("runStream", { summary }, { ref, stream, fromShard });
    // Its worker shut down. Also in an attempt at a switch it goes on at once, as after a crash, for the drain
    // waits for it; code before this patch left that to the end of the attempt.
    if (!patched("streams-go-on-in-a-switch")) await condition(() => !run.isSwitching);
    await sleep(AGAIN_MS);
  }
}
