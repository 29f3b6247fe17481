import type { ServerConnection } from "../../../backend/server-connection.js";
import type { ServerReceiver } from "../../../backend/server-link.js";
import type { SluiceError } from "../../../core/errors.js";
import { BACKEND } from "../../../wire/backend.js";
import { encodeThrown } from "../../../wire/error-fields.js";
import { withPlacementHint } from "../../../wire/placement-hint.js";

/** Who hears what one shard answers. Calls are synchronous and in order. */
export interface AnswerHandler {
  /** RowDescription, NoData, CopyOutResponse or ParameterDescription. */
  description(frame: Buffer): void;
  /** Whole DataRow or CopyData messages, one behind the other: `buffer[start..end)`. */
  rows(buffer: Buffer, start: number, end: number): void;
  /** NoticeResponse and NotificationResponse. */
  notice(frame: Buffer): void;
  /** CopyInResponse: the server waits for data. */
  copyIn(frame: Buffer): void;
  /** After `send` returned false: more may be sent. */
  drained(): void;
}

/** The message of the extended protocol that an error answers. */
export type Phase = "parse" | "bind" | "execute";

/** How a statement ended on one shard; nothing is in flight there any more. */
export type ShardEnd =
  /** One tag per statement that was executed. */
  | { readonly kind: "complete"; readonly tags: readonly string[] }
  /** An ErrorResponse frame; our own where the connection was lost. */
  | { readonly kind: "failed"; readonly error: Buffer; readonly phase: Phase };

/** One exchange with one shard, from the first message sent to ReadyForQuery. */
export class ShardStatement implements ServerReceiver {
  readonly connection: ServerConnection;
  readonly #handler: AnswerHandler;
  readonly #tags: string[] = [];
  #error: Buffer | null = null;
  #phase: Phase = "parse";
  #runBuffer: Buffer | null = null;
  #runStart = 0;
  #runEnd = 0;
  #finish: (end: ShardEnd) => void = () => {};
  isDone = false;

  constructor(connection: ServerConnection, handler: AnswerHandler) {
    this.connection = connection;
    this.#handler = handler;
  }

  get hasFailed(): boolean {
    return this.#error !== null;
  }

  /** Sends, and waits for ReadyForQuery. Never rejects. */
  async run(messages: Buffer): Promise<ShardEnd> {
    return await new Promise((resolve) => {
      this.#finish = resolve;
      // Whatever unnamed statement was there, ours takes its place.
      this.connection.unnamedStatement = null;
      this.connection.use(this);
      this.connection.send(messages);
    });
  }

  frame(type: number, buffer: Buffer, start: number, end: number): void {
    if (type === BACKEND.dataRow || type === BACKEND.copyData) {
      // Rows that lie side by side go on as one slice.
      if (this.#runBuffer === buffer && this.#runEnd === start) this.#runEnd = end;
      else {
        this.#flushRun();
        this.#runBuffer = buffer;
        this.#runStart = start;
        this.#runEnd = end;
      }
      return;
    }
    this.#flushRun();
    this.#take(type, buffer.subarray(start, end));
  }

  #take(type: number, frame: Buffer): void {
    switch (type) {
      case BACKEND.parseComplete:
        this.#phase = "bind";
        break;
      case BACKEND.bindComplete:
        this.#phase = "execute";
        break;
      case BACKEND.rowDescription:
      case BACKEND.noData:
      case BACKEND.copyOutResponse:
      case BACKEND.parameterDescription:
        this.#handler.description(frame);
        break;
      case BACKEND.copyInResponse:
        this.#handler.copyIn(frame);
        break;
      case BACKEND.notice:
      case BACKEND.notification:
        this.#handler.notice(frame);
        break;
      case BACKEND.commandComplete:
        this.#tags.push(frame.toString("latin1", 5, frame.length - 1));
        break;
      case BACKEND.error:
        this.#error ??= Buffer.from(withPlacementHint(frame));
        break;
      case BACKEND.readyForQuery:
        this.#end();
        break;
      default:
        // ParameterStatus, CopyDone: nobody's business here.
        break;
    }
  }

  chunkEnd(): void {
    this.#flushRun();
  }

  drained(): void {
    this.#handler.drained();
  }

  closed(error: SluiceError): void {
    this.#error ??= encodeThrown(error);
    this.#end();
  }

  #flushRun(): void {
    const buffer = this.#runBuffer;
    if (buffer === null) return;
    this.#runBuffer = null;
    this.#handler.rows(buffer, this.#runStart, this.#runEnd);
  }

  #end(): void {
    if (this.isDone) return;
    this.isDone = true;
    this.connection.use(null);
    const error = this.#error;
    this.#finish(
      error === null
        ? { kind: "complete", tags: this.#tags }
        : { kind: "failed", error, phase: this.#phase },
    );
    // Rows that were held back have been taken; a paused connection would stay so for its next owner.
    this.connection.resume();
  }
}
