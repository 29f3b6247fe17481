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
  #onAsked: (() => void) | null = null;
  /** A COPY over several shards has asked for data, and takes what comes. */
  isOpen = false;
  /** It has asked: what the client sent with it after Execute was read as a part of the data. */
  wasAsked = false;
  /** Messages of clients' data so far: what has come nobody can send again. */
  taken = 0;

  get isFull(): boolean {
    return this.#bytes > READ_AHEAD_BYTES;
  }

  /**
   * A COPY is about to begin.
   * @param onRoom called when the client may be read again
   * @param onAsked called when `isOpen` has become true
   */
  open(onRoom: () => void, onAsked: () => void): void {
    this.wasAsked = false;
    this.#onAsked = onAsked;
    this.#data = [];
    this.#bytes = 0;
    this.#end = null;
    this.#onRoom = onRoom;
  }

  /** The statement is over, or the client is gone: whoever waits gets an end. */
  close(): void {
    const onRoom = this.#onRoom;
    if (onRoom === null) return;
    this.#onRoom = null;
    this.#onAsked = null;
    this.isOpen = false;
    this.#end ??= { kind: "failed", reason: "the client is gone" };
    this.#wake?.();
    onRoom();
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

  get hasMore(): boolean {
    return this.#data.length > 0 || this.#end !== null;
  }

  async next(): Promise<CopyPart> {
    this.#ask();
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

  #ask(): void {
    const onAsked = this.#onAsked;
    if (onAsked === null) return;
    this.#onAsked = null;
    this.isOpen = true;
    this.wasAsked = true;
    onAsked();
  }

  #finish(end: CopyPart): void {
    this.#end = end;
    // Messages after it are requests again.
    this.isOpen = false;
  }
}
