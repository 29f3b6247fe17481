import type { Merger } from "./mergers.js";
import { frameEnd } from "./mergers.js";
import type { Outlet } from "./outlet.js";
import { ScatterLimitExceeded } from "./scatter-errors.js";

/** What RETURNING of an INSERT over several shards may give: held until the last shard has ended. */
const LARGEST_RETURNED_BYTES = 64 * 1024 * 1024;

/**
 * RETURNING of an INSERT that was taken apart, in the order in which the statement has the rows: object mappers give
 * the ids that come back to their objects by it. Where a shard gave fewer rows than it got (ON CONFLICT, a trigger),
 * nobody can tell which: then shard by shard, as PostgreSQL promises no order.
 */
export class WrittenOrder implements Merger {
  readonly rowCount = null;
  readonly #outlet: Outlet;
  readonly #places: readonly (readonly number[])[];
  readonly #frames: Buffer[][];
  #bytes = 0;

  /** @param places of each shard's rows among the statement's, from 0 */
  constructor(outlet: Outlet, places: readonly (readonly number[])[]) {
    this.#outlet = outlet;
    this.#places = places;
    this.#frames = places.map(() => []);
  }

  begin(): void {}
  ended(): void {}
  pump(): void {}

  waitingBytes(): number {
    return 0;
  }

  rows(inlet: number, buffer: Buffer, start: number, end: number): void {
    this.#bytes += end - start;
    if (this.#bytes > LARGEST_RETURNED_BYTES)
      throw new ScatterLimitExceeded(
        "rows that RETURNING gives over several shards",
        LARGEST_RETURNED_BYTES,
      );
    for (let at = start; at < end; ) {
      const next = frameEnd(buffer, at);
      this.#frames[inlet]?.push(buffer.subarray(at, next));
      at = next;
    }
  }

  async finish(): Promise<void> {
    for (const frame of this.#inOrder()) {
      this.#outlet.write(frame);
      await this.#outlet.free();
    }
    this.#outlet.flush();
  }

  #inOrder(): readonly Buffer[] {
    const isWhole = this.#frames.every(
      (frames, inlet) => frames.length === this.#places[inlet]?.length,
    );
    if (!isWhole) return this.#frames.flat();
    const ordered: Buffer[] = [];
    for (const [inlet, frames] of this.#frames.entries())
      for (const [index, frame] of frames.entries())
        ordered[this.#places[inlet]?.[index] ?? 0] = frame;
    return ordered;
  }
}
