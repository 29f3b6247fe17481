import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { ServerConnection } from "../../../backend/server-connection.js";
import { assert } from "../../../core/assert.js";
import { SluiceError } from "../../../core/errors.js";
import { preparedName } from "../../../core/prepared-part.js";
import { SQLSTATE } from "../../../core/sqlstate.js";
import { tell } from "../../../core/tell.js";
import { FIRST_SHARD, type ShardId } from "../../../topology/topology.js";
import { StatementFailed, StatementRefused } from "../../session-errors.js";
import { type AskedPart, type CommitInput, mustEnd, together } from "./commit-part.js";
import { deciderOf, factsOf } from "./obstacle.js";

/** For a shard whose connection is lost in the middle; what it does not answer by then is left to recovery. */
const SETTLE_MS = 5_000;
const LOOK_MS = 50;

interface Prepared extends AskedPart {
  readonly name: string;
}

type Fate = "committed" | "aborted" | "unknown";

/**
 *     PREPARE on all but the decider  ->  COMMIT there: the decision  ->  COMMIT PREPARED, the first shard last
 *
 * Whoever is killed in between leaves names from which `PreparedRecovery` of any node ends what is left.
 * @throws nothing is committed then, or with 40003 nobody knows yet, and recovery makes it one of the two
 */
export async function commitInTwoPhases(
  input: CommitInput,
  written: readonly AskedPart[],
): Promise<void> {
  const { served } = input;
  const decider = deciderOf(written);
  assert(decider?.xid, "there is a shard that decides");
  const { timeline, systemIdentifier } = await factsOf(decider.server);
  const transaction = randomUUID().replaceAll("-", "");
  const by = { shard: decider.shard, timeline, systemIdentifier, xid: decider.xid };
  const others = written
    .filter((part) => part !== decider)
    .map((part) => ({
      ...part,
      name: preparedName({ transaction, decider: by, shard: part.shard }),
    }));
  await prepare(input, decider, others);
  await served.announce("commit.prepared");
  const fate = await decide(input, decider, others);
  if (fate === "unknown") throw unknownFate(decider.shard);
  await served.announce("commit.decided");
  // In the order that `commitTogether` tells the reason of.
  await settleAll(
    input,
    others.filter(({ shard }) => shard !== FIRST_SHARD),
    "COMMIT",
  );
  await served.announce("commit.firstShardLeft");
  await settleAll(
    input,
    others.filter(({ shard }) => shard === FIRST_SHARD),
    "COMMIT",
  );
  await served.announce("commit.settled");
}

async function prepare(
  input: CommitInput,
  decider: AskedPart,
  others: readonly Prepared[],
): Promise<void> {
  try {
    await together(
      others,
      async ({ server, name }) =>
        await mustEnd(server, `PREPARE TRANSACTION '${name}'`, "PREPARE TRANSACTION"),
      () => {},
    );
  } catch (error) {
    await undo(input, decider, others);
    throw refusedPrepare(input, error);
  }
}

/** First where it would be decided, so that nobody can take it for undecided any more. */
async function undo(
  input: CommitInput,
  decider: AskedPart,
  others: readonly Prepared[],
): Promise<void> {
  await decider.server.query("ROLLBACK").catch(() => {});
  await settleAll(input, others, "ROLLBACK");
}

/** The decision, and what became of it where the connection was lost over it. */
async function decide(
  input: CommitInput,
  decider: AskedPart,
  others: readonly Prepared[],
): Promise<Fate> {
  const { server, isUnflushed } = decider;
  try {
    // The others would be on disk, and this one perhaps not.
    const flush = isUnflushed ? "SET LOCAL synchronous_commit = on; " : "";
    await mustEnd(server, `${flush}COMMIT`, "COMMIT");
    return "committed";
  } catch (error) {
    const isRefused = error instanceof StatementFailed || error instanceof StatementRefused;
    const fate = isRefused ? "aborted" : await fateOf(input, decider);
    if (fate !== "aborted") return fate;
    await settleAll(input, others, "ROLLBACK");
    throw error;
  }
}

