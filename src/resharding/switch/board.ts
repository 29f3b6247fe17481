import type { SqlClient } from "../../backend/sql-client.js";
import { isMissingControlSchema } from "../control/control-schema.js";
import { LOOK, type SessionUse, type Sides } from "../control/sides.js";
import { type MigrationRef, otherSide, type Side } from "../model/migration.js";
import { furthestDecisions, servingOf } from "../model/protocol.js";
import { type Decision, readDecisions } from "./decision.js";

/** What every shard that answers says of a migration's decisions. */
export interface Board {
  /** All different decisions seen, the furthest state of each epoch, by epoch. */
  readonly decisions: readonly Decision[];
  /** Highest committed epoch and the side that it names (R32); the source and 0 before any. */
  readonly epoch: number;
  readonly serving: Side;
  /** "side shard" of those that did not answer. */
  readonly unreachable: readonly string[];
}

/** R32: asks every shard of both sides that can be reached; the highest committed epoch counts. */
export async function readBoard(sides: Sides, ref: MigrationRef): Promise<Board> {
  const asked = (["source", "destination"] as const).flatMap((side) =>
    sides[side].shards.map(async (_, shard) => {
      try {
        const client = await sides.session(side, shard, LOOK);
        return { where: "", decisions: await readDecisions(client, ref) };
      } catch (error) {
        // A shard that was reached has said all that it knows, even when that is nothing.
        const where = isMissingControlSchema(error) ? "" : `${side} ${shard}`;
        return { where, decisions: [] as readonly Decision[] };
      }
    }),
  );
  const answers = await Promise.all(asked);
  const decisions = furthestDecisions(answers.flatMap((answer) => answer.decisions));
  const { epoch, side } = servingOf(decisions);
  return {
    decisions,
    epoch,
    serving: side,
    unreachable: answers.map((answer) => answer.where).filter((where) => where !== ""),
  };
}

/** Probes and compare-and-sets must not hang behind a lock (R28). */
const CONTROL: SessionUse = { purpose: "control", lockTimeoutMs: 500 };

/**
 * The control database of a decision is shard 0 of the side that served when it was made, so the one that
 * the decision leaves.
 */
export async function controlSession(sides: Sides, serving: Side): Promise<SqlClient> {
  return await sides.session(otherSide(serving), 0, CONTROL);
}
