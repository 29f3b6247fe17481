import { NO_DATA } from "../../../wire/backend.js";
import type { ClientSink, StatementRequest } from "../scatter/contract.js";

/** With fewer bytes, nothing is shown before the other shards have the rows as well. */
const LARGEST_HELD_BYTES = 256 * 1024;

/** What the client is to see of a statement, held back while that may come to nothing. */
export class ClientRows {
  readonly #sink: ClientSink;
  #held: Buffer[] = [];
  #heldBytes = 0;
  /** Called when the client takes more again. */
  onFree: () => void = () => {};
  /** The client must take what was shown before more is read. */
  isBlocked = false;

  constructor(sink: ClientSink) {
    this.#sink = sink;
  }

  /** What the extended protocol says of a statement that has no rows. */
  holdNoData(request: StatementRequest): void {
    if (request.protocol === "extended" && request.wantsDescription) this.hold(NO_DATA);
  }

  hold(frame: Buffer): void {
    this.#held.push(frame);
    this.#heldBytes += frame.length;
    if (this.#heldBytes > LARGEST_HELD_BYTES && !this.isBlocked) this.show();
  }

  /** The statement has succeeded, or has become too large to be held. */
  show(): void {
    if (this.#held.length === 0) return;
    const bytes = Buffer.concat(this.#held);
    this.#held = [];
    this.#heldBytes = 0;
    if (this.#sink.write(bytes)) return;
    this.isBlocked = true;
    const free = () => {
      this.isBlocked = false;
      this.onFree();
    };
    // A client that is gone takes nothing any more, and holds nobody up.
    this.#sink.drained().then(free, free);
  }
}
