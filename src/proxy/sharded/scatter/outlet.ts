import type { ClientSink } from "./contract.js";

/** Frames gathered into one write. */
const BATCH_BYTES = 32 * 1024;

/** The way to the client: small frames go out together, and a full sink is noticed. */
export class Outlet {
  readonly #sink: ClientSink;
  readonly #onChange: (isBlocked: boolean) => void;
  #batch: Buffer[] = [];
  #batchBytes = 0;
  isBlocked = false;

  /** @param onChange called when the sink is full, and when it is free again */
  constructor(sink: ClientSink, onChange: (isBlocked: boolean) => void) {
    this.#sink = sink;
    this.#onChange = onChange;
  }

  /** Whole frames; written on at the next `flush`, or before when many have come together. */
  write(frames: Buffer): void {
    this.#batch.push(frames);
    this.#batchBytes += frames.length;
    if (this.#batchBytes >= BATCH_BYTES) this.flush();
  }

  flush(): void {
    const [first, second] = this.#batch;
    if (first === undefined) return;
    const frames = second === undefined ? first : Buffer.concat(this.#batch);
    this.#batch = [];
    this.#batchBytes = 0;
    if (this.#sink.write(frames) || this.isBlocked) return;
    this.isBlocked = true;
    this.#onChange(true);
    const free = () => {
      this.isBlocked = false;
      this.#onChange(false);
    };
    // A client that is gone takes nothing any more, and holds nobody up.
    this.#sink.drained().then(free, free);
  }

  /** Resolves when the sink takes more. */
  async free(): Promise<void> {
    if (this.isBlocked) await this.#sink.drained().catch(() => {});
  }
}
