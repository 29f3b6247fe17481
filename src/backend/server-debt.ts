import { BACKEND } from "../wire/backend.js";
import { encodeCopyFail, FRONTEND, SYNC } from "../wire/frontend.js";
import { ProtocolViolation } from "../wire/protocol-violation.js";

const HEADER_BYTES = 5;
const COPY_FAIL = encodeCopyFail("nobody sends its data any more");

/**
 * What a server owes for what it was sent, counted from the bytes themselves, so that nobody who sends can forget to
 * say so: a ReadyForQuery for each Query, FunctionCall and Sync, and an answer for what no Sync has followed yet.
 *
 *     sent      Q         P B E S            P B E S(a COPY FROM STDIN)         d d c S
 *     owed      1         ... 1              ... 1 -> CopyInResponse: 0          ...  1     the server has eaten the
 *     received  C Z       1 2 C Z                 G                              C Z        first Sync
 */
export class ServerDebt {
  /** What each ReadyForQuery to come is the answer to. */
  #owed: ("query" | "sync")[] = [];
  /** Messages of the extended protocol were sent that no Sync has followed. */
  #isUnsynced = false;
  /** The server waits for CopyData, of a COPY of that protocol. */
  #copy: "none" | "simple" | "extended" = "none";
  #isCopyEnded = false;
  #hasEatenSync = false;
  #isUncertain = false;

  /** Nothing is to come any more. */
  get isClear(): boolean {
    return this.#owed.length === 0 && !this.#isUnsynced && this.#copy === "none";
  }

  /** Whether a Sync was read inside a COPY or behind its failure cannot be told: never at rest again. */
  get isUncertain(): boolean {
    return this.#isUncertain;
  }

  /** @param messages whole ones, one behind the other @throws Error when the last one is cut */
  sent(messages: Buffer): void {
    let at = 0;
    while (at + HEADER_BYTES <= messages.length) {
      this.#sent(messages[at] ?? 0);
      at += 1 + messages.readInt32BE(at + 1);
    }
    if (at !== messages.length) throw new Error("a part of a message cannot be sent");
  }

  #sent(type: number): void {
    switch (type) {
      case FRONTEND.query:
      case FRONTEND.functionCall:
        this.#owed.push("query");
        return;
      case FRONTEND.sync:
        if (this.#copy !== "none" && !this.#isCopyEnded) {
          this.#hasEatenSync = true;
          return;
        }
        this.#isUnsynced = false;
        this.#owed.push("sync");
        return;
      case FRONTEND.copyDone:
      case FRONTEND.copyFail:
        this.#isCopyEnded = true;
        return;
      case FRONTEND.parse:
      case FRONTEND.bind:
      case FRONTEND.describe:
      case FRONTEND.execute:
      case FRONTEND.close:
        this.#isUnsynced = true;
    }
  }

  /** @throws ProtocolViolation when it is the answer to nothing */
  received(type: number): void {
    switch (type) {
      case BACKEND.readyForQuery:
        this.#copy = "none";
        if (this.#owed.shift() === undefined && !this.#isUncertain)
          throw new ProtocolViolation("a server is ready for a second time");
        return;
      case BACKEND.copyInResponse:
        this.#copyIn();
        return;
      case BACKEND.commandComplete:
        // The server has read CopyDone, so it has read every Sync before that inside the COPY.
        this.#copy = "none";
        this.#hasEatenSync = false;
        return;
      case BACKEND.error:
        if (this.#hasEatenSync) this.#isUncertain = true;
        this.#copy = "none";
    }
  }

  #copyIn(): void {
    this.#isCopyEnded = false;
    if (this.#owed[0] === "query") {
      this.#copy = "simple";
      return;
    }
    this.#copy = "extended";
    this.#isUnsynced = true;
    while (this.#owed[0] === "sync") {
      this.#owed.shift();
      this.#hasEatenSync = true;
    }
  }

  /** What must be sent so that all that is owed comes; null: nothing. Again after each CopyInResponse. */
  conclusion(): Buffer | null {
    const messages: Buffer[] = [];
    if (this.#copy !== "none" && !this.#isCopyEnded) messages.push(COPY_FAIL);
    if (this.#isUnsynced) messages.push(SYNC);
    return messages.length === 0 ? null : Buffer.concat(messages);
  }
}
