import { describeAddress } from "../../backend/address.js";
import type { ServerConnection } from "../../backend/server-connection.js";
import { ServerConnectionLost } from "../../backend/server-errors.js";
import type { ServerReceiver } from "../../backend/server-link.js";
import type { SluiceError } from "../../core/errors.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import { BACKEND } from "../../wire/backend.js";
import {
  decodeErrorFields,
  type ErrorResponseFields,
  encodeErrorFields,
} from "../../wire/error-fields.js";
import { withPlacementHint } from "../../wire/placement-hint.js";
import type { ClientConnection } from "../client/client-connection.js";
import { newsOf, type SessionState } from "./session-state.js";

/** What the server will answer, in order, for messages of the extended protocol. */
export interface Expectation {
  readonly kind:
    | "parse"
    | "bind"
    | "close"
    | "describe"
    | "execute"
    | "sync"
    /** No message was sent: `bytes` is the answer, in its place. */
    | "answered"
    /** A message was sent that must fail: `bytes` is the error that the client sees. */
    | "failing";
  readonly bytes?: Buffer;
  /** The message was ours, and so is its answer: the client does not see it. */
  readonly isOurs?: boolean;
  /** Of a statement that the server had by all that it has said; it is made again if the server knows none. */
  readonly isBelieved?: boolean;
  /** When an error before it made the server skip it. */
  readonly undo?: () => void;
}

export type RelayOutcome =
  /** ReadyForQuery was seen, and forwarded if it was the client's. */
  | { readonly kind: "ready" }
  /** All that was asked for up to a Flush is answered, or failed: then Sync is to come. */
  | { readonly kind: "answered" }
  /** The gate refused the first statement, nothing was shown to the client, the server is ready. */
  | { readonly kind: "refusedByGate" }
  /** As `holdFailure` asks: nothing was shown, the server is ready, and `deliver` or `drop` is to come. */
  | { readonly kind: "failureHeld" }
  /** The server had lost a statement; nothing was shown to the client, it is ready for the same again. */
  | { readonly kind: "forgotten" }
  | {
      readonly kind: "lost";
      readonly error: SluiceError;
      readonly fatal: ErrorResponseFields | null;
    };

const JOINED_BYTES = 16_384;

/**
 * Forwards one server's messages to one client. Runs of messages go as one slice of what was read; a chunk
 * that is forwarded whole is one write without a copy:
 *
 *     chunk  [1][2][T][D][D][D][D][C][Z]      1 is ours: dropped
 *               '-------- one slice -----'
 */
export class Relay implements ServerReceiver {
  readonly #state: SessionState;
  readonly #client: ClientConnection;
  readonly #onCopyIn: () => void;
  #server: ServerConnection | null = null;
  #expected: Expectation[] = [];
  #at = 0;
  isExtended = false;
  #canRetry = false;
  /** Why the request is kept from the client and will be sent again; null: it is not. */
  #takenBack: "refusedByGate" | "forgotten" | null = null;
  #onlySetupSeen = true;
  #holdsFailure: ((fields: ErrorResponseFields) => boolean) | null = null;
  #hasHeldFailure = false;
  #resolve: ((outcome: RelayOutcome) => void) | null = null;
  #fatal: ErrorResponseFields | null = null;
  #lost: RelayOutcome | null = null;
  // Output: closed runs, and the open one.
  #out: Buffer[] = [];
  #runBuffer: Buffer | null = null;
  #runStart = 0;
  #runEnd = 0;
  /** The server waits for CopyData. */
  isCopyIn = false;
  /** After an error the server skips everything up to Sync. */
  isSkipping = false;
  hasSeenError = false;
  /** The server has reported a setting. */
  #hasNews = false;
  /** One of those that `holdFailure` asked for, shown or not. */
  hasSeenSuch = false;

  constructor(state: SessionState, onCopyIn: () => void) {
    this.#state = state;
    this.#client = state.client;
    this.#onCopyIn = onCopyIn;
  }

  attach(server: ServerConnection): void {
    this.#server = server;
    this.#fatal = null;
    this.#lost = null;
    this.#expected = [];
    this.#at = 0;
    this.isSkipping = false;
    this.isCopyIn = false;
    server.use(this);
  }

  detach(): void {
    this.#server = null;
  }

  /** Before the messages are sent. @param canRetry nothing of the transaction has run before */
  begin(protocol: "simple" | "extended", canRetry: boolean): void {
    this.isExtended = protocol === "extended";
    this.#canRetry = canRetry;
    this.#takenBack = null;
    this.#onlySetupSeen = true;
    this.#holdsFailure = null;
    this.#hasHeldFailure = false;
    this.hasSeenError = false;
    this.hasSeenSuch = false;
  }

  /** After `begin`: a failure like this, before anything was shown, is not shown either: the caller decides. */
  holdFailure(isSuch: (fields: ErrorResponseFields) => boolean): void {
    this.#holdsFailure = isSuch;
  }

  /** The failure that was held, and what came before it, go to the client. */
  deliver(): void {
    this.#hasHeldFailure = false;
    this.flush();
  }

