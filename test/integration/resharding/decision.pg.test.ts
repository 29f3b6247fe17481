import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { connectEngine, openSides } from "../../../src/resharding/control/sides.js";
import type { DecisionHandle } from "../../../src/resharding/model/activities.js";
import { readBoard } from "../../../src/resharding/switch/board.js";
import {
  markAborted,
  markCommitted,
  markPrepared,
  readDecision,
} from "../../../src/resharding/switch/decision.js";
import { readGate, turnGate } from "../../../src/resharding/switch/gate.js";
import { installGates } from "../../../src/resharding/switch/install-gates-step.js";
import { prepareDecision } from "../../../src/resharding/switch/prepare-decision-step.js";
import { openServingGate, resolve } from "../../../src/resharding/switch/resolve-step.js";
import { type CopyFixture, copyFixture } from "../../support/copy-fixture.js";
import { freePort, type PostgresServer, startPostgres } from "../../support/postgres.js";

let server: PostgresServer;
let fixture: CopyFixture;
let round = 0;

beforeAll(async () => {
  // Servers are killed here, machines are not: fsync would only cost time.
  server = await startPostgres({ settings: { fsync: "off" } });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});
beforeEach(async () => {
  round += 1;
  fixture = await copyFixture(server, {
    name: `decision${round}`,
    schema: "CREATE TABLE t (id bigint PRIMARY KEY, v int)",
    tables: [{ name: "t" }],
  });
  await installGates(fixture.context(), fixture.ref);
});

const prepare = async (serving: "source" | "destination" = "destination", capMs = 10_000) =>
  await prepareDecision(fixture.context(), { ref: fixture.ref, stream: 0, serving, capMs });

const source = async () =>
  await connectEngine(fixture.context(), server.address(fixture.sources[0] ?? ""), "test");
const destination = async (shard: number) =>
  await connectEngine(fixture.context(), server.address(fixture.destinations[shard] ?? ""), "test");
const keyOf = (handle: DecisionHandle) => ({ ...handle, ref: fixture.ref });

/** A committed decision whose coordinator died at once. */
async function commitAndDie(): Promise<DecisionHandle> {
  const handle = await prepare();
  await using control = await source();
  await markPrepared(control, keyOf(handle));
  await turnGate(control, keyOf(handle), "closed");
  expect(await markCommitted(control, keyOf(handle))).toBe(true);
  return handle;
}

async function gates(): Promise<{ source: boolean; destination: boolean[] }> {
  const read = async (client: Awaited<ReturnType<typeof source>>) => {
    await using session = client;
    return (await readGate(session, fixture.ref))?.lastValue === 1;
  };
  return {
    source: await read(await source()),
    destination: [await read(await destination(0)), await read(await destination(1))],
  };
}

