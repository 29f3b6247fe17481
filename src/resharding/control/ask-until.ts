import { setTimeout as delay } from "node:timers/promises";
import type { EngineContext } from "../context.js";
import type { MigrationRef, StreamNumber } from "../model/migration.js";

/** A question that is asked again within one activity, so that a wait is no history of many. */
export interface LongQuestion {
  readonly ref: MigrationRef;
  readonly stream: StreamNumber;
  readonly waitMs: number;
}

/** How often a long question looks again. */
const LOOK_MS = 500;

/** @returns the first answer that is enough, or the last one before `waitMs` are over */
export async function askUntil<T>(
  context: Pick<EngineContext, "signal">,
  { waitMs }: LongQuestion,
  question: { readonly ask: () => Promise<T>; readonly isEnough: (answer: T) => boolean },
): Promise<T> {
  const deadlineAtMs = performance.now() + waitMs;
  for (;;) {
    const answer = await question.ask();
    if (question.isEnough(answer) || performance.now() + LOOK_MS > deadlineAtMs) return answer;
    // Polling: what makes it ready happens in several databases and nodes, and none of them tells us.
    await delay(LOOK_MS, undefined, { signal: context.signal });
  }
}