async function fateOf(input: CommitInput, decider: AskedPart): Promise<Fate> {
  const { timeline } = await factsOf(decider.server);
  const answer = await retried(async () => {
    const { server, isOurs } = await connected(input, decider);
    try {
      // In another history of the server the same id may be another transaction.
      if ((await factsOf(server)).timeline !== timeline) return "unknown";
      const sql = `SELECT pg_catalog.pg_xact_status('${decider.xid}')`;
      const status = (await server.query(sql)).rows[0]?.[0];
      return status === "committed" || status === "aborted" ? status : null;
    } finally {
      if (isOurs) server.giveBack();
    }
  });
  return answer ?? "unknown";
}

async function settleAll(
  input: CommitInput,
  parts: readonly Prepared[],
  verb: "COMMIT" | "ROLLBACK",
): Promise<void> {
  await Promise.all(parts.map(async (part) => await settle(input, part, verb)));
}

/** Whoever does it, recovery too: afterwards there is no such prepared transaction. Never throws. */
async function settle(input: CommitInput, part: Prepared, verb: "COMMIT" | "ROLLBACK") {
  const isDone = await retried(async () => {
    const { server, isOurs } = await connected(input, part);
    try {
      if (server.isIdleInTransaction) await server.query("ROLLBACK");
      const { error } = await server.query(`${verb} PREPARED '${part.name}'`);
      return error === null || error.get("C") === SQLSTATE.undefinedObject ? true : null;
    } finally {
      if (isOurs) server.giveBack();
    }
  });
  if (isDone === null)
    input.served.log.warn("a prepared transaction is left to recovery", {
      shard: part.shard,
      name: part.name,
      decision: verb === "COMMIT" ? "committed" : "rolled back",
    });
}

/** The transaction's own connection while that lasts, else another. */
async function connected(
  { served, user }: CommitInput,
  { server, shard }: AskedPart,
): Promise<{ readonly server: ServerConnection; readonly isOurs: boolean }> {
  if (!server.isLost) return { server, isOurs: false };
  return { server: await served.connect(user, shard, "sluice commit"), isOurs: true };
}

/** @returns null when it did not come to an answer in time */
async function retried<T>(attempt: () => Promise<T | null>): Promise<T | null> {
  const deadlineAtMs = performance.now() + SETTLE_MS;
  for (;;) {
    try {
      const answer = await attempt();
      if (answer !== null) return answer;
    } catch (error) {
      if (!(error instanceof SluiceError)) throw error;
    }
    if (performance.now() > deadlineAtMs) return null;
    await sleep(LOOK_MS);
  }
}

/** What PREPARE alone refuses is not the client's fault, and the next attempt does without. */
function refusedPrepare({ served, mode }: CommitInput, error: unknown): unknown {
  if (!(error instanceof StatementFailed) || mode !== "auto") return error;
  const again = (hint: string) =>
    new StatementRefused(
      SQLSTATE.serializationFailure,
      `the transaction was rolled back on all shards: ${tell(error)}`,
      { hint },
    );
  if (error.sqlState === SQLSTATE.featureNotSupported) {
    served.onePhaseBecause = tell(error);
    served.log.warn("transactions over shards commit one shard after the other from here on", {
      reason: served.onePhaseBecause,
    });
    return again("Repeat it: it will be committed one shard after the other.");
  }
  if (error.sqlState === SQLSTATE.outOfMemory)
    return again("Repeat it. Set max_prepared_transactions on each server to max_connections.");
  return error;
}

function unknownFate(shard: ShardId): StatementRefused {
  return new StatementRefused(
    SQLSTATE.statementCompletionUnknown,
    `shard ${shard} was lost while the transaction committed there`,
    {
      detail: `shard ${shard}: unknown, and it decides; the others: prepared.`,
      hint: "It becomes committed on all shards or on none as soon as that shard answers. Look at the data then.",
    },
  );
}
