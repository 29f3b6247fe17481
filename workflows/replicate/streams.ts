import { condition, sleep } from "@temporalio/workflow";
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
    // Its worker shut down. In an attempt at a switch: committed, this loop is stopped; undone, it goes on.
    await condition(() => !run.isSwitching);
    await sleep(AGAIN_MS);
  }
}
