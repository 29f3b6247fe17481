import type { EngineContext } from "../../resharding/context.js";
import { unfence } from "../../resharding/ends/unfence.js";
import type { Decision } from "../../resharding/switch/decision.js";
import { resolve } from "../../resharding/switch/resolve-step.js";
import { type EffectiveConfig, type KnownMigration, namesOf } from "./effective-config.js";

/** What the admin database is told without Temporal: SHOW CUTOVER, RESOLVE CUTOVER, UNFENCE. */

/** One row per decision, newest first. */
export function cutoverRows(migrations: readonly KnownMigration[]): readonly CutoverRow[] {
  return migrations.flatMap((migration) =>
    [...migration.decisions].reverse().map((decision) => cutoverRow(migration, decision)),
  );
}

/** By the names of SHOW CUTOVER's columns, which admin holds it to. Times in ms; null: not so far, or not known. */
export type CutoverRow = ReturnType<typeof cutoverRow>;

function cutoverRow(migration: KnownMigration, decision: Decision) {
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

/** Makes the latest decision of each migration of a database final. @returns a sentence for each */
export async function resolveOpen(
  context: EngineContext,
  seen: {
    readonly effective: EffectiveConfig;
    readonly migrations: readonly KnownMigration[];
    readonly database: string;
  },
): Promise<readonly string[]> {
  const said: string[] = [];
  for (const migration of seen.migrations) {
    if (migration.state !== "active") continue;
    if (!namesOf(seen.effective.config, migration).includes(seen.database)) continue;
    const decision = migration.decisions.at(-1);
    if (!decision) continue;
    const result = await resolve(context, { ref: migration, decision, as: "bystander" });
    said.push(`epoch ${decision.epoch}: ${result.outcome}, the ${result.serving} side serves`);
  }
  return said;
}

/** @returns a sentence */
export async function unfenceDatabase(
  context: EngineContext,
  database: string,
): Promise<readonly string[]> {
  const count = await unfence(context, database);
  return [`${count} gates removed from "${database}"`];
}
