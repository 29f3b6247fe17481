import type { ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Backoff } from "../../core/backoff.js";
import type { Log } from "../../observe/log.js";
import { type CallMessage, openCalls } from "./calls.js";
import { RestartingProcess, send } from "./restarting.js";
import type { NodeCalls, ToWorker } from "./worker-channel.js";

type WorkerRole = "control" | "mover";

const ENTRIES: Readonly<Record<WorkerRole, string>> = {
  control: fileURLToPath(new URL("../control-process.js", import.meta.url)),
  mover: fileURLToPath(new URL("../mover-process.js", import.meta.url)),
};
const BACKOFF: Backoff = { firstMs: 200, longestMs: 10_000, stableMs: 30_000 };

export interface WorkerProcessesOptions {
  readonly movers: number;
  readonly log: Log;
  /** What each is told first; asked again at every start. */
  readonly greeting: () => ToWorker;
  /** What they may ask. */
  readonly node: NodeCalls;
}

/**
 * The Temporal side of a node: one control process and some movers. Traffic does not need them, so each may
 * end at any time.
 */
export class WorkerProcesses {
  readonly #options: WorkerProcessesOptions;
  readonly #processes: readonly RestartingProcess[];
  readonly #live = new Set<ChildProcess>();

  constructor(options: WorkerProcessesOptions) {
    this.#options = options;
    this.#processes = [
      this.#worker("control", 0),
      ...Array.from({ length: options.movers }, (_, number) => this.#worker("mover", number)),
    ];
  }

  start(): void {
    for (const each of this.#processes) each.start();
  }

  broadcast(message: ToWorker): void {
    for (const child of this.#live) send(child, message);
  }

  /** Resolves when all are gone, by themselves or, past the time, killed. */
  async shutdown(timeoutMs: number): Promise<void> {
    const gone = Promise.all(this.#processes.map((each) => each.ended()));
    this.broadcast({ kind: "shutdown" });
    const timer = setTimeout(() => this.kill(), timeoutMs);
    await gone;
    clearTimeout(timer);
  }

  kill(): void {
    for (const each of this.#processes) each.kill();
  }

  #worker(role: WorkerRole, number: number): RestartingProcess {
    const { log, greeting, node } = this.#options;
    return new RestartingProcess({
      entry: ENTRIES[role],
      backoff: BACKOFF,
      argument: () => String(number),
      onStart: (child) => {
        const calls = openCalls<object, NodeCalls>(node, (message) => send(child, message));
        child.on("message", (message) => calls.take(message as CallMessage));
        this.#live.add(child);
        send(child, greeting());
      },
      onEnd: ({ child, reason, restartInMs }) => {
        this.#live.delete(child);
        if (restartInMs === null) return;
        log.warn("worker process ended, traffic goes on", { role, number, reason, restartInMs });
      },
    });
  }
}
