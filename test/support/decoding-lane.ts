import { connectSql } from "../../src/backend/sql-client.js";
import { shardOfText } from "../../src/topology/hash.js";
import type { CopyFixture } from "./copy-fixture.js";
import { createDecodedSlot } from "./decoded-slot.js";
import type { PostgresServer } from "./postgres.js";

/**
 * A stand-in for the stream that shares no code with it: polls a slot of its own on source shard 0 and
 * applies changes of `k (id int, v bigint)` to the shard where the key belongs, each transaction whole, with
 * the position in sluice.lane. Slow on purpose where `delayMs` says so.
 */
export interface DecodingLane extends AsyncDisposable {
  /** Rejects with what stopped the lane. */
  readonly ended: Promise<void>;
}

const SLOT = "decoding_lane";

export async function startDecodingLane(
  server: PostgresServer,
  fixture: CopyFixture,
  options: { readonly delayMs: number },
): Promise<DecodingLane> {
  const [source = ""] = fixture.sources;
  const slot = `${SLOT}_${fixture.ref.id}`;
  const changes = await createDecodedSlot(server, { database: source, table: "k", name: slot });
  for (const [shard, database] of fixture.destinations.entries())
    await server.sql(
      database,
      `INSERT INTO sluice.lane (migration, stream, from_shard, to_shard, slot, origin,
         system_identifier, timeline, state)
       VALUES ('${fixture.ref.id}', 0, 0, ${shard}, '${slot}', 'none', '1', 1, 'applying')`,
    );
  let stopped = false;
  const run = async () => {
    const shards = await Promise.all(
      fixture.destinations.map((database) =>
        connectSql(server.address(database), { applicationName: "lane" }),
      ),
    );
    try {
      while (!stopped) {
        const batch = await changes.next(500);
        const commit = batch.filter(({ kind }) => kind === "commit").at(-1);
        await new Promise((resolve) => setTimeout(resolve, options.delayMs));
        for (const [shard, client] of shards.entries()) {
          await client.query("BEGIN");
          for (const { kind, row } of batch) {
            const { id, v } = row;
            if (id === undefined || shardOfText(id, "bigint", shards.length) !== shard) continue;
            if (kind === "delete") await client.query("DELETE FROM public.k WHERE id = $1", [id]);
            else
              await client.query(
                "INSERT INTO public.k VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET v = excluded.v",
                [id, v],
              );
          }
          if (commit)
            await client.query(
              "UPDATE sluice.lane SET applied_lsn = $1::text::pg_lsn WHERE to_shard = $2",
              [commit.lsn, shard],
            );
          await client.query("COMMIT");
        }
      }
    } finally {
      for (const client of shards) await client.end();
    }
  };
  const ended = run();
  ended.catch(() => {});
  return {
    ended,
    [Symbol.asyncDispose]: async () => {
      stopped = true;
      await ended;
      await changes[Symbol.asyncDispose]();
    },
  };
}
