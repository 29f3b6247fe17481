import type {
  LaneStatus,
  NodeInfo,
  ResolveResult,
  StreamStatus,
  SwitchReport,
} from "./activities.js";
import type { TaskPolicy } from "./policy.js";
import type { CutoverResult } from "./tasks.js";

/** What `cutover` decides, from the answers of its steps. */

/**
 * Every lane of the way back reads its slot. "applying" too: an attempt that was undone after its start markers
 * leaves its lanes so. Nothing can come of it before the next one: that side's gate is closed, and what our own
 * sessions write carries an origin of ours, which these lanes drop (R34).
 */
export function isStandbyReading({ lanes }: Pick<StreamStatus, "lanes">): boolean {
  const isReading = ({ state }: LaneStatus) => state === "standby" || state === "applying";
  return lanes.length > 0 && lanes.every(isReading);
}

/** Why the way back is not ready after this wait, or null when it is. */
export function standbyRefusal(status: StreamStatus, waitedMs: number): string | null {
  if (isStandbyReading(status)) return null;
  const why = status.blocker?.message ?? "a lane has not begun";
  return `the way back is not ready after ${waitedMs} ms: ${why}`;
}

export type Armed =
  | { readonly kind: "goOn"; readonly nodes: readonly NodeInfo[] }
  | { readonly kind: "undo"; readonly reason: string };

/**
 * What silent nodes mean for the attempt.
 * @param silent why, by node id
 */
export function afterArming(
  nodes: readonly NodeInfo[],
  silent: ReadonlyMap<string, string>,
  policy: Pick<TaskPolicy, "silentNode">,
): Armed {
  if (silent.size === 0) return { kind: "goOn", nodes };
  if (policy.silentNode === "abort") {
    const names = [...silent].map(([nodeId, why]) => `${nodeId} (${why})`).join(", ");
    return { kind: "undo", reason: `node did not arm: ${names}` };
  }
  // Fenced out: the closed gate refuses its writes, and its sessions are ended before the others adopt.
  return { kind: "goOn", nodes: nodes.filter((node) => !silent.has(node.nodeId)) };
}

/** The attempt was given up before anything was planned. */
export function undoneAttempt(reason: string): CutoverResult {
  return { outcome: "aborted", reason, pauseMs: null, steps: null };
}

/**
 * The answer of an attempt. Only `resolve` is believed on the outcome (R43); what the switch itself reported,
 * or what it failed with, fills the gaps.
 */
export function attemptResult(
  resolved: ResolveResult,
  known: { readonly report: SwitchReport | null; readonly failure: string },
): CutoverResult {
  const { report, failure } = known;
  return {
    outcome: resolved.outcome,
    reason: resolved.outcome === "committed" ? "" : resolved.reason || report?.reason || failure,
    pauseMs: resolved.pauseMs ?? report?.pauseMs ?? null,
    steps: resolved.steps ?? report?.steps ?? null,
  };
}
