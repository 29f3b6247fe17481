import { connect, type Socket } from "node:net";
import { ServerUnreachable, SluiceError } from "../core/errors.js";
import { SQLSTATE } from "../core/sqlstate.js";
import {
  BACKEND,
  decodeCommandTag,
  decodeDataRow,
  decodeParameterStatus,
  decodeTransactionStatus,
  type TransactionStatus,
} from "../wire/backend.js";
import { decodeErrorFields, type ErrorResponseFields } from "../wire/error-fields.js";
import { Framer } from "../wire/framer.js";
import { encodeCancel, encodeQuery, encodeStartup, TERMINATE } from "../wire/frontend.js";
import { describeAddress, type ServerAddress } from "./address.js";
import { ServerConnectionLost } from "./server-errors.js";
import { ServerLogin } from "./server-login.js";

/**
 * Whoever uses a connection gets its messages. All calls are synchronous and in order; nothing may be
 * awaited inside, or the next chunk would enter in between.
 */
export interface ServerReceiver {
  /**
   * One whole message, `buffer[start..end)`, header included. The bytes stay valid, slices may be kept.
   * At ReadyForQuery the connection's `transactionStatus` is up to date already.
   */
  frame(type: number, buffer: Buffer, start: number, end: number): void;
  /** All messages of what was read have been given: the moment to write them on. */
  chunkEnd(): void;
  /** After `send` returned false: more may be sent. */
  drained(): void;
  /** The connection is gone; nothing follows. */
  closed(error: SluiceError): void;
}

/** What came of a statement of ours. */
export interface QueryOutcome {
  readonly rows: readonly (readonly (string | null)[])[];
  readonly tag: string;
  /** The server's refusal; later statements of the same string were skipped. */
  readonly error: ErrorResponseFields | null;
}

export interface ConnectOptions {
  readonly connectTimeoutMs: number;
  readonly applicationName?: string;
}

/**
 * One session of a PostgreSQL server, by its wire protocol. Used by one owner at a time: `use` hands it
 * on. Beside the protocol it remembers what that session holds (statements, settings), so that an owner
 * knows what is there already.
 */
export class ServerConnection {
  readonly address: ServerAddress;
  readonly processId: number;
  readonly connectedAtMs = Date.now();
  /** As the server reported them (ParameterStatus). */
  readonly parameters: Map<string, string>;
  transactionStatus: TransactionStatus = "I";
  lastUsedAtMs = Date.now();
  /** Names of prepared statements that exist in this session. */
  readonly preparedStatements = new Set<string>();
  /** What the unnamed statement is, compared by identity; null: none, or somebody else's. */
  unnamedStatement: object | null = null;
  /** Settings that differ from the session's defaults because we set them. */
  appliedSettings: ReadonlyMap<string, string> = new Map();
  /** Something besides settings may be left in the session (temporary table, advisory lock, ...). */
  isSoiled = false;
  /** The schema that `preparedStatements` were made under, as their owner counts. */
  schemaGeneration = 0;
  /** Who cancels what runs here may know better why than the server: the error that its 57014 becomes. */
  cancelReason: Buffer | null = null;
  bytesSent = 0;
  bytesReceived = 0;
  readonly #socket: Socket;
  readonly #framer: Framer;
  readonly #secret: Buffer;
  #receiver: ServerReceiver | null = null;
  #lostBecause: SluiceError | null = null;

