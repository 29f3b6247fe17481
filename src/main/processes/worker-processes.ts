import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Log } from "../../observe/log.js";
import type { FromWorker, ToWorker } from "./worker-channel.js";

export type WorkerRole = "control" | "mover";

interface Slot {
  readonly role: WorkerRole;
  readonly number: number;
  process: ChildProcess | null;
  restart: NodeJS.Timeout | null;
  restartDelayMs: number;
}

const ENTRIES: Readonly<Record<WorkerRole, string>> = {
  control: fileURLToPath(new URL("../control-process.js", import.meta.url)),
  mover: fileURLToPath(new URL("../mover-process.js", import.meta.url)),
};
const STABLE_MS = 30_000;
const MIN_RESTART_DELAY_MS = 200;
const MAX_RESTART_DELAY_MS = 10_000;

export interface WorkerProcessesOptions {
  readonly movers: number;
  readonly log: Log;
  /** What each is told first; asked again at every fork. */
  readonly greeting: () => ToWorker;
  readonly onMessage: (message: FromWorker, reply: (answer: ToWorker) => void) => void;
}

/**
 * The Temporal side of a node: one control process and some movers. Traffic does not need them, so each may
 * end at any time: it is started again, later and later while it keeps ending early.
 */
export class WorkerProcesses {
  readonly #options: WorkerProcessesOptions;
  readonly #slots: readonly Slot[];
  #isStopping = false;

  constructor(options: WorkerProcessesOptions) {
    this.#options = options;
    const movers = Array.from({ length: options.movers }, (_, number) => slot("mover", number));
    this.#slots = [slot("control", 0), ...movers];
  }

  start(): void {
    for (const each of this.#slots) this.#fork(each);
  }

  broadcast(message: ToWorker): void {
    for (const { process } of this.#slots) if (process) send(process, message);
  }

  /** Resolves when all are gone, by themselves or, past the time, killed. */
  async shutdown(timeoutMs: number): Promise<void> {
    this.#isStopping = true;
    for (const { restart } of this.#slots) if (restart !== null) clearTimeout(restart);
    const gone = Promise.all(
      this.#slots.map(
        ({ process }) =>
          new Promise<void>((resolve) => {
            if (process) process.once("exit", () => resolve());
            else resolve();
          }),
      ),
    );
    this.broadcast({ kind: "shutdown", timeoutMs });
    const timer = setTimeout(() => this.kill(), timeoutMs);
    await gone;
    clearTimeout(timer);
  }

  kill(): void {
    this.#isStopping = true;
    for (const { process } of this.#slots) process?.kill("SIGKILL");
  }

  #fork(each: Slot): void {
    const child = fork(ENTRIES[each.role], [String(each.number)], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    const startedAtMs = performance.now();
    each.process = child;
    child.on("message", (message) =>
      this.#options.onMessage(message as FromWorker, (answer) => send(child, answer)),
    );
    child.on("error", (error) =>
      this.#options.log.warn("worker process cannot be reached", {
        role: each.role,
        error: error.message,
      }),
    );
    child.once("exit", (code, signal) => {
      each.process = null;
      if (this.#isStopping) return;
      const wasStable = performance.now() - startedAtMs > STABLE_MS;
      each.restartDelayMs = wasStable
        ? MIN_RESTART_DELAY_MS
        : Math.min(MAX_RESTART_DELAY_MS, each.restartDelayMs * 2);
      this.#options.log.warn("worker process ended, traffic goes on", {
        role: each.role,
        number: each.number,
        reason: signal ?? String(code),
        restartInMs: each.restartDelayMs,
      });
      each.restart = setTimeout(() => this.#fork(each), each.restartDelayMs);
    });
    send(child, this.#options.greeting());
  }
}

function slot(role: WorkerRole, number: number): Slot {
  return { role, number, process: null, restart: null, restartDelayMs: MIN_RESTART_DELAY_MS };
}

function send(child: ChildProcess, message: ToWorker): void {
  if (child.connected) child.send(message, () => {});
}
