import type { LaneStatus } from "./activities.js";

/**
 * The lane reads its slot, so a switch may rely on it. "applying" too: an attempt that was undone after its
 * start markers leaves its lanes so. Nothing can come of it before the next one: that side's gate is closed, and
 * what our own sessions write carries an origin of ours, which these lanes drop (R34).
 */
export function isReading({ state }: Pick<LaneStatus, "state">): boolean {
  return state === "standby" || state === "applying";
}
