import { SQLSTATE } from "../../../core/sqlstate.js";
import { tell } from "../../../core/tell.js";
import { FIRST_SHARD } from "../../../topology/topology.js";
import { StatementFailed, StatementRefused } from "../../session-errors.js";
import { type AskedPart, askParts, type CommitInput, mustEnd } from "./commit-part.js";
import { obstacleOf } from "./obstacle.js";
import { commitInTwoPhases } from "./two-phases.js";

/**
 * Commits a transaction on all of its shards, or on none.
 *
 *     all:      deferred checks run, and each says whether it has written
 *     written:  none or one    its COMMIT is that of the whole
 *               several        in two phases; where that cannot be, one COMMIT after the other
 *     not written: their COMMIT ends what was only read
 *
 * One after the other, what fails between two commits leaves the first committed: then the error says which shard has
 * what (40003). Nothing that a shard can still refuse is left by then but a serialization failure.
 * @returns whether it was in two phases
 * @throws StatementFailed, SluiceError: nothing is committed, unless it is a 40003
 */
export async function commitTogether(input: CommitInput): Promise<boolean> {
  const [only] = input.parts;
  if (input.parts.length <= 1) {
    if (only) await mustEnd(only.server, "COMMIT", "COMMIT");
    return false;
  }
  const asked = await askParts(input);
  const written = firstShardLast(asked.filter(({ xid }) => xid !== null));
  const readers = asked.filter(({ xid }) => xid === null);
  // What a serializable transaction has only read can make it fail as a whole.
  const isSerializable = readers.some((part) => part.isSerializable);
  const obstacle = written.length > 1 ? await obstacleOf(input, written) : null;
  const isTwoPhase = written.length > 1 && obstacle === null;
  if (isSerializable) for (const { server } of readers) await mustEnd(server, "COMMIT", "COMMIT");
  input.onPassed();
  if (isTwoPhase) await commitInTwoPhases(input, written);
  else await commitOneByOne(written);
  if (!isSerializable)
    await Promise.allSettled(readers.map(({ server }) => server.query("COMMIT")));
  return isTwoPhase;
}

/**
 * The first shard decides about rows that all shards have (see `executeReplay`): who sees there what this transaction
 * has done must find it done on the others.
 */
function firstShardLast(parts: readonly AskedPart[]): readonly AskedPart[] {
  const isFirst = ({ shard }: AskedPart) => shard === FIRST_SHARD;
  return [...parts.filter((part) => !isFirst(part)), ...parts.filter(isFirst)];
}

async function commitOneByOne(parts: readonly AskedPart[]): Promise<void> {
  for (const [committed, { server }] of parts.entries()) {
    try {
      await mustEnd(server, "COMMIT", "COMMIT");
    } catch (error) {
      const isRefused = error instanceof StatementFailed || error instanceof StatementRefused;
      if (parts.length === 1 || (committed === 0 && isRefused)) throw error;
      throw partly(parts, { committed, isRefused, error });
    }
  }
}

function partly(
  parts: readonly AskedPart[],
  failed: { readonly committed: number; readonly isRefused: boolean; readonly error: unknown },
): StatementRefused {
  const { committed, isRefused, error } = failed;
  const stateOf = (index: number) => {
    if (index < committed) return "committed";
    return index === committed && !isRefused ? "unknown" : "not committed";
  };
  const states = parts
    .map(({ shard }, index) => ({ shard, state: stateOf(index) }))
    .sort((one, other) => one.shard - other.shard)
    .map(({ shard, state }) => `shard ${shard}: ${state}`)
    .join("; ");
  return new StatementRefused(
    SQLSTATE.statementCompletionUnknown,
    `committed on ${committed} of ${parts.length} shards that were written: ${tell(error)}`,
    {
      detail: `${states}.`,
      hint: 'Look at the data. With max_prepared_transactions above 0 on every server and two_phase_commit "auto" or true this does not happen.',
    },
  );
}
