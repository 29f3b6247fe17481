import type { EngineContext } from "../../resharding/context.js";
import { unfence } from "../../resharding/ends/unfence.js";
import { type MigrationRef, otherSide } from "../../resharding/model/migration.js";
import type { Decision } from "../../resharding/switch/decision.js";
import { holdWaitInWords, readHoldWaits } from "../../resharding/switch/hold-wait.js";
import { resolve } from "../../resharding/switch/resolve-step.js";
import { type EffectiveConfig, type KnownMigration, namesOf } from "./effective-config.js";
import type { ServerWatch } from "./server-watch.js";

/** What the admin database is told without Temporal: SHOW CUTOVER, RESOLVE CUTOVER, UNFENCE. */

/** A switch that waits now, as nodes have not come to rest. */
export interface WaitingSwitch {
  readonly ref: MigrationRef;
  readonly epoch: number;
  readonly stream: number;
  /** By node: who waits, and for which transactions. */
  readonly waiting: string;
}

/** Asks the control databases of switches under way. Never fails: a server that is silent says nothing of it. */
export async function waitingSwitches(
  migrations: readonly KnownMigration[],
  watch: Pick<ServerWatch, "clientOf">,
): Promise<readonly WaitingSwitch[]> {
  const underWay = migrations.flatMap((migration) =>
    migration.decisions
      .filter(({ state }) => state === "prepared")
      .map((decision) => ({ migration, decision })),
  );
  const asked = underWay.map(async ({ migration, decision }): Promise<WaitingSwitch> => {
    const { epoch, token, serving, stream } = decision;
    const control = await watch.clientOf(migration, otherSide(serving));
    const waits = await readHoldWaits(control, { migration: migration.id, epoch, token });
    const waiting = waits.map((wait) => `${wait.nodeId}: ${holdWaitInWords(wait)}`).join("; ");
    return { ref: migration, epoch, stream, waiting };
  });
  const answers = await Promise.allSettled(asked);
  return answers.flatMap((answer) =>
    answer.status === "fulfilled" && answer.value.waiting !== "" ? [answer.value] : [],
  );
}

/** One row per decision, newest first. */
export function cutoverRows(
  migrations: readonly KnownMigration[],
  waiting: readonly WaitingSwitch[],
): readonly CutoverRow[] {
  return migrations.flatMap((migration) =>
    [...migration.decisions].reverse().map((decision) => {
      const isIt = ({ ref, epoch }: WaitingSwitch) =>
        ref.id === migration.id && epoch === decision.epoch;
      return cutoverRow(migration, decision, waiting.find(isIt)?.waiting ?? null);
    }),
  );
}

/** By the names of SHOW CUTOVER's columns, which admin holds it to. Times in ms; null: not so far, or not known. */
export type CutoverRow = ReturnType<typeof cutoverRow>;

function cutoverRow(migration: KnownMigration, decision: Decision, waiting: string | null) {
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
    waiting,
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