  /** It will be tried again. */
  drop(): void {
    this.#hasHeldFailure = false;
    this.#out = [];
    this.#runBuffer = null;
  }

  expect(expectation: Expectation): void {
    this.#expected.push(expectation);
  }

  /** When all is sent: waits for the answer up to ReadyForQuery, or up to the last expectation. */
  async outcome(): Promise<RelayOutcome> {
    this.#injectAnswered();
    const known = this.#known();
    if (known) {
      this.flush();
      return known;
    }
    return await new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  /** Answers that need no server so far, for a pipeline that is sent in parts. */
  injectAnswered(): void {
    this.#injectAnswered();
    this.flush();
  }

  frame(type: number, buffer: Buffer, start: number, end: number): void {
    switch (type) {
      case BACKEND.dataRow:
      case BACKEND.copyData:
        this.#onlySetupSeen = false;
        this.#forward(buffer, start, end);
        return;
      case BACKEND.parseComplete:
      case BACKEND.bindComplete:
      case BACKEND.closeComplete:
        if (!this.#expected[this.#at]?.isOurs) this.#forward(buffer, start, end);
        this.#advance();
        return;
      case BACKEND.rowDescription:
      case BACKEND.noData:
        this.#forward(buffer, start, end);
        if (this.#expected[this.#at]?.kind === "describe") this.#advance();
        return;
      case BACKEND.commandComplete:
      case BACKEND.emptyQuery:
      case BACKEND.portalSuspended:
        this.#complete(buffer, start, end);
        return;
      case BACKEND.error:
        this.#error(buffer.subarray(start, end));
        return;
      case BACKEND.readyForQuery:
        this.#ready(buffer, start, end);
        return;
      case BACKEND.copyInResponse:
        this.#copyIn(buffer, start, end);
        return;
      case BACKEND.parameterStatus:
        this.#hasNews = true;
        return;
      case BACKEND.notice:
        this.#notice(buffer, start, end);
        return;
      default:
        this.#forward(buffer, start, end);
    }
  }

  /** Shown at once, even where the answer is held back: seeing it twice after a retry does no harm. */
  #notice(buffer: Buffer, start: number, end: number): void {
    const isFirst = this.#out.length === 0 && this.#runBuffer === null;
    if (isFirst && !this.#takenBack) this.#write(buffer.subarray(start, end));
    else this.#forward(buffer, start, end);
  }

  chunkEnd(): void {
    if (this.#hasHeldFailure) return;
    if (this.#canRetry && this.#onlySetupSeen && this.#resolve) return;
    this.flush();
  }

  drained(): void {
    this.#client.socket.resume();
  }

  closed(error: SluiceError): void {
    // Nobody else would: a server that is gone never takes what the client was stopped for.
    this.drained();
    this.flush();
    const cause = this.#fatal?.get("M");
    const server = this.#server ? describeAddress(this.#server.address) : "";
    const shown = cause ? new ServerConnectionLost(server, { detail: cause }) : error;
    this.isCopyIn = false;
    this.#lost = { kind: "lost", error: shown, fatal: this.#fatal };
    this.#settle(this.#lost);
  }

  /** Writes what is collected, as one write where that is cheap. */
  flush(): void {
    this.#closeRun();
    const chunks = this.#out;
    if (chunks.length === 0) return;
    this.#out = [];
    const [first] = chunks;
    if (chunks.length === 1 && first) {
      this.#write(first);
      return;
    }
    let bytes = 0;
    for (const chunk of chunks) bytes += chunk.length;
    if (bytes <= JOINED_BYTES) {
      this.#write(Buffer.concat(chunks, bytes));
      return;
    }
    this.#client.socket.cork();
    for (const chunk of chunks) this.#write(chunk);
    this.#client.socket.uncork();
  }

  #write(bytes: Buffer): void {
    if (!this.#client.write(bytes)) this.#server?.pause();
  }

  #forward(buffer: Buffer, start: number, end: number): void {
    if (this.#takenBack) return;
    if (this.#runBuffer === buffer && this.#runEnd === start) {
      this.#runEnd = end;
      return;
    }
    this.#closeRun();
    this.#runBuffer = buffer;
    this.#runStart = start;
    this.#runEnd = end;
  }

  #closeRun(): void {
    if (!this.#runBuffer) return;
    this.#out.push(this.#runBuffer.subarray(this.#runStart, this.#runEnd));
    this.#runBuffer = null;
  }

  #push(bytes: Buffer): void {
    this.#closeRun();
    this.#out.push(bytes);
  }

  #complete(buffer: Buffer, start: number, end: number): void {
    this.#onlySetupSeen = false;
    this.#forward(buffer, start, end);
    this.isCopyIn = false;
    if (this.isExtended) this.#advance();
  }

  #ready(buffer: Buffer, start: number, end: number): void {
    const isOurs = this.#expected[this.#at]?.isOurs ?? false;
    this.isSkipping = false;
    this.isCopyIn = false;
    this.#expected = [];
    this.#at = 0;
    if (this.#takenBack) {
      this.#settle({ kind: this.#takenBack });
      return;
    }
    this.#onlySetupSeen = false;
    if (this.#hasNews && this.#server) {
      const news = newsOf(this.#state, this.#server);
      if (news) this.#push(news);
      this.#hasNews = false;
    }
    if (!isOurs) this.#forward(buffer, start, end);
    if (this.#hasHeldFailure) {
      this.#settle({ kind: "failureHeld" });
      return;
    }
    this.flush();
    this.#settle({ kind: "ready" });
  }

  #copyIn(buffer: Buffer, start: number, end: number): void {
    this.#forward(buffer, start, end);
    this.#onlySetupSeen = false;
    this.#canRetry = false;
    this.flush();
    // The server ignores the Sync that it was sent already; another comes after CopyDone.
    if (this.isExtended && this.#expected.at(-1)?.kind === "sync") this.#expected.pop();
    this.isCopyIn = true;
    this.#onCopyIn();
  }

  #error(frame: Buffer): void {
    if (this.#takenBack) return;
    const fields = decodeErrorFields(frame);
    const severity = fields.get("V") ?? fields.get("S");
    this.isCopyIn = false;
    if (severity === "FATAL" || severity === "PANIC") {
      // The server closes after it; our client need not go as well.
      this.#fatal = fields;
      return;
    }
    this.hasSeenError = true;
    // A plan that a schema change broke: this session's statements are made anew at check-in.
    if (fields.get("R") === "RevalidateCachedQuery" && this.#server) this.#server.isSoiled = true;
    if (fields.get("C") === SQLSTATE.invalidSqlStatementName && this.#takeForgotten()) return;
    if (fields.get("C") === SQLSTATE.gateClosed && this.#takeRefusal(fields)) return;
    else if (fields.get("C") !== SQLSTATE.gateClosed) this.#pushError(frame);
    this.hasSeenSuch = this.#holdsFailure?.(fields) === true;
    this.#hasHeldFailure = this.hasSeenSuch && this.#canRetry && this.#onlySetupSeen;
    // Held back with what came before it, as far as ReadyForQuery.
    if (!this.#hasHeldFailure) this.#onlySetupSeen = false;
    if (this.isExtended) this.#skipToSync();
  }

  /** @returns whether the refusal stays between us and the server, for the statement will be tried again */
  #takeRefusal(fields: ErrorResponseFields): boolean {
    if (!this.#canRetry || !this.#onlySetupSeen) {
      this.#pushError(movedError(fields));
      return false;
    }
    this.#takeBack("refusedByGate");
    return true;
  }

  /** Outside of a transaction nothing is lost by doing it again. */
  #takeForgotten(): boolean {
    const isOurs = this.#expected[this.#at]?.isBelieved ?? false;
    if (!isOurs || !this.#canRetry || !this.#onlySetupSeen) return false;
    this.#takeBack("forgotten");
    return true;
  }

  #takeBack(reason: "refusedByGate" | "forgotten"): void {
    this.#takenBack = reason;
    this.#out = [];
    this.#runBuffer = null;
    for (; this.#at < this.#expected.length; this.#at++) this.#expected[this.#at]?.undo?.();
  }

  #pushError(frame: Buffer): void {
    const expectation = this.#expected[this.#at];
    this.#push(
      expectation?.kind === "failing" && expectation.bytes
        ? expectation.bytes
        : withPlacementHint(frame),
    );
  }

  #skipToSync(): void {
    for (; this.#at < this.#expected.length; this.#at++) {
      const expectation = this.#expected[this.#at];
      if (expectation?.kind === "sync") return;
      expectation?.undo?.();
    }
    this.isSkipping = true;
    this.flush();
    this.#settle({ kind: "answered" });
  }

  #advance(): void {
    this.#at++;
    this.#injectAnswered();
    const known = this.#known();
    if (!known) return;
    this.flush();
    this.#settle(known);
  }

  #injectAnswered(): void {
    for (;;) {
      const expectation = this.#expected[this.#at];
      if (expectation?.kind !== "answered") break;
      if (expectation.bytes) this.#push(expectation.bytes);
      this.#at++;
    }
  }

  #known(): RelayOutcome | null {
    if (this.#lost) return this.#lost;
    if (!this.isExtended || this.#at < this.#expected.length) return null;
    this.#expected = [];
    this.#at = 0;
    return { kind: "answered" };
  }

  #settle(outcome: RelayOutcome): void {
    const resolve = this.#resolve;
    this.#resolve = null;
    resolve?.(outcome);
  }
}

/** The gate's refusal in the middle of a transaction: it must be repeated, and can be. */
export function movedError(fields: ErrorResponseFields): Buffer {
  const shown = new Map(fields);
  shown.set("C", SQLSTATE.serializationFailure);
  shown.set("M", "the table's data is moving to other servers; this transaction cannot go on");
  shown.set("H", "Roll back and repeat the whole transaction.");
  shown.delete("D");
  return encodeErrorFields("E", shown);
}
