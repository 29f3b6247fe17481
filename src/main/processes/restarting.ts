import { type ChildProcess, fork } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { type Backoff, nextDelayMs } from "../../core/backoff.js";

export interface RestartingOptions {
  /** File of the entry point. */
  readonly entry: string;
  readonly backoff: Backoff;
  /** The child's one argument; asked anew at each start. */
  readonly argument: () => string;
  /** Called in the same turn as the fork, so that what is sent here is what the child hears first. */
  readonly onStart: (child: ChildProcess) => void;
  readonly onEnd: (end: ProcessEnd) => void;
}

export interface ProcessEnd {
  readonly child: ChildProcess;
  /** A signal, an exit code, or what kept it from starting. */
  readonly reason: string;
  /** null: it was told to end. */
  readonly restartInMs: number | null;
}

/**
 * Keeps one child process alive: started again when it ends, later and later while it keeps ending early,
 * until it is told to end.
 */
export class RestartingProcess {
  readonly #options: RestartingOptions;
  readonly #stop = new AbortController();
  #child: ChildProcess | null = null;
  #run: Promise<void> = Promise.resolve();

  constructor(options: RestartingOptions) {
    this.#options = options;
  }

  start(): void {
    this.#run = this.#keepRunning();
  }

  /** From now on it is not started again. Resolves when it is gone, by itself or by `kill`. */
  async ended(): Promise<void> {
    this.#stop.abort();
    await this.#run;
  }

  /** SIGKILL, sent before this returns. */
  kill(): void {
    this.#stop.abort();
    this.#child?.kill("SIGKILL");
  }

  async #keepRunning(): Promise<void> {
    const { backoff, onEnd } = this.#options;
    let delayMs: number | null = null;
    for (;;) {
      const startedAtMs = performance.now();
      const end = await this.#runOnce();
      if (this.#isStopping()) return onEnd({ ...end, restartInMs: null });
      delayMs = nextDelayMs(delayMs, performance.now() - startedAtMs, backoff);
      onEnd({ ...end, restartInMs: delayMs });
      // Cut short by the end of all: the loop's next look says so.
      await sleep(delayMs, undefined, { signal: this.#stop.signal }).catch(() => {});
      if (this.#isStopping()) return;
    }
  }

  #isStopping(): boolean {
    return this.#stop.signal.aborted;
  }

  async #runOnce(): Promise<Omit<ProcessEnd, "restartInMs">> {
    const { entry, argument, onStart } = this.#options;
    const child = fork(entry, [argument()], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    this.#child = child;
    const ended = new Promise<string>((resolve) => {
      child.once("exit", (code, signal) => resolve(signal ?? String(code)));
      // Failing to send to a process that is ending is told by its end; one that never began has no "exit".
      child.on("error", (error) => {
        if (child.pid === undefined) resolve(error.message);
      });
    });
    onStart(child);
    const reason = await ended;
    this.#child = null;
    return { child, reason };
  }
}

/** Nothing where the channel has closed: the process's end is told by itself. */
export function send(child: ChildProcess, message: object): void {
  // Without a callback a failed send would be an "error" event.
  if (child.connected) child.send(message, () => {});
}
