import { afterAll, beforeAll, expect, test } from "vitest";
import { lightSteps } from "../../../activities/light.js";
import type { EngineContext } from "../../../src/resharding/context.js";
import { createStream } from "../../../src/resharding/stream/create-stream-step.js";
import { installGates } from "../../../src/resharding/switch/install-gates-step.js";
import { prepareDecision } from "../../../src/resharding/switch/prepare-decision-step.js";
import { awaitReadiness } from "../../../src/resharding/switch/readiness-step.js";
import { resolve } from "../../../src/resharding/switch/resolve-step.js";
import { switchTraffic } from "../../../src/resharding/switch/switch-step.js";
import { copyFixture, silentLog } from "../../support/copy-fixture.js";
import { EngineCycle } from "../../support/engine-cycle.js";
import { type MeteredSides, meteredSides } from "../../support/metered-sides.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";

/** How often our activities connect: production servers, right before and in the pause. */

let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres({ settings: { fsync: "off" } });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const steps = lightSteps({
  allocateTaskId: async () => 1,
  taskPolicy: () => {
    throw new Error("not asked");
  },
  cluster: () => {
    throw new Error("the context's is asked");
  },
  policy: () => {
    throw new Error("the context's is asked");
  },
  log: silentLog,
  announce: async () => {},
  incarnation: "test",
});

/** Which side a database is on, asked of shard 0 of both; then one session to each database. */
const LOOKS = (shards: number) => [
  ...Array.from({ length: shards }, (_, shard) => `destination ${shard}: sluice look`),
  "destination 0: sluice sides",
  "source 0: sluice look",
  "source 0: sluice sides",
];

async function migration(destinations: number) {
  const fixture = await copyFixture(server, {
    name: `count${destinations}`,
    destinations,
    schema: "CREATE TABLE t (id bigint PRIMARY KEY, v int)",
    tables: [{ name: "t" }],
  });
  await installGates(fixture.context(), fixture.ref);
  await createStream(fixture.context(), { ref: fixture.ref, stream: 0 });
  const databases = { source: fixture.sources, destination: fixture.destinations };
  const meters = await meteredSides(server, { ref: fixture.ref, databases });
  return { ref: fixture.ref, meters, context: fixture.context({ cluster: meters.cluster }) };
}

test.each([1, 2, 4, 8])(
  "a look at readiness connects once to each database, with %i destination shards",
  async (destinations) => {
    const { ref, meters, context } = await migration(destinations);
    await using scope = meters;
    const result = await awaitReadiness(context, { ref, stream: 0, waitMs: 0 });
    expect(result.waitingFor.map(({ message }) => message)).toEqual([
      "no verification pass has finished",
    ]);
    expect([...scope.opened].sort()).toEqual(LOOKS(destinations).sort());
  },
);

test("a task that waits opens nothing for its second look", async () => {
  const { ref, meters, context } = await migration(3);
  await using scope = meters;
  const { trafficStopThresholdBytes } = context.policy;
  const stopping = new AbortController();
  let looks = 0;
  const policy = {
    ...context.policy,
    // Asked once by each look; the third ends the wait.
    get trafficStopThresholdBytes() {
      looks += 1;
      if (looks === 3) stopping.abort(new Error("enough"));
      return trafficStopThresholdBytes;
    },
  };
  const waiting = { ...context, policy, signal: stopping.signal };
  const asked = steps.readiness(waiting, { ref, stream: 0, waitMs: 60_000 });
  await expect(asked).rejects.toThrow();
  expect(looks).toBe(3);
  expect([...scope.opened].sort()).toEqual(LOOKS(3).sort());
});

test("a stream that is waited for is looked at by sessions that stay", async () => {
  const { ref, meters, context } = await migration(5);
  await using scope = meters;
  // One that is not there: it waits as long as it may.
  await steps.awaitStandby(context, { ref, stream: 2, waitMs: 1_200 });
  expect([...scope.opened].sort()).toEqual(LOOKS(5).sort());
});

interface Paused {
  readonly report: Awaited<ReturnType<typeof switchTraffic>>;
  /** Connections that were tried from the hold on, and before it. */
  readonly inPause: readonly string[];
  readonly before: readonly string[];
}

const SOURCE = "pause_source";
const SHARDS = ["pause_0", "pause_1"];

/** One attempt at the switch, counted; `announce` runs at its named points. */
async function attempt(
  cycle: EngineCycle,
  meters: MeteredSides,
  input: { readonly ghost: boolean; readonly announce: EngineContext["announce"] },
): Promise<Paused> {
  const { ref } = cycle;
  const capMs = input.ghost ? 400 : 8_000;
  const plan = { ref, stream: 0, serving: "destination", capMs } as const;
  const decision = await prepareDecision(cycle.context(), plan);
  const nobody = {
    nodeId: "ghost",
    incarnation: "g",
    address: "nowhere",
    epoch: 0,
    configHash: "",
  };
  let atHold = 0;
  const before = meters.opened.length;
  const context = cycle.context({
    cluster: meters.cluster,
    announce: async (step) => {
      if (step === "cutover.afterPrepared") atHold = meters.opened.length;
      await input.announce(step);
    },
  });
  const report = await switchTraffic(context, {
    ref,
    decision,
    nodes: input.ghost ? [nobody] : [],
  });
  await resolve(cycle.context(), { ref, decision, as: "coordinator" });
  const opened = meters.opened;
  return { report, before: opened.slice(before, atHold), inPause: opened.slice(atHold) };
}

test("R28: nothing connects inside the pause, not for keys set aside and not to undo it", async () => {
  for (const database of [SOURCE, ...SHARDS]) await server.createDatabase(database);
  await server.sql(
    SOURCE,
    `CREATE TABLE acct (tenant_id bigint, id bigint, note text, PRIMARY KEY (tenant_id, id));
     INSERT INTO acct SELECT g, g, 'n' FROM generate_series(1, 40) g;
     CREATE PUBLICATION all_tables FOR TABLE acct;`,
  );
  const cycle = new EngineCycle({ server, source: SOURCE, shards: SHARDS, id: "abcdef0a5e55" });
  await cycle.copy();
  const first = await cycle.catchUp();
  const { next } = await cycle.prepare("destination", 0);
  const databases = { source: [SOURCE], destination: SHARDS };
  await using meters = await meteredSides(server, { ref: cycle.ref, databases });
  try {
    const undone = await attempt(cycle, meters, { ghost: true, announce: async () => {} });
    expect(undone.report.reason).toMatch(/nodes did not come to rest.*ghost/);
    expect(undone.inPause).toEqual([]);
    expect(undone.before).not.toEqual([]);

    // A key that the lanes could not decide, met at the drain.
    let settled = 0;
    const setAside = async (step: string) => {
      if (step === "stream.beforeSettleCommit") settled += 1;
      if (step !== "cutover.afterMarker") return;
      await server.sql(
        SHARDS[0] ?? "",
        `INSERT INTO sluice.aside (migration, stream, schema_name, table_name, key, from_shard, reason)
         SELECT $1, 0, 'public', 'acct', ARRAY[tenant_id::text, id::text], 0, 'test'
           FROM acct ORDER BY 1 LIMIT 1`,
        [cycle.ref.id],
      );
    };
    const done = await attempt(cycle, meters, { ghost: false, announce: setAside });
    expect(done.report).toMatchObject({ outcome: "committed", reason: "" });
    expect(settled).toBe(1);
    expect(done.inPause).toEqual([]);
    // Everything there once: per purpose and database, before the hold.
    expect(new Set(done.before).size).toBe(done.before.length);
  } finally {
    await first.stop();
    await next.stop();
  }
});
