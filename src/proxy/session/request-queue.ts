import type { ClientConnection } from "../client/client-connection.js";
import type { ClientRequest } from "../client/client-request.js";

/** Requests of one client that are read ahead; beyond it the socket is not read. */
const READ_AHEAD_BYTES = 64 * 1024;

/** What a client has asked for while a request of its was in hand. */
export class RequestQueue {
  readonly #client: ClientConnection;
  #requests: ClientRequest[] = [];
  #bytes = 0;

  constructor(client: ClientConnection) {
    this.#client = client;
  }

  get isEmpty(): boolean {
    return this.#requests.length === 0;
  }

  add(request: ClientRequest): void {
    this.#requests.push(request);
    this.#bytes += request.bytes;
  }

  /** After what was read has been added. */
  regulate(): void {
    if (this.#bytes > READ_AHEAD_BYTES) this.#client.socket.pause();
  }

  take(): ClientRequest | null {
    const request = this.#requests.shift();
    if (!request) return null;
    this.#bytes -= request.bytes;
    if (this.#bytes <= READ_AHEAD_BYTES) this.#client.socket.resume();
    return request;
  }

  clear(): void {
    this.#requests = [];
    this.#bytes = 0;
  }
}
