import { setTimeout as sleep } from "node:timers/promises";
import {
  makeTelemetryFilterString,
  NativeConnection,
  Runtime,
  Worker,
  type WorkerOptions,
} from "@temporalio/worker";
import type { TemporalConfig } from "../../config/model.js";
import { type Backoff, nextDelayMs } from "../../core/backoff.js";
import type { Log } from "../../observe/log.js";
import { connectionOptions } from "./connection.js";
import { registerSearchAttributes } from "./search-attributes.js";

/** One worker: what it polls and what it runs. */
export interface WorkerPlan {
  readonly taskQueue: string;
  readonly activities: object;
  /** File of the prebuilt workflow bundle; null: activities only. */
  readonly workflowBundle: string | null;
  readonly activitiesAtOnce: number;
}

export interface WorkerSupervisorOptions {
  readonly temporal: TemporalConfig;
  readonly plans: readonly WorkerPlan[];
  readonly log: Log;
}

/** What has polled for as long as the longest delay is a new story when it ends. */
const BACKOFF: Backoff = { firstMs: 500, longestMs: 30_000, stableMs: 30_000 };
/** How late a cancel reaches a beating activity: well below what people call at once. */
const HEARTBEAT_THROTTLE_MS = 500;
/** Activities hear of the shutdown at once and may end in good order for this long. */
const GRACE_MS = 3_000;
const FORCE_MS = 10_000;
/** Small on purpose: the default follows the heap and fills it. */
const CACHED_WORKFLOWS = 50;
/**
 * How long a workflow waits for the process that had it last before any other may go on with it. The default
 * of 10 s would be the shortest recovery from a killed control process.
 */
const STICKY_MS = 2_000;

/**
 * Keeps workers polling: connects with back-off (the SDK fails at once where there is no server), and builds
 * everything anew when a worker ends unasked, for a worker object runs once.
 */
export class WorkerSupervisor {
  readonly #options: WorkerSupervisorOptions;
  readonly #stop = new AbortController();
  #workers: readonly Worker[] = [];
  #done: Promise<void> = Promise.resolve();

  constructor(options: WorkerSupervisorOptions) {
    this.#options = options;
  }

  start(): void {
    this.#done = this.#keepRunning();
  }

  /** Resolves when the running activities have ended, or were given up after the grace time. */
  async stop(): Promise<void> {
    this.#stop.abort();
    shutDown(this.#workers);
    await this.#done;
  }

  async #keepRunning(): Promise<void> {
    const { signal } = this.#stop;
    let delayMs: number | null = null;
    while (!signal.aborted) {
      const startedAtMs = performance.now();
      let failure: string | null = null;
      try {
        await this.#runOnce();
      } catch (error) {
        failure = error instanceof Error ? error.message : String(error);
      }
      delayMs = nextDelayMs(delayMs, performance.now() - startedAtMs, BACKOFF);
      if (failure !== null)
        this.#options.log.warn("no connection to Temporal, traffic goes on", {
          reason: failure,
          address: this.#options.temporal.address,
          retryInMs: delayMs,
        });
      // Not all nodes at once. Cut short by `stop`: the loop's next look says so.
      await sleep(delayMs * (0.75 + Math.random() / 2), undefined, { signal }).catch(() => {});
    }
  }

  async #runOnce(): Promise<void> {
    const { temporal, plans, log } = this.#options;
    const connection = await NativeConnection.connect(connectionOptions(temporal));
    try {
      await registerSearchAttributes(connection, temporal.namespace);
      this.#workers = await Promise.all(
        plans.map((plan) => Worker.create(workerOptions(plan, connection, temporal.namespace))),
      );
      const running = this.#workers.map((worker) => worker.run());
      log.info("polls Temporal", { queues: plans.map((plan) => plan.taskQueue).join(", ") });
      if (this.#stop.signal.aborted) shutDown(this.#workers);
      try {
        await Promise.race(running);
      } finally {
        // One has ended: the others follow, and the next round begins with all of them.
        shutDown(this.#workers);
        await Promise.allSettled(running);
        this.#workers = [];
      }
    } finally {
      // An unclosed connection keeps the process alive.
      await connection.close();
    }
  }
}

function workerOptions(
  plan: WorkerPlan,
  connection: NativeConnection,
  namespace: string,
): WorkerOptions {
  return {
    connection,
    namespace,
    taskQueue: plan.taskQueue,
    activities: plan.activities,
    maxConcurrentActivityTaskExecutions: plan.activitiesAtOnce,
    maxHeartbeatThrottleInterval: HEARTBEAT_THROTTLE_MS,
    shutdownGraceTime: GRACE_MS,
    shutdownForceTime: FORCE_MS,
    ...(plan.workflowBundle === null
      ? {}
      : {
          workflowBundle: { codePath: plan.workflowBundle },
          maxCachedWorkflows: CACHED_WORKFLOWS,
          stickyQueueScheduleToStartTimeout: STICKY_MS,
        }),
  };
}

function shutDown(workers: readonly Worker[]): void {
  for (const worker of workers) if (worker.getState() === "RUNNING") worker.shutdown();
}

/**
 * Once per process, before anything else of the worker package. Without it the runtime would take over
 * SIGINT, SIGTERM, SIGQUIT and SIGUSR2, and write logs of its own.
 */
export function installTemporalRuntime(log: Log): void {
  const write =
    (level: "debug" | "info" | "warn" | "error") =>
    (message: string, fields?: object): void => {
      log[level](message.toLowerCase(), flat(fields));
    };
  Runtime.install({
    shutdownSignals: [],
    telemetryOptions: {
      logging: { forward: {}, filter: makeTelemetryFilterString({ core: "WARN", other: "ERROR" }) },
    },
    logger: {
      trace: () => {},
      debug: write("debug"),
      // The SDK's information is about its own states; ours says what matters of them.
      info: write("debug"),
      warn: write("warn"),
      error: write("error"),
      log: () => {},
    },
  });
}

/** Scalars only: nested objects may carry inputs. */
function flat(fields: object | undefined): Readonly<Record<string, string | number | boolean>> {
  const entries = Object.entries(fields ?? {}).flatMap(([name, value]: [string, unknown]) => {
    if (value instanceof Error) return [[name, value.message] as const];
    if (typeof value === "string" || typeof value === "number" || typeof value === "boolean")
      return [[name, value] as const];
    return [];
  });
  return Object.fromEntries(entries);
}
