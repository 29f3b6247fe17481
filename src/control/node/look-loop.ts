import { tell } from "../../core/tell.js";
import type { Log } from "../../observe/log.js";

/** Between two looks without a switch in sight: how late a node can learn of a migration. */
const IDLE_LOOK_MS = 1_000;
/** While armed or holding. A hint (NOTIFY) is only a reason to look sooner (design, section 7). */
const ARMED_LOOK_MS = 50;

export interface LookLoopOptions {
  /** One look at the servers, and what it asks for. A failure is repeated with the next look. */
  look(): Promise<void>;
  /** A switch is near: look often. */
  isNear(): boolean;
  readonly log: Log;
}

/** Looks again and again, one look at a time, sooner when hinted. */
export class LookLoop {
  readonly #options: LookLoopOptions;
  #timer: NodeJS.Timeout | null = null;
  #looking: Promise<void> | null = null;
  #lookAgain = false;
  #isClosed = false;

  constructor(options: LookLoopOptions) {
    this.#options = options;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Looks now, or waits for the look that is under way. */
  async now(): Promise<void> {
    if (this.#isClosed) return;
    this.#looking ??= this.#untilQuiet().finally(() => {
      this.#looking = null;
      this.schedule();
    });
    await this.#looking;
  }

  /** A hint came: look now, or once more when a look is under way (it may have read too early). */
  wake(): void {
    if (this.#looking) this.#lookAgain = true;
    else void this.now();
  }

  /** The next look; from here on they never end until `close`. */
  schedule(): void {
    if (this.#isClosed) return;
    if (this.#timer) clearTimeout(this.#timer);
    const ms = this.#options.isNear() ? ARMED_LOOK_MS : IDLE_LOOK_MS;
    this.#timer = setTimeout(() => void this.now(), ms);
  }

  /** Resolves when the look that is under way has ended. */
  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#timer) clearTimeout(this.#timer);
    await this.#looking;
  }

  async #untilQuiet(): Promise<void> {
    do {
      this.#lookAgain = false;
      try {
        await this.#options.look();
      } catch (error) {
        this.#options.log.warn("acting on decisions failed; trying again", {
          error: tell(error),
        });
      }
    } while (this.#mustLookAgain());
  }

  /** Hints set it while a look is under way. */
  #mustLookAgain(): boolean {
    return this.#lookAgain && !this.#isClosed;
  }
}
