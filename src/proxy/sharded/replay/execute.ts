import type { ServerConnection } from "../../../backend/server-connection.js";
import { assertNever } from "../../../core/assert.js";
import type { ReplayPlan } from "../../../router/route.js";
import { encodeThrown } from "../../../wire/error-fields.js";
import type {
  ClientSink,
  CopySource,
  ScatterOutcome,
  ShardServers,
  StatementRequest,
} from "../scatter/contract.js";
import { replayCaptured } from "./captured-replay.js";
import { replayCopied } from "./copied-replay.js";
import { replayDefined } from "./defined-replay.js";
import { replayReturned } from "./returned-replay.js";

export interface ReplayInput {
  readonly plan: ReplayPlan;
  readonly request: StatementRequest;
  readonly servers: ShardServers;
  readonly sink: ClientSink;
  readonly copySource: CopySource;
}

/**
 * Runs a write to an omnisharded table on the first shard and brings the rows that came of it to the others, in
 * the session's transaction on all. Every connection that was acquired has seen ReadyForQuery when it returns.
 * After "failed" the transaction must end everywhere. Never throws for what a server or client does.
 *
 * The others need no order among themselves: whoever wants the same rows waits at the first shard, until this
 * transaction has committed there, which it does last (`ShardTransaction.commit`).
 */
export async function executeReplay(input: ReplayInput): Promise<ScatterOutcome> {
  const { plan, request, servers, sink, copySource } = input;
  try {
    const [first, ...others] = servers.shards;
    if (first === undefined) throw new Error("a database without shards");
    const ends = { request, sink, owner: await servers.acquire(first) };
    const replicas = async () => {
      const connections: ServerConnection[] = [];
      for (const shard of others) connections.push(await servers.acquire(shard));
      return connections;
    };
    switch (plan.kind) {
      case "returned":
        return await replayReturned(plan, { ...ends, replicas });
      case "captured":
        return await replayCaptured(plan, { ...ends, replicas });
      case "defined":
        return await replayDefined(plan, { ...ends, replicas });
      case "copied":
        return await replayCopied(plan, { ...ends, replicas }, copySource);
      default:
        return assertNever(plan, "replay");
    }
  } catch (error) {
    return { kind: "failed", error: encodeThrown(error) };
  }
}
