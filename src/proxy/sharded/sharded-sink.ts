import type { ClientConnection } from "../client/client-connection.js";
import type { ClientSink } from "./scatter/contract.js";

/** The client as the scatter sees it. What is held back goes out before anything else. */
export class ShardedSink implements ClientSink {
  readonly #client: ClientConnection;
  #heldBack: Buffer[] = [];
  #wake: (() => void)[] = [];
  hasWritten = false;

  constructor(client: ClientConnection) {
    this.#client = client;
  }

  /** A new statement: nothing of it has been shown yet. */
  restart(): void {
    this.hasWritten = false;
  }

  /** For answers that may still be taken back; `flush` or the next write sends them. */
  holdBack(bytes: Buffer): void {
    this.#heldBack.push(bytes);
  }

  /** How much is held back; with `dropHeldBack` what comes from here on is taken back alone. */
  get heldBack(): number {
    return this.#heldBack.length;
  }

  /** @param from what was held back first stays */
  dropHeldBack(from = 0): void {
    this.#heldBack.splice(from);
  }

  flush(): void {
    if (this.#heldBack.length === 0) return;
    const bytes = Buffer.concat(this.#heldBack);
    this.#heldBack = [];
    this.#client.write(bytes);
  }

  write(frames: Buffer): boolean {
    this.hasWritten = true;
    if (this.#heldBack.length === 0) return this.#client.write(frames);
    this.#heldBack.push(frames);
    const bytes = Buffer.concat(this.#heldBack);
    this.#heldBack = [];
    return this.#client.write(bytes);
  }

  async drained(): Promise<void> {
    if (this.#client.isClosed || !this.#client.socket.writableNeedDrain) return;
    await new Promise<void>((resolve) => {
      this.#wake.push(resolve);
    });
  }

  clientDrained(): void {
    const wake = this.#wake;
    this.#wake = [];
    for (const resolve of wake) resolve();
  }
}
