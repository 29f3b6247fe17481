import { Context } from "@temporalio/activity";
import { Client, Connection } from "@temporalio/client";
import { NativeConnection, Runtime, Worker } from "@temporalio/worker";
import { registerSearchAttributes } from "../../src/control/temporal/search-attributes.js";
import type { DecisionHandle, StepTimings } from "../../src/resharding/model/activities.js";
import type { TaskPolicy } from "../../src/resharding/model/policy.js";
import type { Activities } from "../../src/resharding/model/steps.js";
import { queues } from "../../src/resharding/model/tasks.js";
import type { TemporalServer } from "./temporal.js";
import { bundleWorkflows } from "./temporal-bundle.js";

/** One call of an activity as it reached the script. */
export interface Played {
  readonly name: string;
  readonly input: unknown;
}

/**
 * Activities that play a script instead of moving rows: the workflow tests are about order, failures and
 * decisions. What they stand for is tested with real servers in test/integration and test/crash.
 */
export interface Stage extends AsyncDisposable {
  readonly client: Client;
  /** Beginnings and, as "name:end", ends of activities, in order. */
  readonly played: Played[];
  names(): readonly string[];
  /** Replaces an activity until the test ends. */
  on<N extends keyof Activities>(name: N, play: Activities[N]): void;
  /** Back to the happy script; forgets what was played. */
  reset(): void;
}

export const NODE = {
  nodeId: "n1",
  incarnation: "i1",
  address: "127.0.0.1:6432",
  epoch: 0,
  configHash: "h",
};
export const POLICY: TaskPolicy = {
  parallelCopies: 2,
  pauseCapMs: 2_000,
  silentNode: "abort",
  verifyMaxAgeMs: 60_000,
  switchRetryMs: 200,
  observeMs: 500,
};
export const STEPS_MS: StepTimings = { pause: 3, synchronize: 11, swap: 1, reverse: 2, resume: 4 };

export async function openStage(server: TemporalServer): Promise<Stage> {
  // Silence: what matters is asserted. Once per process, before any other use of the worker package.
  Runtime.install({
    shutdownSignals: [],
    telemetryOptions: { logging: { filter: "OFF", forward: {} } },
    logger: quietLogger,
  });
  const address = server.address;
  const [connection, native] = [
    await Connection.connect({ address }),
    await NativeConnection.connect({ address }),
  ];
  await registerSearchAttributes(connection, "default");
  const played: Played[] = [];
  let overrides: Partial<Activities> = {};
  const activities = recording(played, (name) => overrides[name] ?? HAPPY[name]);
  const shared = { connection: native, namespace: "default", maxHeartbeatThrottleInterval: 100 };
  const workers = await Promise.all([
    Worker.create({
      ...shared,
      taskQueue: queues.light,
      activities,
      workflowBundle: await bundleWorkflows(),
      maxCachedWorkflows: 50,
    }),
    Worker.create({ ...shared, taskQueue: queues.move, activities }),
    Worker.create({ ...shared, taskQueue: queues.node(NODE), activities }),
  ]);
  const running = workers.map((worker) => worker.run());
  return {
    client: new Client({ connection }),
    played,
    names: () => played.map(({ name }) => name),
    on: (name, play) => {
      overrides = { ...overrides, [name]: play };
    },
    reset: () => {
      overrides = {};
      played.length = 0;
    },
    [Symbol.asyncDispose]: async () => {
      for (const worker of workers) worker.shutdown();
      await Promise.all(running);
      await native.close();
      await connection.close();
    },
  };
}

const quietLogger = {
  trace: () => {},
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  log: () => {},
};

function recording(
  played: Played[],
  pick: <N extends keyof Activities>(name: N) => Activities[N],
): Record<string, (...args: never[]) => Promise<unknown>> {
  const names = Object.keys(HAPPY) as (keyof Activities)[];
  return Object.fromEntries(
    names.map((name) => [
      name,
      async (...args: never[]) => {
        played.push({ name, input: args[0] });
        try {
          const play = pick(name) as (...input: never[]) => Promise<unknown>;
          return await play(...args);
        } finally {
          played.push({ name: `${name}:end`, input: args[0] });
        }
      },
    ]),
  );
}

/** Beats until cancelled, as a stream does, and throws the cancellation. */
export async function untilCancelled(): Promise<never> {
  const context = Context.current();
  const beat = setInterval(() => context.heartbeat(), 50);
  try {
    return await context.cancelled;
  } finally {
    clearInterval(beat);
  }
}

let nextTaskId = 1_000;

/** Everything goes well: two tables, one source shard, two destination shards, one node. */
const HAPPY: Activities = {
  allocateTaskId: async () => nextTaskId++,
  readPolicy: async () => POLICY,
  preflight: async () => ({
    ok: true,
    checks: [],
    spec: {
      version: 1,
      source: { shardCount: 1 },
      destination: { shardCount: 2 },
      tables: [],
    },
  }),
  beginMigration: async () => {},
  createStream: async () => {},
  dropStream: async () => {},
  installGates: async () => {},
  streamStatus: async ({ stream }) => lanes(stream, "applying"),
  awaitStandby: async ({ stream }) => lanes(stream, "standby"),
  readiness: async () => ({ isReady: true, waitingFor: [], lagBytes: 0, predictedPauseMs: 20 }),
  prepareDecision: async ({ serving, stream }) => ({
    epoch: stream + 1,
    token: `token-${stream}`,
    serving,
    stream,
  }),
  listNodes: async () => [NODE],
  advanceSequences: async () => {},
  switchTraffic: async () => ({ outcome: "committed", reason: "", pauseMs: 21, steps: STEPS_MS }),
  resolve: async ({ decision }) => committed(decision),
  abortMigration: async () => {},
  finalizeMigration: async () => ({ unsavedNodes: [] }),
  syncSchema: async () => ({ statementCount: 3, deferred: [], warnings: [] }),
  planCopy: async () => [plan("orders", 3), plan("events", 1)],
  copyRange: async () => ({ rowCount: 10, byteCount: 100 }),
  runStream: untilCancelled,
  verifyPass: async () => ({ isClean: true, rowCount: 40, differences: [] }),
  armNode: async () => ({ nodeId: NODE.nodeId }),
};

function plan(table: string, rangeCount: number) {
  return {
    schema: "public",
    table,
    sourceShard: 0,
    rangeCount,
    doneRanges: [],
    estimatedRows: rangeCount * 10,
  };
}

function lanes(stream: number, state: "standby" | "applying") {
  const lane = { fromShard: 0, toShard: 0, state, appliedLsn: "0/1", changeCount: 0 };
  return { stream, lanes: [lane], lagBytes: 0, asideKeys: 0, blocker: null };
}

export function committed(decision: DecisionHandle) {
  return {
    outcome: "committed" as const,
    reason: "",
    serving: decision.serving,
    steps: STEPS_MS,
    pauseMs: 21,
  };
}

export function aborted(decision: DecisionHandle, reason: string) {
  return {
    outcome: "aborted" as const,
    reason,
    serving: decision.serving,
    steps: null,
    pauseMs: null,
  };
}
