import type { ServerAddress } from "../../backend/address.js";
import type { SqlClient } from "../../backend/sql-client.js";
import type { EngineContext } from "../context.js";
import { connectEngine } from "../control/sides.js";

/** One session per shard, in the order of the shards. */
export interface ShardClients extends AsyncDisposable {
  readonly all: readonly SqlClient[];
}

/** @throws ServerUnreachable when one cannot be reached; the others are closed then */
export async function connectShards(
  context: Pick<EngineContext, "signal">,
  addresses: readonly ServerAddress[],
  purpose: string,
): Promise<ShardClients> {
  const attempts = await Promise.allSettled(
    addresses.map((address) => connectEngine(context, address, purpose)),
  );
  const all = attempts.flatMap((attempt) =>
    attempt.status === "fulfilled" ? [attempt.value] : [],
  );
  const close = async () => {
    await Promise.all(all.map((client) => client[Symbol.asyncDispose]()));
  };
  const failed = attempts.find((attempt) => attempt.status === "rejected");
  if (failed) {
    await close();
    throw failed.reason;
  }
  return { all, [Symbol.asyncDispose]: close };
}
