import type { ServerAddress } from "../../backend/address.js";
import type { SqlClient } from "../../backend/sql-client.js";
import { assert } from "../../core/assert.js";
import type { EngineContext } from "../context.js";
import { connectShards } from "../copy/shard-clients.js";
import { readAtSnapshot } from "../copy/snapshot.js";
import type { TablePlan } from "../model/migration.js";

/** One side of a comparison: sessions on the primaries of its shards. */
export class SideReader implements AsyncDisposable {
  readonly #addresses: readonly ServerAddress[];
  readonly #clients: readonly SqlClient[];
  readonly #close: () => PromiseLike<void>;

  static async open(
    context: Pick<EngineContext, "signal">,
    addresses: readonly ServerAddress[],
  ): Promise<SideReader> {
    const sessions = await connectShards(context, addresses, "verify");
    return new SideReader(addresses, sessions.all, () => sessions[Symbol.asyncDispose]());
  }

  constructor(
    addresses: readonly ServerAddress[],
    clients: readonly SqlClient[],
    close: () => PromiseLike<void>,
  ) {
    this.#addresses = addresses;
    this.#clients = clients;
    this.#close = close;
  }

  get shardCount(): number {
    return this.#clients.length;
  }

  get clients(): readonly SqlClient[] {
    return this.#clients;
  }

  /**
   * Runs one query on the given shards side by side, each in a snapshot of its own (R6, R7).
   * @returns rows per shard, in the order asked for
   */
  async read<Row extends object>(
    table: TablePlan,
    query: {
      readonly shards: readonly number[];
      readonly sql: string;
      readonly values?: unknown[];
    },
  ): Promise<readonly (readonly Row[])[]> {
    // Settled, not raced: a failure must not leave a statement running behind the next one.
    const results = await Promise.allSettled(
      query.shards.map(async (shard) => {
        const client = this.#clients[shard];
        const address = this.#addresses[shard];
        assert(client && address, `no shard ${shard}`);
        return await readAtSnapshot(client, { address, table }, async () => {
          const result = await client.query<Row>(query.sql, query.values ?? []);
          return result.rows;
        });
      }),
    );
    return results.map((result) => {
      if (result.status === "rejected") throw result.reason;
      return result.value;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }
}

/** R13: of an omnisharded table only the owner counts where rows come from; everywhere where they go. */
export function shardsFrom(table: TablePlan, side: SideReader): readonly number[] {
  return table.kind === "omnisharded" ? [0] : allShards(side);
}

export function allShards(side: SideReader): readonly number[] {
  return Array.from({ length: side.shardCount }, (_, shard) => shard);
}
