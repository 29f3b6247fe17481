import type { AdminResult, FromDataPlane } from "../channel.js";

/** Statements of admin clients on their way to the main process, and the answers on their way back. */
export class AdminQueries {
  readonly #send: (message: FromDataPlane) => void;
  readonly #waiting = new Map<number, (result: AdminResult) => void>();
  #lastId = 0;

  constructor(send: (message: FromDataPlane) => void) {
    this.#send = send;
  }

  async run(user: string, sql: string): Promise<AdminResult> {
    const id = ++this.#lastId;
    return await new Promise<AdminResult>((resolve) => {
      this.#waiting.set(id, resolve);
      this.#send({ kind: "adminQuery", id, user, sql });
    });
  }

  settle(id: number, result: AdminResult): void {
    const resolve = this.#waiting.get(id);
    this.#waiting.delete(id);
    resolve?.(result);
  }
}
