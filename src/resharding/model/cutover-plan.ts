import type { NodeInfo, ResolveResult, StreamStatus, SwitchReport } from "./activities.js";
import { isReading } from "./lane-state.js";
import type { TaskPolicy } from "./policy.js";
import type { CutoverResult } from "./tasks.js";

/** What `cutover` decides, from the answers of its steps. */

/** Why the way back is not ready after this wait, or null when every lane of it reads its slot. */
export function standbyRefusal(status: StreamStatus, waitedMs: number): string | null {
  if (status.lanes.length > 0 && status.lanes.every(isReading)) return null;
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
