import type { SqlClient } from "../../backend/sql-client.js";
import type { EngineContext } from "../context.js";
import {
  connectEngine,
  isMissingControlSchema,
  type Sides,
  shardAddress,
} from "../control/sides.js";
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
export async function readBoard(
  context: Pick<EngineContext, "signal">,
  sides: Sides,
  ref: MigrationRef,
): Promise<Board> {
  const asked = (["source", "destination"] as const).flatMap((side) =>
    sides[side].shards.map(async (address, shard) => {
      try {
        await using client = await connectEngine(context, address, "board");
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

/**
 * The control database of a decision is shard 0 of the side that served when it was made, so the one that
 * the decision leaves.
 */
export async function connectControl(
  context: Pick<EngineContext, "signal">,
  sides: Sides,
  serving: Side,
): Promise<SqlClient> {
  return await connectEngine(context, shardAddress(sides[otherSide(serving)], 0), "control", {
    // Probes and compare-and-sets must not hang behind a lock (R28).
    lockTimeoutMs: 500,
  });
}
