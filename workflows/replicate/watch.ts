import { condition, sleep } from "@temporalio/workflow";
import type { ReadinessResult } from "../../src/resharding/model/activities.js";
import { taskType } from "../../src/resharding/model/tasks.js";
import { activity } from "../task/activity-options.js";
import { together } from "../task/step-runner.js";
import type { ReplicateRun } from "./replicate-run.js";

/** After a pass with differences: a stable one stays, so ask again soon but not at once. */
const UNCLEAN_PAUSE_MS = { first: 2_000, longest: 60_000 } as const;
/** Nobody wants to switch: often enough to say that rollback is ready, seldom enough to cost nothing. */
const IDLE_PASS_MS = 10 * 60_000;

/** Near enough for the schema that needs consistent rows; what is left comes while it waits for locks. */
const CAUGHT_UP_BYTES = 1_000_000;

const CATCH_UP_LOOK_MS = 1_000;

/** Verification and readiness, side by side, until cancelled. */
export async function watch(run: ReplicateRun): Promise<void> {
  run.isReady = false;
  await together([() => keepVerifying(run), () => keepAsking(run)]);
}

async function keepVerifying(run: ReplicateRun): Promise<never> {
  const { ref, stream } = run.input;
  let uncleanPauseMs: number = UNCLEAN_PAUSE_MS.first;
  for (;;) {
    await untilPassIsDue(run);
    run.passes += 1;
    const pass = run.passes;
    const startedAtMs = Date.now();
    const result = await run.step("verifyPass", () =>
      activity("verifyPass", { summary: `verification pass ${pass}` })({ ref, stream, pass }),
    );
    if (result.isClean) {
      run.lastCleanAtMs = startedAtMs;
      uncleanPauseMs = UNCLEAN_PAUSE_MS.first;
    } else {
      run.log(`pass ${pass} found ${result.differences.length} differences`);
      await sleep(uncleanPauseMs);
      uncleanPauseMs = Math.min(uncleanPauseMs * 2, UNCLEAN_PAUSE_MS.longest);
    }
  }
}

/** At once while there is no clean pass; then before the last one is too old to count, if a switch is wanted. */
async function untilPassIsDue(run: ReplicateRun): Promise<void> {
  const { lastCleanAtMs } = run;
  if (lastCleanAtMs === null) return;
  const ageMs = () => Date.now() - lastCleanAtMs;
  const freshForMs = Math.max(1_000, Math.floor(run.input.policy.verifyMaxAgeMs / 2));
  const idleForMs = Math.max(IDLE_PASS_MS, freshForMs) - ageMs();
  if (idleForMs > 0) await condition(() => run.flags.wantsSwitch, idleForMs);
  if (ageMs() < freshForMs) await sleep(freshForMs - ageMs());
}

async function keepAsking(run: ReplicateRun): Promise<void> {
  const { ref, stream, policy } = run.input;
  for (;;) {
    const isWanted = run.flags.wantsSwitch;
    // Wanted: one long question that ends when it is ready. Else a look now and then, for SHOW TASKS; and
    // short ones while schema waits for the lanes, as nothing is ready before it is there.
    const waitMs = isWanted && !run.needsSchema ? policy.observeMs : 0;
    const readiness = await run.step("readiness", () =>
      activity("readiness", { summary: isWanted ? "wait until ready to switch" : "look at lag" })({
        ref,
        stream,
        waitMs,
      }),
    );
    run.note(readiness);
    if (run.needsSchema && isCaughtUp(readiness)) await completeSchema(run);
    else if (run.needsSchema) await sleep(CATCH_UP_LOOK_MS);
    else if (isWanted && readiness.isReady) {
      const backoffMs = run.notBeforeMs - Date.now();
      if (backoffMs <= 0 || run.flags.isHurried) {
        // The main line takes over, and starts a new watch if the switch is undone.
        run.isReady = true;
        return;
      }
      await condition(() => run.flags.isHurried, backoffMs);
    } else if (!isWanted) await condition(() => run.flags.wantsSwitch, policy.observeMs);
  }
}

function isCaughtUp({ isReady, lagBytes }: ReadinessResult): boolean {
  return isReady || (lagBytes !== null && lagBytes <= CAUGHT_UP_BYTES);
}

/** Repeated while rows do not fit: the lanes have not brought the last of them. */
async function completeSchema(run: ReplicateRun): Promise<void> {
  const { ref } = run.input;
  const type = taskType.schemaSync(ref, "cutover");
  run.view.subtask(type, { innerStatus: "syncing cutover schema" });
  await run.step("schemaCutover", () =>
    activity("schemaCutover", { summary: "schema that waited for the last rows" })({
      ref,
      phase: "cutover",
    }),
  );
  run.needsSchema = false;
  run.view.subtask(type, { status: "finished" });
}
