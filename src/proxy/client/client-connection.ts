import type { Socket } from "node:net";
import { Framer } from "../../wire/framer.js";

/** Before a client has proved who it is, it may send no more than this in one message. */
const LARGEST_LOGIN_MESSAGE_BYTES = 10_000;

/** Takes what a client sends after login; synchronous and in order. */
export interface ClientReceiver {
  read(framer: Framer): void;
  drained(): void;
  closed(): void;
}

/** A client's socket: whole messages in, bytes out, back-pressure both ways. */
export class ClientConnection {
  readonly socket: Socket;
  readonly address: string;
  readonly port: number;
  readonly connectedAtMs = Date.now();
  bytesReceived = 0;
  bytesSent = 0;
  #framer = new Framer(LARGEST_LOGIN_MESSAGE_BYTES);
  #receiver: ClientReceiver | null = null;
  #wake: (() => void) | null = null;
  #isClosed = false;

  constructor(socket: Socket) {
    this.socket = socket;
    this.address = socket.remoteAddress ?? "";
    this.port = socket.remotePort ?? 0;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 60_000);
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
    socket.on("drain", () => this.#receiver?.drained());
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#isClosed = true;
      this.#wake?.();
      this.#receiver?.closed();
    });
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** @returns false when the caller should stop its source until `drained` */
  write(bytes: Buffer): boolean {
    this.bytesSent += bytes.length;
    return this.#isClosed || this.socket.write(bytes);
  }

  /** Says the last word and closes. */
  end(bytes?: Buffer): void {
    if (this.#isClosed) return;
    if (bytes) this.socket.end(bytes);
    else this.socket.end();
    setTimeout(() => this.socket.destroy(), 1_000).unref();
  }

  /** A start-up packet, or a message; null when the client went away. @throws ProtocolViolation */
  async nextStartup(): Promise<Buffer | null> {
    return await this.#next((framer) => framer.nextStartup());
  }

  async nextMessage(): Promise<{ readonly type: number; readonly frame: Buffer } | null> {
    const frame = await this.#next((framer) => framer.next());
    return frame === null ? null : { type: this.#framer.type, frame };
  }

  /** From here on messages go to the receiver, and may be large. */
  use(receiver: ClientReceiver): void {
    const rest = this.#framer.takeRest();
    this.#framer = new Framer();
    this.#receiver = receiver;
    if (this.#isClosed) {
      receiver.closed();
    } else if (rest.length > 0) {
      this.#framer.push(rest);
      receiver.read(this.#framer);
    }
  }

  #read(chunk: Buffer): void {
    this.bytesReceived += chunk.length;
    this.#framer.push(chunk);
    if (this.#receiver) this.#receiver.read(this.#framer);
    else if (this.#framer.unread > 2 * LARGEST_LOGIN_MESSAGE_BYTES) this.socket.destroy();
    else this.#wake?.();
  }

  async #next(advance: (framer: Framer) => boolean): Promise<Buffer | null> {
    for (;;) {
      const framer = this.#framer;
      if (advance(framer)) return framer.buffer.subarray(framer.start, framer.end);
      if (this.#isClosed) return null;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = null;
    }
  }
}