describe("the decision", () => {
  test("R29: planned has no expiry, prepared has one by the database's clock, committed is for ever", async () => {
    const handle = await prepare();
    await using control = await source();
    expect(await readDecision(control, fixture.ref, handle.epoch)).toMatchObject({
      state: "planned",
      expiresInMs: null,
    });
    const prepared = await markPrepared(control, keyOf(handle));
    expect(prepared?.expiresInMs).toBeGreaterThan(8_000);
    expect(await markCommitted(control, keyOf(handle))).toBe(true);
    expect(await markAborted(control, keyOf(handle), { reason: "", when: "always" })).toBe(false);
    expect(await markCommitted(control, keyOf(handle))).toBe(false);
    expect((await readDecision(control, fixture.ref, handle.epoch))?.state).toBe("committed");
  });

  test("R29: an expired decision cannot be committed, and a bystander aborts only an expired one", async () => {
    const live = await prepare();
    await using control = await source();
    await markPrepared(control, keyOf(live));
    expect(await markAborted(control, keyOf(live), { reason: "", when: "expired" })).toBe(false);
    await expect(
      resolve(fixture.context(), { ref: fixture.ref, decision: live, as: "bystander" }),
    ).rejects.toThrow("still being decided");
    await control.query(
      "UPDATE sluice.decision SET expires_at = clock_timestamp() WHERE epoch = $1",
      [live.epoch],
    );
    expect(await markCommitted(control, keyOf(live))).toBe(false);
    expect(await markAborted(control, keyOf(live), { reason: "", when: "expired" })).toBe(true);
  });

  test("R29: of a commit and an abort at the same instant exactly one wins, every time", async () => {
    await using one = await source();
    await using other = await source();
    for (let attempt = 0; attempt < 20; attempt++) {
      const handle = await prepare();
      await markPrepared(one, keyOf(handle));
      const [committed, aborted] = await Promise.all([
        markCommitted(one, keyOf(handle)),
        markAborted(other, keyOf(handle), { reason: "race", when: "always" }),
      ]);
      expect(committed).toBe(!aborted);
      if (committed) await one.query("UPDATE sluice.decision SET state = 'aborted'");
    }
  });

  test("R43: prepare refuses when the side to leave does not serve", async () => {
    await expect(prepare("source")).rejects.toThrow("serves already");
    await commitAndDie();
    await expect(prepare("destination")).rejects.toThrow("serves already");
  });

  test("R42: a second prepare takes the first one's place; the first can do nothing any more", async () => {
    const first = await prepare();
    const second = await prepare();
    expect(second.epoch).toBe(first.epoch + 1);
    await using control = await source();
    expect(await markPrepared(control, keyOf(first))).toBeNull();
    expect(await turnGate(control, keyOf(first), "closed")).toBe(false);
    expect(await markPrepared(control, keyOf(second))).not.toBeNull();
  });

  test("R28: our sessions flush, whatever the database says; a crash right after keeps the commit", async () => {
    const name = fixture.sources[0] ?? "";
    await server.sql(name, `ALTER DATABASE "${name}" SET synchronous_commit = off`);
    const handle = await commitAndDie();
    await server.stop("immediate");
    await server.start();
    await using control = await source();
    expect((await control.query("SHOW synchronous_commit")).rows[0]).toEqual({
      synchronous_commit: "on",
    });
    expect((await readDecision(control, fixture.ref, handle.epoch))?.state).toBe("committed");
  });
});

