import type { SqlClient } from "../../backend/sql-client.js";
import { type ErrorFields, SluiceError } from "../../core/errors.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import type { EngineContext } from "../context.js";
import { upgradeControlSchema } from "../control/control-schema.js";
import { openSides, type SessionUse } from "../control/sides.js";
import { type MigrationRef, type MigrationSpec, otherSide, type Side } from "../model/migration.js";
import { type Margin, plotCourse } from "./sequence-course.js";
import {
  bringSequence,
  readShardExtremes,
  readShardSequences,
  type SequenceChange,
  type ShardSequences,
  sequenceName,
  setSequences,
} from "./sequence-writer.js";

/**
 * Ids (R35, R49): every sequence of the side that will serve is ahead of every id that the serving side has given
 * out, and no two shards give out the same one. Which sequences there are is asked of the servers each time (R48):
 * one that was made, renamed or altered since the plan is no exception.
 */

/** A sequence that cannot be brought ahead: two shards might give out one id. */
export class SequencesUnset extends SluiceError {
  readonly code = "SLUICE_SEQUENCES_UNSET";
  readonly sqlState = SQLSTATE.objectNotInPrerequisiteState;
  readonly recovery = "retry";
  constructor(reasons: readonly string[], options: ErrorFields = {}) {
    super(`sequences cannot be set for the switch: ${reasons.join("; ")}`, {
      hint: "Nothing was switched. Correct the sequence with ALTER SEQUENCE, or make it on the other side, and switch again.",
      ...options,
    });
  }
}

/** What is given out between arm and the closed gate stays below it, or the pause moves the start once more. */
const WANTED: Margin = { most: 10_000n, share: 100n };
const NEEDED_AT_ARM: Margin = { most: 5_000n, share: 200n };
/** For `nextval` by somebody who bypasses the proxy and is not ended yet: no gate refuses that. */
const NEEDED_IN_PAUSE: Margin = { most: 100n, share: 1_000n };

const SEQUENCES: SessionUse = { purpose: "sequences", lockTimeoutMs: 5_000 };

/**
 * Sets the sequences of the side that will serve, at arm. Nobody uses them: that side's gate is closed.
 * Second run, or one beside it: moves them ahead again, never back; on a side that serves it changes nothing.
 * @throws SequencesUnset
 */
export async function advanceSequences(
  context: EngineContext,
  input: { readonly ref: MigrationRef; readonly serving: Side },
): Promise<void> {
  await using sides = await openSides(context, input.ref);
  const from = await sides.sessions(otherSide(input.serving), SEQUENCES);
  const to = await sides.sessions(input.serving, SEQUENCES);
  for (const client of [...from, ...to]) await upgradeControlSchema(client);
  const { ref } = input;
  await moveAhead(context, {
    ref,
    spec: sides.spec,
    from,
    to,
    needed: NEEDED_AT_ARM,
    isAtArm: true,
  });
}

/**
 * In the pause, under the closed gate: whatever the margin did not cover is moved ahead now. Usually a few reads
 * per shard and nothing to do.
 * @throws SequencesUnset; in a pause every lock is waited for briefly
 */
export async function checkSequences(
  context: EngineContext,
  sessions: { readonly from: readonly SqlClient[]; readonly to: readonly SqlClient[] },
  input: { readonly ref: MigrationRef; readonly spec: MigrationSpec },
): Promise<void> {
  await moveAhead(context, { ...sessions, ...input, needed: NEEDED_IN_PAUSE, isAtArm: false });
}

interface Move {
  readonly ref: MigrationRef;
  readonly spec: MigrationSpec;
  readonly from: readonly SqlClient[];
  readonly to: readonly SqlClient[];
  readonly needed: Margin;
  readonly isAtArm: boolean;
}

/** Set, read again, and found right: a change that met another run's was left out. */
const ROUNDS = 4;

async function moveAhead(context: EngineContext, move: Move): Promise<void> {
  for (let round = 0; round < ROUNDS; round++) {
    if (await isAhead(context, move)) return;
    context.heartbeat({ step: "sequences" });
  }
  throw new SequencesUnset(["they change while they are set, or their side serves already"]);
}

/** @returns false when something had to be set: whether it is right now is for the next look */
async function isAhead(context: EngineContext, move: Move): Promise<boolean> {
  const { ref, spec } = move;
  const read = (client: SqlClient) => readShardSequences(client, spec.tables);
  const [from, to] = await Promise.all([
    Promise.all(move.from.map(read)),
    Promise.all(move.to.map(read)),
  ]);
  if (await bringMissing(context, { ref, from, to })) return false;
  refuseStrangers(from, to);
  const columns = move.isAtArm ? "all" : "indexed";
  const extremes = await Promise.all(from.map((one) => readShardExtremes(context, one, columns)));
  const changes = to.map((): SequenceChange[] => []);
  const refused: string[] = [];
  for (const name of namesOf(from)) {
    const readings = from.flatMap((one) => one.readings.get(name) ?? []);
    const course = plotCourse({
      given: { readings, extremes: extremes.flatMap((one) => one.get(name) ?? []) },
      to: to.map((one) => one.readings.get(name) ?? null),
      needed: move.needed,
      wanted: WANTED,
    });
    if (course.kind === "impossible") refused.push(`${name}: ${course.reason}`);
    else
      for (const [shard, setting] of course.settings.entries()) {
        const reading = to[shard]?.readings.get(name);
        if (setting && reading) changes[shard]?.push({ reading, setting });
      }
  }
  if (refused.length > 0) throw new SequencesUnset(refused);
  warnOfEnds(context, changes);
  await Promise.all(to.map(({ client }, shard) => setSequences(client, ref, changes[shard] ?? [])));
  return changes.every((list) => list.length === 0);
}

function namesOf(shards: readonly ShardSequences[]): ReadonlySet<string> {
  return new Set(shards.flatMap(({ readings }) => [...readings.keys()]));
}

/** @returns whether one was missing: then everything is to be read again */
async function bringMissing(
  context: EngineContext,
  input: {
    readonly ref: MigrationRef;
    readonly from: readonly ShardSequences[];
    readonly to: readonly ShardSequences[];
  },
): Promise<boolean> {
  const { ref, from } = input;
  let isMissing = false;
  for (const to of input.to)
    for (const name of namesOf(from)) {
      if (to.readings.has(name)) continue;
      isMissing = true;
      const owner = from.find(({ readings }) => readings.has(name));
      const facts = owner?.readings.get(name)?.facts;
      if (owner && facts) await bringSequence(context, { ref, facts, from: owner.client, to });
    }
  return isMissing;
}

/** What feeds a moving table there and nothing here speaks of would begin anywhere. */
function refuseStrangers(from: readonly ShardSequences[], to: readonly ShardSequences[]): void {
  const known = namesOf(from);
  const strangers = to.flatMap(({ readings }, shard) =>
    [...readings.values()]
      .filter(({ facts }) => facts.isFeeding && !known.has(sequenceName(facts)))
      .map(
        ({ facts }) => `${sequenceName(facts)} of shard ${shard} is not on the side that serves`,
      ),
  );
  if (strangers.length > 0) throw new SequencesUnset(strangers);
}

function warnOfEnds(context: EngineContext, changes: readonly (readonly SequenceChange[])[]): void {
  for (const [shard, list] of changes.entries())
    for (const { reading, setting } of list)
      if (setting.next === null)
        context.log.warn("a sequence has no id left for this shard", {
          sequence: sequenceName(reading.facts),
          shard,
        });
}
