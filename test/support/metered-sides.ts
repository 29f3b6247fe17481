import type { Cluster } from "../../src/resharding/context.js";
import type { MigrationRef, Side } from "../../src/resharding/model/migration.js";
import { MeteredShard } from "./metered-shard.js";
import type { PostgresServer } from "./postgres.js";

/** Both clusters of a migration, each shard behind a meter. */
export interface MeteredSides extends AsyncDisposable {
  readonly source: readonly MeteredShard[];
  readonly destination: readonly MeteredShard[];
  readonly all: readonly MeteredShard[];
  /** For an engine context. */
  readonly cluster: (name: string) => Cluster;
  /** "side shard: application" of every connection so far, in their order. */
  readonly opened: readonly string[];
}

export async function meteredSides(
  server: PostgresServer,
  input: {
    readonly ref: MigrationRef;
    readonly databases: Readonly<Record<Side, readonly string[]>>;
    readonly shardBy?: string;
  },
): Promise<MeteredSides> {
  const opened: string[] = [];
  const meter = (side: Side) =>
    Promise.all(
      input.databases[side].map((name, shard) =>
        MeteredShard.to(server.address(name), ({ applicationName }) =>
          opened.push(`${side} ${shard}: ${applicationName}`),
        ),
      ),
    );
  const source = await meter("source");
  const destination = await meter("destination");
  const all = [...source, ...destination];
  return {
    source,
    destination,
    all,
    cluster: (name) => ({
      name,
      shards: (name === input.ref.source ? source : destination).map((shard) => shard.address),
      shardedTables:
        name === input.ref.source || input.shardBy === undefined
          ? []
          : [{ schema: null, name: null, column: input.shardBy, dataType: "bigint" }],
      omnishardedTables: [],
    }),
    opened,
    [Symbol.asyncDispose]: async () => {
      await Promise.all(all.map((shard) => shard[Symbol.asyncDispose]()));
    },
  };
}