describe("resolve", () => {
  test("goes forward after a commit whose coordinator died, any number of times beside each other", async () => {
    const handle = await commitAndDie();
    const results = await Promise.all(
      Array.from({ length: 4 }, () =>
        resolve(fixture.context(), { ref: fixture.ref, decision: handle, as: "bystander" }),
      ),
    );
    expect(results.map((result) => result.outcome)).toEqual(Array(4).fill("committed"));
    expect(await gates()).toEqual({ source: false, destination: [true, true] });
    await expect(
      server.sql(fixture.sources[0] ?? "", "INSERT INTO t VALUES (1, 1)"),
    ).rejects.toThrow("does not take writes here (epoch 1)");
  });

  test("goes back after a coordinator that died with the gate closed, and takes its key away", async () => {
    const handle = await prepare();
    await using control = await source();
    await markPrepared(control, keyOf(handle));
    await turnGate(control, keyOf(handle), "closed");
    await resolve(fixture.context(), { ref: fixture.ref, decision: handle, as: "coordinator" });
    expect(await gates()).toEqual({ source: true, destination: [false, false] });
    // The frozen coordinator wakes up.
    expect(await turnGate(control, keyOf(handle), "closed")).toBe(false);
    expect(await markCommitted(control, keyOf(handle))).toBe(false);
    expect(await gates()).toEqual({ source: true, destination: [false, false] });
  });

  test("R27: a late resolve of an older epoch changes nothing", async () => {
    const first = await commitAndDie();
    await resolve(fixture.context(), { ref: fixture.ref, decision: first, as: "coordinator" });
    const back = await prepareDecision(fixture.context(), {
      ref: fixture.ref,
      stream: 1,
      serving: "source",
      capMs: 10_000,
    });
    await using control = await destination(0);
    await markPrepared(control, keyOf(back));
    for (const shard of [0, 1]) {
      await using client = await destination(shard);
      await turnGate(client, keyOf(back), "closed");
    }
    await markCommitted(control, keyOf(back));
    await resolve(fixture.context(), { ref: fixture.ref, decision: back, as: "coordinator" });
    await resolve(fixture.context(), { ref: fixture.ref, decision: first, as: "coordinator" });
    expect(await gates()).toEqual({ source: true, destination: [false, false] });
  });

  test("R30: a dead destination never keeps the source closed", async () => {
    const handle = await prepare();
    await using control = await source();
    await markPrepared(control, keyOf(handle));
    await turnGate(control, keyOf(handle), "closed");
    const port = await freePort();
    const context = fixture.context();
    const deadDestination = {
      ...context,
      cluster: (name: string) =>
        name === fixture.ref.source
          ? context.cluster(name)
          : {
              ...context.cluster(name),
              shards: context.cluster(name).shards.map((s) => ({ ...s, port })),
            },
    };
    const result = await resolve(deadDestination, {
      ref: fixture.ref,
      decision: handle,
      as: "coordinator",
    });
    expect(result.outcome).toBe("aborted");
    expect((await gates()).source).toBe(true);
  });

  test("R30: after a failover that lost the commit, one opened destination is the witness", async () => {
    const handle = await commitAndDie();
    await using control = await source();
    const decision = await readDecision(control, fixture.ref, handle.epoch);
    if (!decision) throw new Error("no decision");
    await using shard = await destination(1);
    await openServingGate(shard, { ref: fixture.ref, decision, gateToken: handle.token });
    // What a promoted standby that had not got the commit yet looks like.
    await control.query("UPDATE sluice.decision SET state = 'prepared', timeline = timeline + 1");
    const again = async () =>
      await resolve(fixture.context(), { ref: fixture.ref, decision: handle, as: "bystander" });
    // Asking the witnesses rotates the tokens of gates that are closed still; the next run has the new ones.
    await expect(again()).rejects.toThrow("resolve again");
    const result = await again();
    expect(result.outcome).toBe("committed");
    expect(await gates()).toEqual({ source: false, destination: [true, true] });
  });

  test("R30: without a witness it is undone, and the late opener opens nothing", async () => {
    const handle = await commitAndDie();
    await using control = await source();
    const decision = await readDecision(control, fixture.ref, handle.epoch);
    if (!decision) throw new Error("no decision");
    await control.query("UPDATE sluice.decision SET state = 'prepared', timeline = timeline + 1");
    const result = await resolve(fixture.context(), {
      ref: fixture.ref,
      decision: handle,
      as: "bystander",
    });
    expect(result.outcome).toBe("aborted");
    await using shard = await destination(0);
    const late = { ref: fixture.ref, decision, gateToken: handle.token };
    expect(await openServingGate(shard, late)).toBe(false);
    expect(await gates()).toEqual({ source: true, destination: [false, false] });
    await using sides = await openSides(fixture.context(), fixture.ref);
    expect((await readBoard(sides, fixture.ref)).serving).toBe("source");
  });

  test("R32: every shard that serves knows the epoch; the highest committed one counts", async () => {
    const handle = await commitAndDie();
    await resolve(fixture.context(), { ref: fixture.ref, decision: handle, as: "coordinator" });
    await using control = await source();
    await control.query("DELETE FROM sluice.decision");
    await using sides = await openSides(fixture.context(), fixture.ref);
    const board = await readBoard(sides, fixture.ref);
    expect(board).toMatchObject({ epoch: handle.epoch, serving: "destination", unreachable: [] });
  });

  test("R38: the end of a switch ends strangers' sessions on the old side, not ours", async () => {
    const handle = await commitAndDie();
    await using ours = await source();
    const { connectSql } = await import("../../../src/backend/sql-client.js");
    const stranger = await connectSql(server.address(fixture.sources[0] ?? ""), {
      applicationName: "billing",
    });
    const ended = new Promise<void>((fulfil) => stranger.once("end", () => fulfil()));
    await resolve(fixture.context(), { ref: fixture.ref, decision: handle, as: "coordinator" });
    await ended;
    await ours.query("SELECT 1");
  });
});
