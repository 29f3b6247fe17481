/** How long operations took, and when. Times are of `performance.now()`. */
export class LatencyLog {
  readonly #startedAtMs: number[] = [];
  readonly #durationMs: number[] = [];

  add(startedAtMs: number, durationMs: number): void {
    this.#startedAtMs.push(startedAtMs);
    this.#durationMs.push(durationMs);
  }

  get count(): number {
    return this.#durationMs.length;
  }

  /** Of every operation that was under way at some instant of the window. */
  within(window: { readonly fromMs: number; readonly toMs: number }): readonly number[] {
    const found: number[] = [];
    for (const [index, startedAtMs] of this.#startedAtMs.entries()) {
      const durationMs = this.#durationMs[index] ?? 0;
      if (startedAtMs <= window.toMs && startedAtMs + durationMs >= window.fromMs)
        found.push(durationMs);
    }
    return found;
  }
}

export interface LatencySummary {
  readonly count: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export function summarize(durations: readonly number[]): LatencySummary {
  const sorted = durations.toSorted((one, other) => one - other);
  const at = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  return { count: sorted.length, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: sorted.at(-1) ?? 0 };
}
