import type { HoldWait } from "../../resharding/switch/hold-wait.js";

/** Between two rows about the same hold. */
const PAUSE_MS = 150;

/**
 * Says of one hold what it waits for: when that is something new, not too often, and one row at a time. What it does
 * not get to say, the data planes repeat. Nothing depends on it, so nobody waits for it and a failure is nothing.
 */
export class WaitReporter {
  readonly #write: (wait: HoldWait) => Promise<void>;
  #said = "";
  #isSaying = false;
  #nextAtMs = 0;

  /** @param write may fail */
  constructor(write: (wait: HoldWait) => Promise<void>) {
    this.#write = write;
  }

  say(wait: HoldWait): void {
    const essence = essenceOf(wait);
    if (this.#isSaying || essence === this.#said || performance.now() < this.#nextAtMs) return;
    this.#isSaying = true;
    this.#write(wait)
      .then(() => {
        this.#said = essence;
      })
      .catch(() => undefined)
      .finally(() => {
        this.#isSaying = false;
        this.#nextAtMs = performance.now() + PAUSE_MS;
      });
  }
}

/** Ages grow by themselves: readers count on from when it was said. */
function essenceOf({ waitingClients, openTransactions, oldest }: HoldWait): string {
  const named = oldest.map(({ pids, application }) => [pids, application]);
  return JSON.stringify([waitingClients, openTransactions, named]);
}
