import { condition, sleep } from "@temporalio/workflow";
import {
  afterAnswer,
  nextPassDue,
  questionMs,
  uncleanPauseMs,
} from "../../src/resharding/model/replicate-plan.js";
import { taskType } from "../../src/resharding/model/tasks.js";
import { together } from "../task/side-by-side.js";
import type { ReplicateRun } from "./replicate-run.js";

/** Verification and readiness, side by side, until cancelled. */
export async function watch(run: ReplicateRun): Promise<void> {
  run.isReady = false;
  await together([() => keepVerifying(run), () => keepAsking(run)]);
}

async function keepVerifying(run: ReplicateRun): Promise<never> {
  const { ref, stream } = run.input;
  let differentInARow = 0;
  for (;;) {
    await untilPassIsDue(run);
    run.passes += 1;
    const pass = run.passes;
    const startedAtMs = Date.now();
    const summary = `verification pass ${pass}`;
    const result = await run.step("verifyPass", { summary }, { ref, stream, pass });
    if (result.isClean) {
      run.lastCleanAtMs = startedAtMs;
      differentInARow = 0;
    } else {
      differentInARow = result.isInMotion === true ? 0 : differentInARow + 1;
      run.log(`pass ${pass} found ${result.differences.length} differences`);
      await sleep(uncleanPauseMs(differentInARow));
    }
  }
}

async function untilPassIsDue(run: ReplicateRun): Promise<void> {
  const due = nextPassDue(run.lastCleanAtMs, run.input.policy);
  if (due === null) return;
  const idleForMs = due.unwantedAtMs - Date.now();
  if (idleForMs > 0) await condition(() => run.flags.wantsSwitch, idleForMs);
  const freshForMs = due.atMs - Date.now();
  if (freshForMs > 0) await sleep(freshForMs);
}

async function keepAsking(run: ReplicateRun): Promise<void> {
  const { ref, stream, policy } = run.input;
  const { observeMs } = policy;
  for (;;) {
    const { wantsSwitch } = run.flags;
    const waitMs = questionMs({ wantsSwitch, needsSchema: run.needsSchema, observeMs });
    const summary = wantsSwitch ? "wait until ready to switch" : "look at lag";
    const answer = await run.step("readiness", { summary }, { ref, stream, waitMs });
    run.note(answer);
    const next = afterAnswer(answer, {
      wantsSwitch,
      needsSchema: run.needsSchema,
      observeMs,
      backoffMs: run.notBeforeMs - Date.now(),
      isHurried: run.flags.isHurried,
    });
    switch (next.kind) {
      case "completeSchema":
        await completeSchema(run);
        break;
      case "lookAgain":
        await sleep(next.afterMs);
        break;
      case "switch":
        // The main line takes over, and starts a new watch if the switch is undone.
        run.isReady = true;
        return;
      case "waitOut":
        await condition(() => run.flags.isHurried, next.forMs);
        break;
      case "idle":
        await condition(() => run.flags.wantsSwitch, next.forMs);
        break;
      case "askAgain":
        break;
    }
  }
}

/** Repeated while rows do not fit: the lanes have not brought the last of them. */
async function completeSchema(run: ReplicateRun): Promise<void> {
  const { ref } = run.input;
  const phase = "cutover";
  const row = taskType.schemaSync(ref, phase);
  const summary = "schema that waited for the last rows";
  await run.step("schemaCutover", { summary, row }, { ref, phase });
  run.needsSchema = false;
}
