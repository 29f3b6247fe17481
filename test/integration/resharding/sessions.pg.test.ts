import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { lightSteps } from "../../../activities/light.js";
import { MOVE_STEPS } from "../../../activities/move.js";
import type { EngineContext } from "../../../src/resharding/context.js";
import type {
  DecisionHandle,
  LightActivities,
  MoveActivities,
} from "../../../src/resharding/model/activities.js";
import type { Side } from "../../../src/resharding/model/migration.js";
import { type CopyFixture, copyFixture, silentLog } from "../../support/copy-fixture.js";
import { type MeteredSides, meteredSides } from "../../support/metered-sides.js";
import { type PostgresServer, startPostgres } from "../../support/postgres.js";
import { until } from "../../support/until.js";

/** With one shard down, no activity leaves a session on the others. */

type Activities = LightActivities & MoveActivities;

const steps = {
  ...lightSteps({
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
  }),
  ...MOVE_STEPS,
};

interface Stage {
  readonly fixture: CopyFixture;
  readonly decision: DecisionHandle;
  readonly down: { readonly side: Side; readonly shard: number };
}

/**
 * Every activity, or this does not compile; null: it has no migration to open. What takes things down comes
 * last.
 */
const INPUTS: {
  readonly [Name in keyof Activities]: ((stage: Stage) => Parameters<Activities[Name]>) | null;
} = {
  allocateTaskId: null,
  readPolicy: null,
  preflight: ({ fixture }) => [fixture.ref],
  beginMigration: ({ fixture }) => [{ ref: fixture.ref, spec: fixture.spec }],
  syncSchema: ({ fixture }) => [{ ref: fixture.ref, phase: "pre" }],
  createStream: ({ fixture }) => [{ ref: fixture.ref, stream: 1 }],
  installGates: ({ fixture }) => [fixture.ref],
  planCopy: ({ fixture }) => [fixture.ref],
  copyRange: ({ fixture, down }) => [
    {
      ref: fixture.ref,
      schema: "public",
      table: "t",
      sourceShard: down.side === "source" ? down.shard : 0,
      range: 0,
    },
  ],
  runStream: ({ fixture, down }) => [
    { ref: fixture.ref, stream: 0, fromShard: down.side === "source" ? down.shard : 0 },
  ],
  streamStatus: ({ fixture }) => [{ ref: fixture.ref, stream: 0 }],
  awaitStandby: ({ fixture }) => [{ ref: fixture.ref, stream: 0, waitMs: 0 }],
  readiness: ({ fixture }) => [{ ref: fixture.ref, stream: 0, waitMs: 0 }],
  verifyPass: ({ fixture }) => [{ ref: fixture.ref, stream: 0, pass: 1 }],
  listNodes: ({ fixture }) => [fixture.ref],
  advanceSequences: ({ fixture }) => [{ ref: fixture.ref, serving: "destination" }],
  prepareDecision: ({ fixture }) => [
    { ref: fixture.ref, stream: 0, serving: "destination", capMs: 1_000 },
  ],
  switchTraffic: ({ fixture, decision }) => [{ ref: fixture.ref, decision, nodes: [] }],
  resolve: ({ fixture, decision }) => [{ ref: fixture.ref, decision }],
  dropStream: ({ fixture }) => [{ ref: fixture.ref, stream: 0 }],
  finalizeMigration: ({ fixture }) => [fixture.ref],
  abortMigration: ({ fixture }) => [fixture.ref],
};

/** These have an answer when a shard is silent: a finding, a list, a decision that goes back. */
const MAY_SUCCEED: readonly (keyof Activities)[] = ["preflight", "listNodes", "resolve"];
/** A shard that this activity does not ask; and one that it asks first, so that it comes to no other. */
const NOT_ASKED = "syncSchema with source 1";
const ASKED_FIRST = "beginMigration with source 0";

const NAMES = Object.keys(INPUTS).filter(
  (name): name is keyof Activities => INPUTS[name as keyof Activities] !== null,
);

test("the table knows every activity", () => {
  expect(Object.keys(INPUTS).sort()).toEqual(Object.keys(steps).sort());
});

let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres({ settings: { fsync: "off" } });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const DOWN = [
  { side: "source", shard: 0 },
  { side: "source", shard: 1 },
  { side: "destination", shard: 0 },
  { side: "destination", shard: 1 },
] as const;

describe.each(DOWN)("with $side $shard down", (down) => {
  let stage: Stage;
  let meters: MeteredSides;
  const context = (): EngineContext => stage.fixture.context({ cluster: meters.cluster });

  beforeAll(async () => {
    const fixture = await copyFixture(server, {
      name: `down_${down.side}${down.shard}`,
      sources: 2,
      destinations: 2,
      schema: `CREATE TABLE t (id bigint PRIMARY KEY, v int); CREATE PUBLICATION "all" FOR TABLE t`,
      tables: [{ name: "t" }],
    });
    const databases = { source: fixture.sources, destination: fixture.destinations };
    meters = await meteredSides(server, { ref: fixture.ref, databases });
    const { ref } = fixture;
    await steps.installGates(fixture.context(), ref);
    await steps.createStream(fixture.context(), { ref, stream: 0 });
    await steps.planCopy(fixture.context(), ref);
    const plan = { ref, stream: 0, serving: "destination", capMs: 1_000 } as const;
    const decision = await steps.prepareDecision(fixture.context(), plan);
    stage = { fixture, decision, down };
    await meters[down.side][down.shard]?.cut();
  });
  afterAll(async () => {
    await meters[Symbol.asyncDispose]();
  });

  async function run<Name extends keyof Activities>(name: Name): Promise<"fine" | Error> {
    const step = steps[name] as (...input: readonly unknown[]) => Promise<unknown>;
    try {
      await step(context(), ...(INPUTS[name]?.(stage) ?? []));
      return "fine";
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error));
    }
  }

  test.each(NAMES)("%s leaves no session", async (name) => {
    const before = meters.opened.length;
    const outcome = await run(name);
    const scene = `${name} with ${down.side} ${down.shard}`;
    if (outcome === "fine" && scene !== NOT_ASKED) expect(MAY_SUCCEED).toContain(name);
    // It got as far as the servers that live.
    if (scene !== ASKED_FIRST) expect(meters.opened.length).toBeGreaterThan(before);
    await until(() => meters.all.every((shard) => shard.openCount === 0), {
      timeoutMs: 2_000,
      what: `the sessions of ${name} to end: ${meters.opened.slice(before).join(", ")}`,
    });
    const databases = [...stage.fixture.sources, ...stage.fixture.destinations];
    const left = () =>
      server.sql(
        "postgres",
        `SELECT datname, application_name FROM pg_stat_activity
          WHERE starts_with(application_name, 'sluice ') AND datname = ANY ($1)`,
        [databases],
      );
    await until(async () => (await left()).length === 0, {
      timeoutMs: 2_000,
      what: `the servers to know that ${name} has ended`,
    });
  });
});
