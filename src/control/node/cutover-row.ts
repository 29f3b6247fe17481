import type { Decision } from "../../resharding/switch/decision.js";
import type { KnownMigration } from "./effective-config.js";

/** What SHOW CUTOVER tells of one decision, by the names of its columns. */
export type CutoverRow = ReturnType<typeof cutoverRow>;

/** Times in ms; null: not so far, or not known. */
export function cutoverRow(migration: KnownMigration, decision: Decision) {
  const { steps, pauseMs } = decision.timings;
  return {
    database: migration.source,
    migration: migration.id,
    epoch: decision.epoch,
    state: decision.state,
    serving: decision.serving,
    expires_in_ms: decision.state === "prepared" ? Math.round(decision.expiresInMs ?? 0) : null,
    reason: decision.reason,
    pause_ms: pauseMs ?? null,
    step_pause_ms: steps?.pause ?? null,
    step_synchronize_ms: steps?.synchronize ?? null,
    step_swap_ms: steps?.swap ?? null,
    step_reverse_ms: steps?.reverse ?? null,
    step_resume_ms: steps?.resume ?? null,
  };
}
