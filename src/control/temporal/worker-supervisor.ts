import { NativeConnection, Worker, type WorkerOptions } from "@temporalio/worker";
import type { TemporalConfig } from "../../config/model.js";
import type { Log } from "../../observe/log.js";
import type { ConnectionState } from "../task-api.js";
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
  /** All workers poll. Called again after each reconnection. */
  readonly onReady: () => void;
}

const FIRST_BACKOFF_MS = 500;
const LONGEST_BACKOFF_MS = 30_000;
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
  #state: ConnectionState = { kind: "connecting", sinceMs: Date.now() };
  #workers: readonly Worker[] = [];
  #isStopping = false;
  #wake: () => void = () => {};
  #done: Promise<void> = Promise.resolve();

  constructor(options: WorkerSupervisorOptions) {
    this.#options = options;
  }

  get state(): ConnectionState {
    return this.#state;
  }

  start(): void {
    this.#done = this.#keepRunning();
  }

  /** Resolves when the running activities have ended, or were given up after the grace time. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#wake();
    shutDown(this.#workers);
    await this.#done;
  }

  async #keepRunning(): Promise<void> {
    let backoffMs = FIRST_BACKOFF_MS;
    while (!this.#isStopping) {
      const startedAtMs = performance.now();
      try {
        await this.#runOnce();
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        // Time since the first failure, not the last one.
        if (this.#state.kind !== "down")
          this.#state = { kind: "down", sinceMs: Date.now(), reason };
        this.#options.log.warn("no connection to Temporal, traffic goes on", {
          reason,
          address: this.#options.temporal.address,
          retryInMs: backoffMs,
        });
      }
      // It ran well for a while: whatever ended it is a new story.
      if (performance.now() - startedAtMs > LONGEST_BACKOFF_MS) backoffMs = FIRST_BACKOFF_MS;
      await this.#pause(backoffMs * (0.75 + Math.random() / 2));
      backoffMs = Math.min(backoffMs * 2, LONGEST_BACKOFF_MS);
    }
  }

  async #runOnce(): Promise<void> {
    const { temporal, plans, onReady, log } = this.#options;
    const connection = await NativeConnection.connect(connectionOptions(temporal));
    try {
      await registerSearchAttributes(connection, temporal.namespace);
      this.#workers = await Promise.all(
        plans.map((plan) => Worker.create(workerOptions(plan, connection, temporal.namespace))),
      );
      const running = this.#workers.map((worker) => worker.run());
      this.#state = { kind: "up", sinceMs: Date.now() };
      log.info("polls Temporal", { queues: plans.map((plan) => plan.taskQueue).join(", ") });
      onReady();
      if (this.#isStopping) shutDown(this.#workers);
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

  async #pause(ms: number): Promise<void> {
    if (this.#isStopping) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
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
