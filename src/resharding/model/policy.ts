/** Policies that orchestration itself obeys; the engine's own are in EnginePolicy. Durations in ms. */
export interface TaskPolicy {
  /** Key ranges copied at once, over all tables. */
  readonly parallelCopies: number;
  readonly pauseCapMs: number;
  readonly silentNode: "abort" | "fence";
  readonly verifyMaxAgeMs: number;
  /** After a switch that was undone, before the next attempt. */
  readonly switchRetryMs: number;
  /** Longest question to `readiness`, which is also how stale SHOW TASKS may be. */
  readonly observeMs: number;
}
