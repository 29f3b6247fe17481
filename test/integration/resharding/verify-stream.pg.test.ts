import { afterAll, beforeAll, expect, test } from "vitest";
import { connectSql } from "../../../src/backend/sql-client.js";
import { copyRange } from "../../../src/resharding/copy/copy-range-step.js";
import { planCopy } from "../../../src/resharding/copy/plan-copy-step.js";
import { createStream } from "../../../src/resharding/stream/create-stream-step.js";
import { dropStream } from "../../../src/resharding/stream/drop-stream-step.js";
import { runStream } from "../../../src/resharding/stream/run-stream-step.js";
import { verifyPass } from "../../../src/resharding/verify/verify-pass-step.js";
import { shardOfText } from "../../../src/topology/hash.js";
import { finalCompare } from "../../support/compare/final-compare.js";
import { copyFixture } from "../../support/copy-fixture.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";

let server: PostgresServer;

beforeAll(async () => {
  server = await startPostgres();
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const ROWS = 4000;

/** Ids of this source shard, so that the writers stay where the router would put them. */
function homeIds(shard: number, shardCount: number): readonly number[] {
  return Array.from({ length: ROWS }, (_, index) => index + 1).filter(
    (id) => shardOfText(String(id), "bigint", shardCount) === shard,
  );
}

test("R1, R41: two shards to three, copied, caught up and verified under load; equal at rest", {
  timeout: 120_000,
}, async () => {
  const fixture = await copyFixture(server, {
    name: "live",
    sources: 2,
    destinations: 3,
    schema: `CREATE TABLE k (id bigint PRIMARY KEY, v bigint NOT NULL, note text);
        CREATE TABLE settings (name text PRIMARY KEY, value bigint)`,
    tables: [{ name: "k" }, { name: "settings", shardBy: null }],
  });
  for (const [shard, database] of fixture.sources.entries()) {
    await server.sql(database, "INSERT INTO k SELECT id, 0 FROM unnest($1::bigint[]) AS id", [
      homeIds(shard, 2),
    ]);
    await server.sql(database, "INSERT INTO settings VALUES ('a', 0), ('b', 0)");
  }
  const { ref } = fixture;
  const state = { stopped: false, writes: 0 };
  const write = async (database: string, ids: readonly number[]) => {
    await using client = await connectSql(server.address(database), { applicationName: "app" });
    while (!state.stopped) {
      const id = ids[Math.floor(Math.random() * ids.length)];
      const dice = Math.random();
      if (dice < 0.6)
        await client.query("UPDATE public.k SET v = v + 1, note = $2 WHERE id = $1", [
          id,
          "x".repeat(Math.floor(dice * 100)),
        ]);
      else if (dice < 0.8) await client.query("DELETE FROM public.k WHERE id = $1", [id]);
      else await client.query("INSERT INTO public.k VALUES ($1, 0) ON CONFLICT DO NOTHING", [id]);
      await client.query("UPDATE public.settings SET value = value + 1 WHERE name = 'a'");
      state.writes++;
    }
  };
  const writers = fixture.sources.flatMap((database, shard) => [
    write(database, homeIds(shard, 2)),
    write(database, homeIds(shard, 2)),
  ]);
  const stop = new AbortController();
  const streaming = fixture.context({ signal: stop.signal });
  const context = fixture.context({}, { copyRangeRows: 300 });
  let streams: Promise<unknown>[] = [];
  try {
    await createStream(context, { ref, stream: 0 });
    for (const { schema, table, sourceShard, rangeCount } of await planCopy(context, ref))
      for (let range = 0; range < rangeCount; range++)
        await copyRange(context, { ref, schema, table, sourceShard, range });
    streams = fixture.sources.map((_, fromShard) =>
      runStream(streaming, { ref, stream: 0, fromShard }),
    );
    for (const stream of streams) stream.catch(() => {});
    const pass = await verifyPass(context, { ref, stream: 0, pass: 1 });
    expect(pass.differences.filter((text) => !text.includes("still moving"))).toEqual([]);
    expect(pass.rowCount).toBeGreaterThan(ROWS / 2);
  } finally {
    state.stopped = true;
    await Promise.all(writers);
  }
  expect(state.writes).toBeGreaterThan(50);
  // At rest the second pass is clean: its first marker is the drain.
  expect(await verifyPass(context, { ref, stream: 0, pass: 2 })).toMatchObject({
    isClean: true,
    differences: [],
  });
  expect(await finalCompare(context, ref)).toMatchObject({ isEqual: true, differences: [] });
  stop.abort(new Error("test is over"));
  await Promise.all(streams);
  await dropStream(fixture.context(), { ref, stream: 0 });
});
