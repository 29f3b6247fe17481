import type { StepTimings, SwitchReport } from "../model/activities.js";

/** Milliseconds of the five documented steps. */
export class StepClock {
  readonly #steps = { pause: 0, synchronize: 0, swap: 0, reverse: 0, resume: 0 };
  #startedAtMs = 0;
  #lapAtMs = 0;

  start(): void {
    this.#startedAtMs = performance.now();
    this.#lapAtMs = this.#startedAtMs;
  }

  lap(step: keyof StepTimings): void {
    const nowMs = performance.now();
    this.#steps[step] += nowMs - this.#lapAtMs;
    this.#lapAtMs = nowMs;
  }

  committed(): SwitchReport {
    return { outcome: "committed", reason: "", ...this.#result() };
  }

  undone(reason: string): SwitchReport {
    return { outcome: "undone", reason, ...this.#result() };
  }

  #result(): Pick<SwitchReport, "pauseMs" | "steps"> {
    const round = (ms: number) => Math.round(ms * 10) / 10;
    const { pause, synchronize, swap, reverse, resume } = this.#steps;
    return {
      pauseMs: round(this.#lapAtMs - this.#startedAtMs),
      steps: {
        pause: round(pause),
        synchronize: round(synchronize),
        swap: round(swap),
        reverse: round(reverse),
        resume: round(resume),
      },
    };
  }
}
