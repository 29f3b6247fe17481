import { BACKEND } from "../../wire/backend.js";
import { Framer } from "../../wire/framer.js";
import type { ClientSink } from "./scatter/contract.js";

/**
 * The client's sink for one statement whose answer is described in any case: whether it gives rows is noted, and the
 * description goes on only where the client wants it.
 */
export class DescribedSink implements ClientSink {
  readonly #sink: ClientSink;
  readonly #isWanted: boolean;
  #isDescribed = false;
  hasRows = false;

  constructor(sink: ClientSink, isWanted: boolean) {
    this.#sink = sink;
    this.#isWanted = isWanted;
  }

  write(frames: Buffer): boolean {
    if (this.#isDescribed) return this.#sink.write(frames);
    const framer = new Framer();
    framer.push(frames);
    while (framer.next()) {
      const { type, start, end } = framer;
      if (type === BACKEND.notice) continue;
      this.#isDescribed = true;
      this.hasRows = type === BACKEND.rowDescription || type === BACKEND.dataRow;
      const isDescription = type === BACKEND.rowDescription || type === BACKEND.noData;
      if (isDescription && !this.#isWanted) return this.#without(frames, start, end);
      break;
    }
    return this.#sink.write(frames);
  }

  async drained(): Promise<void> {
    await this.#sink.drained();
  }

  #without(frames: Buffer, start: number, end: number): boolean {
    const rest = Buffer.concat([frames.subarray(0, start), frames.subarray(end)]);
    return rest.length === 0 || this.#sink.write(rest);
  }
}
