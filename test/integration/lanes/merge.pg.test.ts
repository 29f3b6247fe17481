import { afterAll, beforeAll, expect, it } from "vitest";
import { copyRange } from "../../../src/resharding/copy/copy-range-step.js";
import { planCopy } from "../../../src/resharding/copy/plan-copy-step.js";
import { createStream } from "../../../src/resharding/stream/create-stream-step.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";
import { lanesFixture, rowsOf, settled, startStream } from "./lanes-fixture.js";
import { LOAD_SCHEMA, startLoad } from "./lanes-load.js";

let server: PostgresServer;

beforeAll(async () => {
  server = await startPostgres();
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

it("R1, R3: ranges copied under load and the stream are one truth", async () => {
  const fixture = await lanesFixture(server, { schema: LOAD_SCHEMA, tables: { item: "id" } });
  const context = fixture.context();
  await fixture.sql(
    "source",
    0,
    "INSERT INTO item SELECT i, 0, 'old', repeat('o' || i, 900) FROM generate_series(1, 2000) i",
  );
  const load = await startLoad(context.cluster("prod").shards[0] ?? fail(), {
    writers: 6,
    keys: 3000,
  });
  await createStream(context, { ref: fixture.ref, stream: 0 });
  const plans = await planCopy(
    { ...context, policy: { ...context.policy, copyRangeRows: 100 } },
    fixture.ref,
  );
  for (const plan of plans)
    for (let range = 0; range < plan.rangeCount; range++)
      await copyRange(context, {
        ref: fixture.ref,
        schema: plan.schema,
        table: plan.table,
        sourceShard: plan.sourceShard,
        range,
      });
  const copied = load.transactions;
  await using running = startStream(fixture, 0);
  await until(() => load.transactions > copied + 500, { timeoutMs: 20_000, what: "more load" });
  await load.stop();
  await settled(fixture, 0);
  const rows = await rowsOf(fixture, "destination", "item");
  expect(rows).toEqual(await rowsOf(fixture, "source", "item"));
  expect(plans[0]?.rangeCount).toBeGreaterThan(5);
  void running;
});

function fail(): never {
  throw new Error("no such shard");
}
