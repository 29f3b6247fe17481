/** How long to wait before something that ends by itself is started again. Durations in milliseconds. */
export interface Backoff {
  readonly firstMs: number;
  readonly longestMs: number;
  /** What lived longer than this failed by accident, not at its start: a new story. */
  readonly stableMs: number;
}

/**
 * Twice as long each time it ends early, up to the longest; from the first again after it was stable.
 * @param previousMs the last delay; null: there was none
 */
export function nextDelayMs(previousMs: number | null, livedMs: number, backoff: Backoff): number {
  if (previousMs === null || livedMs > backoff.stableMs) return backoff.firstMs;
  return Math.min(previousMs * 2, backoff.longestMs);
}
