import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createStream } from "../../../src/resharding/stream/create-stream-step.js";
import { dropStream } from "../../../src/resharding/stream/drop-stream-step.js";
import { streamStatus } from "../../../src/resharding/stream/stream-status.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { drain, lanesFixture, startStream } from "./lanes-fixture.js";

let server: PostgresServer;

beforeAll(async () => {
  server = await startPostgres();
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

describe("a stream", () => {
  it("carries inserts, updates, key moves and deletes to the shards they belong to", async () => {
    const fixture = await lanesFixture(server, {
      schema:
        "CREATE TABLE item (id bigint PRIMARY KEY, name text, data jsonb); CREATE TABLE kind (id int PRIMARY KEY, label text)",
      tables: { item: "id", kind: null },
    });
    const context = fixture.context();
    await createStream(context, { ref: fixture.ref, stream: 0 });
    await fixture.noteEmptyCopy();
    await using running = startStream(fixture, 0);
    void running;
    await fixture.sql("source", 0, "INSERT INTO kind VALUES (1, 'a'), (2, 'b')");
    await fixture.sql(
      "source",
      0,
      "INSERT INTO item SELECT i, 'n' || i, '{}' FROM generate_series(1, 100) i",
    );
    await fixture.sql("source", 0, "UPDATE item SET name = 'x' WHERE id % 3 = 0");
    await fixture.sql("source", 0, "UPDATE item SET id = id + 1000 WHERE id <= 10");
    await fixture.sql("source", 0, "DELETE FROM item WHERE id BETWEEN 20 AND 30");
    await drain(fixture, 0);
    const source = await fixture.sql("source", 0, "SELECT * FROM item ORDER BY id");
    const first = await fixture.sql("destination", 0, "SELECT * FROM item ORDER BY id");
    const second = await fixture.sql("destination", 1, "SELECT * FROM item ORDER BY id");
    expect(first.length).toBeGreaterThan(10);
    expect(second.length).toBeGreaterThan(10);
    expect([...first, ...second].sort((a, b) => Number(a.id) - Number(b.id))).toEqual(source);
    for (const shard of [0, 1])
      expect(
        await fixture.sql("destination", shard, "SELECT * FROM kind ORDER BY id"),
      ).toHaveLength(2);
    const status = await streamStatus(context, { ref: fixture.ref, stream: 0 });
    expect(status.blocker).toBeNull();
    expect(status.lanes.map((lane) => lane.state)).toEqual(["applying", "applying"]);
    await running.stop();
    await dropStream(context, { ref: fixture.ref, stream: 0 });
    await dropStream(context, { ref: fixture.ref, stream: 0 });
    expect(await server.sql("postgres", "SELECT 1 FROM pg_replication_slots")).toEqual([]);
    expect(await server.sql("postgres", "SELECT 1 FROM pg_replication_origin")).toEqual([]);
  });
});
