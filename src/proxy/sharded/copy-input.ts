import { FRONTEND } from "../../wire/frontend.js";
import { MessageReader } from "../../wire/message-reader.js";
import type { CopySource } from "./scatter/contract.js";

type CopyPart = Awaited<ReturnType<CopySource["next"]>>;

/** What a client may be ahead of the shards; beyond it its socket is not read. */
const READ_AHEAD_BYTES = 1_000_000;

/** The client's CopyData on its way to a COPY over several shards. */
export class CopyInput implements CopySource {
  #data: Buffer[] = [];
  #bytes = 0;
  #end: CopyPart | null = null;
  #wake: (() => void) | null = null;
  #onRoom: (() => void) | null = null;
  /** A COPY over several shards takes what comes. */
  isOpen = false;
  /** Messages of clients' data so far: what has come nobody can send again. */
  taken = 0;

  get isFull(): boolean {
    return this.#bytes > READ_AHEAD_BYTES;
  }

  /** @param onRoom called when the client may be read again */
  open(onRoom: () => void): void {
    this.isOpen = true;
    this.#data = [];
    this.#bytes = 0;
    this.#end = null;
    this.#onRoom = onRoom;
  }

  /** The statement is over, or the client is gone: whoever waits gets an end. */
  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.#end ??= { kind: "failed", reason: "the client is gone" };
    this.#wake?.();
    this.#onRoom?.();
  }

  add(type: number, frame: Buffer): void {
    this.taken++;
    if (type === FRONTEND.copyData) {
      this.#data.push(frame);
      this.#bytes += frame.length;
    } else if (type === FRONTEND.copyDone) this.#finish({ kind: "done" });
    else this.#finish({ kind: "failed", reason: MessageReader.ofFrame(frame).cstring() });
    this.#wake?.();
  }

  async next(): Promise<CopyPart> {
    for (;;) {
      if (this.#data.length > 0) {
        const frames = Buffer.concat(this.#data);
        this.#data = [];
        this.#bytes = 0;
        this.#onRoom?.();
        return { kind: "data", frames };
      }
      if (this.#end) return this.#end;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = null;
    }
  }

  #finish(end: CopyPart): void {
    this.#end = end;
    // Messages after it are requests again.
    this.isOpen = false;
  }
}
