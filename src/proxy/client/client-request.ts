import type { Framer } from "../../wire/framer.js";
import { FLUSH, FRONTEND } from "../../wire/frontend.js";

export interface Message {
  readonly type: number;
  readonly frame: Buffer;
}

/**
 * What a client asks for in one go. Extended messages are collected up to Sync or Flush before a server is
 * asked for: a client that stops in the middle holds none.
 */
export type ClientRequest =
  | { readonly kind: "query"; readonly frame: Buffer; readonly bytes: number }
  | {
      readonly kind: "extended";
      readonly messages: readonly Message[];
      /** "part": a pipeline too long to be collected; the rest follows. */
      readonly end: "sync" | "flush" | "part";
      readonly bytes: number;
    }
  | { readonly kind: "function"; readonly frame: Buffer; readonly bytes: number }
  /** CopyData, CopyDone or CopyFail. */
  | {
      readonly kind: "copy";
      readonly type: number;
      readonly frame: Buffer;
      readonly bytes: number;
    }
  | { readonly kind: "terminate"; readonly bytes: 0 }
  | { readonly kind: "unknown"; readonly type: number; readonly bytes: 0 };

/** A pipeline is sent on in parts of this size. */
const COLLECTED_BYTES = 1_000_000;

/** Makes requests of messages, in the order of the messages. */
export class RequestCollector {
  #messages: Message[] = [];
  #bytes = 0;

  /** Of the framer's current message. @returns those that it completes */
  add(framer: Framer): readonly ClientRequest[] {
    const { type, buffer, start, end } = framer;
    const next = this.#next(type, buffer.subarray(start, end));
    if (next === null) return [];
    if (next.kind === "extended" || next.kind === "terminate" || this.#messages.length === 0)
      return [next];
    // What was collected without a Sync comes first, and its answer, or its error, before the next message's.
    this.#messages.push({ type: FRONTEND.flush, frame: FLUSH });
    return [this.#finish("flush"), next];
  }

  #next(type: number, frame: Buffer): ClientRequest | null {
    const bytes = frame.length;
    switch (type) {
      case FRONTEND.query:
        return { kind: "query", frame, bytes };
      case FRONTEND.parse:
      case FRONTEND.bind:
      case FRONTEND.describe:
      case FRONTEND.execute:
      case FRONTEND.close:
        this.#messages.push({ type, frame });
        this.#bytes += bytes;
        return this.#bytes > COLLECTED_BYTES ? this.#finish("part") : null;
      case FRONTEND.sync:
        this.#messages.push({ type, frame });
        return this.#finish("sync");
      case FRONTEND.flush:
        this.#messages.push({ type, frame });
        return this.#finish("flush");
      case FRONTEND.functionCall:
        return { kind: "function", frame, bytes };
      case FRONTEND.copyData:
      case FRONTEND.copyDone:
      case FRONTEND.copyFail:
        return { kind: "copy", type, frame, bytes };
      case FRONTEND.terminate:
        return { kind: "terminate", bytes: 0 };
      default:
        return { kind: "unknown", type, bytes: 0 };
    }
  }

  #finish(end: "sync" | "flush" | "part"): ClientRequest {
    const request: ClientRequest = {
      kind: "extended",
      messages: this.#messages,
      end,
      bytes: this.#bytes,
    };
    this.#messages = [];
    this.#bytes = 0;
    return request;
  }
}
