import type { ServerAddress } from "../../backend/address.js";
import type { SqlClient } from "../../backend/sql-client.js";
import { assert } from "../../core/assert.js";
import type { SessionUse, Sides } from "../control/sides.js";
import { readAtSnapshot } from "../copy/snapshot-reader.js";
import type { Side, TablePlan } from "../model/migration.js";

const VERIFY: SessionUse = { purpose: "verify" };

/** One side of a comparison: sessions on the primaries of its shards, for its reads alone. */
export class SideReader {
  readonly #addresses: readonly ServerAddress[];
  readonly #clients: readonly SqlClient[];

  /** @throws ServerUnreachable */
  static async open(sides: Sides, side: Side): Promise<SideReader> {
    return new SideReader(sides[side].shards, await sides.sessions(side, VERIFY));
  }

  private constructor(addresses: readonly ServerAddress[], clients: readonly SqlClient[]) {
    this.#addresses = addresses;
    this.#clients = clients;
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
}

/** R13: of an omnisharded table only the owner counts where rows come from; everywhere where they go. */
export function shardsFrom(table: TablePlan, side: SideReader): readonly number[] {
  return table.kind === "omnisharded" ? [0] : allShards(side);
}

export function allShards(side: SideReader): readonly number[] {
  return Array.from({ length: side.shardCount }, (_, shard) => shard);
}
