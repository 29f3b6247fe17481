import type { ReadinessResult } from "./activities.js";
import type { TaskPolicy } from "./policy.js";

/** What `replicate` decides, from what it knows. Times are arguments, in ms. */

export type Next = "wait" | "switch" | "finalize" | "abort" | "continueAsNew" | "failed";

export interface ReplicateState {
  /** The work beside the main line ended by a failure. */
  readonly hasFailed: boolean;
  readonly isAborted: boolean;
  readonly isFinalized: boolean;
  readonly wantsSwitch: boolean;
  /** The last answer said so, and its back-off is over. */
  readonly isReady: boolean;
  /** Temporal suggests to continue as new. */
  readonly isHistoryLong: boolean;
}

/**
 * What comes next, by the first that holds. An abort wins over everything, a finalize over a switch: both take
 * the reason for the switch away. docs/protocol.md is written from here.
 */
export const NEXT: readonly {
  readonly next: Exclude<Next, "wait">;
  readonly when: string;
  readonly holds: (state: ReplicateState) => boolean;
}[] = [
  {
    next: "failed",
    when: "the streams, the looks or the verification have failed for good",
    holds: (state) => state.hasFailed,
  },
  { next: "abort", when: "an abort was ordered", holds: (state) => state.isAborted },
  { next: "finalize", when: "a finalize was ordered", holds: (state) => state.isFinalized },
  {
    next: "switch",
    when: "a switch is wanted, the last look says ready, and the back-off after an undone attempt is over",
    holds: (state) => state.wantsSwitch && state.isReady,
  },
  {
    // Between two looks only; the streams resume from the positions in the databases.
    next: "continueAsNew",
    when: "Temporal says that the history is long",
    holds: (state) => state.isHistoryLong,
  },
];

export function nextOf(state: ReplicateState): Next {
  return NEXT.find(({ holds }) => holds(state))?.next ?? "wait";
}

const LONGEST_BACKOFF_MS = 60_000;

/** From an attempt that was undone to the next one; attempts count from 1. */
export function backoffMs(firstMs: number, attempt: number): number {
  return Math.min(firstMs * 2 ** Math.min(attempt - 1, 8), LONGEST_BACKOFF_MS);
}

/**
 * How long `readiness` may wait for a yes. A switch is wanted: one long question that ends when it is ready.
 * Else a look now and then, for SHOW TASKS; and short ones while schema waits for the lanes, as nothing is
 * ready before it is there.
 */
export function questionMs(asking: {
  readonly wantsSwitch: boolean;
  readonly needsSchema: boolean;
  readonly observeMs: number;
}): number {
  return asking.wantsSwitch && !asking.needsSchema ? asking.observeMs : 0;
}

export type AfterAnswer =
  | { readonly kind: "completeSchema" }
  /** The lanes have not caught up; whoever wants to switch now waits for that too. */
  | { readonly kind: "lookAgain"; readonly afterMs: number }
  | { readonly kind: "switch" }
  /** Ready, but the last attempt is not long enough ago; an order to go on ends the wait. */
  | { readonly kind: "waitOut"; readonly forMs: number }
  /** It has waited in the question. */
  | { readonly kind: "askAgain" }
  /** Nobody wants to switch; an order to do so ends the wait. */
  | { readonly kind: "idle"; readonly forMs: number };

/** Near enough for the schema that needs consistent rows; what is left comes while it waits for locks. */
const CAUGHT_UP_BYTES = 1_000_000;
const CATCH_UP_LOOK_MS = 1_000;

/** What follows an answer of `readiness`. */
export function afterAnswer(
  answer: Pick<ReadinessResult, "isReady" | "lagBytes">,
  asked: {
    /** When it was asked: an order that came since gets a question of its own. */
    readonly wantsSwitch: boolean;
    readonly needsSchema: boolean;
    readonly observeMs: number;
    /** Until the next attempt is due; negative when it has been for that long. */
    readonly backoffMs: number;
    /** Told not to wait for it. */
    readonly isHurried: boolean;
  },
): AfterAnswer {
  if (asked.needsSchema)
    return isCaughtUp(answer)
      ? { kind: "completeSchema" }
      : { kind: "lookAgain", afterMs: CATCH_UP_LOOK_MS };
  if (!asked.wantsSwitch) return { kind: "idle", forMs: asked.observeMs };
  if (!answer.isReady) return { kind: "askAgain" };
  return asked.backoffMs <= 0 || asked.isHurried
    ? { kind: "switch" }
    : { kind: "waitOut", forMs: asked.backoffMs };
}

function isCaughtUp({ isReady, lagBytes }: Pick<ReadinessResult, "isReady" | "lagBytes">): boolean {
  return isReady || (lagBytes !== null && lagBytes <= CAUGHT_UP_BYTES);
}

/** Nobody wants to switch: often enough to say that rollback is ready, seldom enough to cost nothing. */
const IDLE_PASS_MS = 10 * 60_000;

export interface PassDue {
  /** Before this time only if a switch is wanted. */
  readonly unwantedAtMs: number;
  /** Never before this time: the last clean pass is fresh. */
  readonly atMs: number;
}

/**
 * When the next verification pass is due: at once (null) while there is no clean one; then before the last one
 * is too old to count, if a switch is wanted.
 */
export function nextPassDue(
  lastCleanAtMs: number | null,
  policy: Pick<TaskPolicy, "verifyMaxAgeMs">,
): PassDue | null {
  if (lastCleanAtMs === null) return null;
  // Half of the age at which it counts no more: the pass itself takes time.
  const freshForMs = Math.max(1_000, Math.floor(policy.verifyMaxAgeMs / 2));
  return {
    unwantedAtMs: lastCleanAtMs + Math.max(IDLE_PASS_MS, freshForMs),
    atMs: lastCleanAtMs + freshForMs,
  };
}

/** After a pass that was not clean: a stable difference stays, so ask again soon but not at once. */
const UNCLEAN_PAUSE_MS = { first: 2_000, longest: 60_000 } as const;

/**
 * @param inARow passes with lasting differences since the last clean one. 0: nothing but rows in motion was in the
 *   way, which is the load and says nothing of the next pass: a switch must not wait longer and longer for it
 */
export function uncleanPauseMs(inARow: number): number {
  return Math.min(UNCLEAN_PAUSE_MS.first * 2 ** Math.max(0, inARow - 1), UNCLEAN_PAUSE_MS.longest);
}
