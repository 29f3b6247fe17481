import type { ServerConnection } from "../../../backend/server-connection.js";
import { BACKEND } from "../../../wire/backend.js";
import type { StatementRequest } from "../scatter/contract.js";
import type { AnswerHandler } from "../scatter/shard-statement.js";
import type { ClientRows } from "./client-rows.js";

/** The client's own answer from the deciding shard, held back. */
export class HeldAnswer implements AnswerHandler {
  readonly #request: StatementRequest;
  readonly #client: ClientRows;
  readonly #owner: ServerConnection;

  constructor(request: StatementRequest, client: ClientRows, owner: ServerConnection) {
    this.#request = request;
    this.#client = client;
    this.#owner = owner;
    client.onFree = () => owner.resume();
  }

  description(frame: Buffer): void {
    if (frame[0] === BACKEND.noData) this.#client.holdNoData(this.#request);
    else if (this.#request.wantsDescription) this.#client.hold(Buffer.from(frame));
  }

  rows(buffer: Buffer, start: number, end: number): void {
    this.#client.hold(Buffer.from(buffer.subarray(start, end)));
    if (this.#client.isBlocked) this.#owner.pause();
  }

  notice(frame: Buffer): void {
    this.#client.hold(Buffer.from(frame));
  }

  copyIn(): void {}
  drained(): void {}
}
