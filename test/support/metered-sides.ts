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
  /** "side shard: application" of every connection so far, replication ones too. */
  opened(): readonly string[];
}

export async function meteredSides(
  server: PostgresServer,
  input: {
    readonly ref: MigrationRef;
    readonly databases: Readonly<Record<Side, readonly string[]>>;
    readonly shardBy?: string;
  },
): Promise<MeteredSides> {
  const meter = (names: readonly string[]) =>
    Promise.all(names.map((name) => MeteredShard.to(server.address(name))));
  const source = await meter(input.databases.source);
  const destination = await meter(input.databases.destination);
  const all = [...source, ...destination];
  const named = { source, destination };
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
    opened: () =>
      (["source", "destination"] as const).flatMap((side) =>
        named[side].flatMap((meterOfShard, shard) =>
          meterOfShard.opened.map((one) => `${side} ${shard}: ${one.applicationName}`),
        ),
      ),
    [Symbol.asyncDispose]: async () => {
      await Promise.all(all.map((shard) => shard[Symbol.asyncDispose]()));
    },
  };
}