  private constructor(address: ServerAddress, socket: Socket, framer: Framer, login: ServerLogin) {
    this.address = address;
    this.#socket = socket;
    this.#framer = framer;
    this.processId = login.greeting.processId;
    this.#secret = login.greeting.secret;
    this.parameters = login.greeting.parameters;
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
    socket.resume();
    socket.on("drain", () => this.#receiver?.drained());
    socket.on("error", (cause) => this.#lose(cause));
    socket.on("close", () => this.#lose(null));
  }

  /**
   * @throws ServerUnreachable when no connection comes about in time
   * @throws ServerRefused with the server's own SQLSTATE
   */
  static async connect(address: ServerAddress, options: ConnectOptions): Promise<ServerConnection> {
    const socket = connect({ host: address.host, port: address.port, noDelay: true });
    socket.setKeepAlive(true, 60_000);
    const framer = new Framer();
    const login = new ServerLogin(address, (bytes) => socket.write(bytes));
    const timer = setTimeout(
      () => socket.destroy(new Error(`not ready after ${options.connectTimeoutMs} ms`)),
      options.connectTimeoutMs,
    );
    try {
      await greet(socket, framer, login, startupParameters(address, options));
      return new ServerConnection(address, socket, framer, login);
    } catch (cause) {
      socket.destroy();
      if (cause instanceof SluiceError) throw cause;
      const detail = cause instanceof Error ? cause.message : String(cause);
      throw new ServerUnreachable(describeAddress(address), { cause, detail });
    } finally {
      clearTimeout(timer);
    }
  }

  /** Lent to a client that is in a transaction (as of the last ReadyForQuery). */
  get isIdleInTransaction(): boolean {
    return this.transactionStatus !== "I";
  }

  get isLost(): boolean {
    return this.#lostBecause !== null;
  }

  /** Hands the messages to a new owner; null: they are dropped. */
  use(receiver: ServerReceiver | null): void {
    this.#receiver = receiver;
    if (receiver && this.#lostBecause) receiver.closed(this.#lostBecause);
  }

  /** @returns false when the owner should wait for `drained` before it sends more */
  send(bytes: Buffer): boolean {
    this.bytesSent += bytes.length;
    return this.#lostBecause !== null || this.#socket.write(bytes);
  }

  /** Back-pressure: stops reading until `resume`. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /**
   * Runs statements of ours by the simple protocol and takes their rows as text. The receiver in place is
   * put aside meanwhile. Only while nothing else is in flight.
   * @throws ServerConnectionLost
   */
  async query(sql: string): Promise<QueryOutcome> {
    const before = this.#receiver;
    this.unnamedStatement = null;
    try {
      return await new Promise<QueryOutcome>((resolve, reject) => {
        this.use(new Collector(resolve, reject));
        this.send(encodeQuery(sql));
      });
    } finally {
      this.#receiver = before;
    }
  }

  /** Asks the server, over a connection of its own, to cancel what runs here. Never throws. */
  async cancel(): Promise<void> {
    await cancelStatement(this.address, encodeCancel(this.processId, this.#secret));
  }

  /** Says good-bye and closes. */
  close(): void {
    if (this.#lostBecause) return;
    this.#socket.end(TERMINATE);
    this.#lose(null);
    // A peer that does not close its end would keep the socket for ever.
    setTimeout(() => this.#socket.destroy(), 1_000).unref();
  }

  /** Closes at once; the server ends the session and rolls back when it notices. */
  destroy(): void {
    this.#socket.destroy();
    this.#lose(null);
  }

  #read(chunk: Buffer): void {
    this.bytesReceived += chunk.length;
    try {
      this.#framer.push(chunk);
      this.#deliver();
    } catch (cause) {
      this.#socket.destroy();
      this.#lose(cause instanceof Error ? cause : null);
    }
  }

  #deliver(): void {
    const framer = this.#framer;
    while (framer.next()) {
      const { type, buffer, start, end } = framer;
      if (type === BACKEND.readyForQuery)
        this.transactionStatus = decodeTransactionStatus(buffer[start + 5]);
      else if (type === BACKEND.parameterStatus) {
        const [name, value] = decodeParameterStatus(buffer.subarray(start, end));
        this.parameters.set(name, value);
      }
      const reason = type === BACKEND.error ? this.#reasonOf(buffer.subarray(start, end)) : null;
      if (reason) this.#receiver?.frame(type, reason, 0, reason.length);
      else this.#receiver?.frame(type, buffer, start, end);
    }
    this.#receiver?.chunkEnd();
  }

  #reasonOf(error: Buffer): Buffer | null {
    const reason = this.cancelReason;
    if (reason === null || decodeErrorFields(error).get("C") !== SQLSTATE.queryCanceled)
      return null;
    this.cancelReason = null;
    return reason;
  }

  #lose(cause: Error | null): void {
    if (this.#lostBecause) return;
    const error =
      cause instanceof SluiceError
        ? cause
        : new ServerConnectionLost(describeAddress(this.address), cause ? { cause } : {});
    this.#lostBecause = error;
    this.#receiver?.closed(error);
  }
}

/** Sends a CancelRequest and waits until the server has taken it (it closes). Never throws. */
async function cancelStatement(address: ServerAddress, request: Buffer): Promise<void> {
  await new Promise<void>((resolve) => {
    const socket = connect({ host: address.host, port: address.port });
    socket.setTimeout(5_000, () => socket.destroy());
    socket.once("connect", () => socket.end(request));
    socket.on("error", () => {});
    socket.resume();
    socket.once("close", () => resolve());
  });
}

function startupParameters(
  address: ServerAddress,
  options: ConnectOptions,
): ReadonlyMap<string, string> {
  return new Map([
    ["user", address.user],
    ["database", address.database],
    ["application_name", options.applicationName ?? "sluice"],
    ["client_encoding", "UTF8"],
  ]);
}

async function greet(
  socket: Socket,
  framer: Framer,
  login: ServerLogin,
  parameters: ReadonlyMap<string, string>,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("closed")));
  });
  // "error" has a listener from here on: for await hears it.
  socket.write(encodeStartup(parameters));
  const chunks = socket.iterator({ destroyOnReturn: false });
  for await (const chunk of chunks) {
    framer.push(chunk as Buffer);
    while (framer.next())
      if (await login.take(framer.type, framer.buffer.subarray(framer.start, framer.end))) return;
  }
  throw new Error("the server closed the connection at login");
}

class Collector implements ServerReceiver {
  readonly #resolve: (outcome: QueryOutcome) => void;
  readonly #reject: (error: SluiceError) => void;
  readonly #rows: (string | null)[][] = [];
  #tag = "";
  #error: ErrorResponseFields | null = null;

  constructor(resolve: (outcome: QueryOutcome) => void, reject: (error: SluiceError) => void) {
    this.#resolve = resolve;
    this.#reject = reject;
  }

  frame(type: number, buffer: Buffer, start: number, end: number): void {
    const frame = buffer.subarray(start, end);
    if (type === BACKEND.dataRow)
      this.#rows.push(decodeDataRow(frame).map((value) => value?.toString("utf8") ?? null));
    else if (type === BACKEND.commandComplete) this.#tag = decodeCommandTag(frame);
    else if (type === BACKEND.error) this.#error = decodeErrorFields(frame);
    else if (type === BACKEND.readyForQuery)
      this.#resolve({ rows: this.#rows, tag: this.#tag, error: this.#error });
  }

  chunkEnd(): void {}
  drained(): void {}
  closed(error: SluiceError): void {
    this.#reject(error);
  }
}
