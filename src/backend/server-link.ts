import { connect, type Socket } from "node:net";
import { ServerUnreachable, SluiceError } from "../core/errors.js";
import { SQLSTATE } from "../core/sqlstate.js";
import {
  BACKEND,
  decodeParameterStatus,
  decodeTransactionStatus,
  type TransactionStatus,
} from "../wire/backend.js";
import { decodeErrorFields } from "../wire/error-fields.js";
import { Framer } from "../wire/framer.js";
import { encodeCancel, encodeStartup, TERMINATE } from "../wire/frontend.js";
import { describeAddress, type ServerAddress } from "./address.js";
import { ServerDebt } from "./server-debt.js";
import { ServerConnectionLost } from "./server-errors.js";
import { ServerLogin } from "./server-login.js";
import type { ServerOids } from "./server-oids.js";
import { ServerStatements } from "./server-statements.js";

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
  /** The connection is gone, or given back; nothing follows. */
  closed(error: SluiceError): void;
}

export interface ConnectOptions {
  readonly connectTimeoutMs: number;
  readonly applicationName?: string;
  /** Most prepared statements at once. */
  readonly statementsLimit?: number;
}

/** Where the configuration says nothing. */
const STATEMENTS_LIMIT = 1_000;

const CANCEL_TIMEOUT_MS = 5_000;

/**
 * One session of a PostgreSQL server, by its wire protocol: the socket, and all that outlives the one who uses it. It
 * counts what it owes, and so knows by itself when it is at rest (R52); it remembers what the session holds
 * (statements, settings). Only `ServerConnection` and the pool see it: everybody else holds a `ServerConnection`.
 */
export class ServerLink {
  readonly address: ServerAddress;
  readonly processId: number;
  readonly connectedAtMs = Date.now();
  /** As the server reported them (ParameterStatus). */
  readonly parameters: Map<string, string>;
  transactionStatus: TransactionStatus = "I";
  lastUsedAtMs = Date.now();
  /** It is closed when it rests then. */
  endsAtMs = Number.POSITIVE_INFINITY;
  readonly preparedStatements: ServerStatements;
  /** What the unnamed statement is, compared by identity; null: none, or somebody else's. */
  unnamedStatement: object | null = null;
  /** Settings that differ from the session's defaults because we set them. */
  appliedSettings: ReadonlyMap<string, string> = new Map();
  /** As the server reported them at login: what RESET goes back to. */
  readonly defaults: ReadonlyMap<string, string>;
  /** A statement may have changed settings, and nobody has asked which: not for another client. */
  areSettingsUnknown = false;
  /** Something besides settings may be left in the session (temporary table, advisory lock, ...). */
  isSoiled = false;
  /** The schema that `preparedStatements` were made under, as their owner counts. */
  schemaGeneration = 0;
  /** Null: its numbers of types and tables are those that clients know. */
  oids: ServerOids | null = null;
  /** Who cancels what runs here may know better why than the server: the error that its 57014 becomes. */
  cancelReason: Buffer | null = null;
  bytesSent = 0;
  bytesReceived = 0;
  receiver: ServerReceiver | null = null;
  readonly #socket: Socket;
  readonly #framer: Framer;
  readonly #secret: Buffer;
  readonly #debt = new ServerDebt();
  #cancelling: Promise<void> | null = null;
  /** A request to cancel was sent, and whether the server has it nobody knows: it may hit any later statement. */
  #isCancelLoose = false;
  #lostBecause: SluiceError | null = null;

  private constructor(
    address: ServerAddress,
    { statementsLimit }: ConnectOptions,
    ...[socket, framer, login]: [Socket, Framer, ServerLogin]
  ) {
    this.address = address;
    this.preparedStatements = new ServerStatements(statementsLimit ?? STATEMENTS_LIMIT);
    this.#socket = socket;
    this.#framer = framer;
    this.processId = login.greeting.processId;
    this.#secret = login.greeting.secret;
    this.parameters = login.greeting.parameters;
    this.defaults = new Map(this.parameters);
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
    socket.resume();
    socket.on("drain", () => this.receiver?.drained());
    socket.on("error", (cause) => this.#lose(cause));
    socket.on("close", () => this.#lose(null));
  }

  /**
   * @throws ServerUnreachable when no connection comes about in time
   * @throws ServerRefused with the server's own SQLSTATE
   */
  static async connect(address: ServerAddress, options: ConnectOptions): Promise<ServerLink> {
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
      return new ServerLink(address, options, socket, framer, login);
    } catch (cause) {
      socket.destroy();
      if (cause instanceof SluiceError) throw cause;
      const detail = cause instanceof Error ? cause.message : String(cause);
      throw new ServerUnreachable(describeAddress(address), { cause, detail });
    } finally {
      clearTimeout(timer);
    }
  }

  /** All that the session holds is accounted for. */
  get isKnown(): boolean {
    return !this.isSoiled && !this.areSettingsUnknown;
  }

  /** In a transaction, as of the last ReadyForQuery. */
  get isIdleInTransaction(): boolean {
    return this.transactionStatus !== "I";
  }

  /** Why it is gone; null: it is not. */
  get lostBecause(): SluiceError | null {
    return this.#lostBecause;
  }

  get isLost(): boolean {
    return this.#lostBecause !== null;
  }

  /** An answer is to come, or the rest of a message. */
  get isOwing(): boolean {
    return !this.#debt.isClear || this.#framer.unread > 0;
  }

  /** R52: nothing is owed, unread, open or under way, so it can be anybody's. */
  get isAtRest(): boolean {
    return (
      this.#lostBecause === null &&
      this.transactionStatus === "I" &&
      !this.isOwing &&
      !this.#debt.isUncertain &&
      this.#cancelling === null &&
      !this.#isCancelLoose
    );
  }

  /** A request to cancel is on its way, and could hit what is sent next; resolves when that cannot be any more. */
  get cancelling(): Promise<void> | null {
    return this.#cancelling;
  }

  /** @returns false when the sender should wait for `drained` before it sends more */
  send(messages: Buffer): boolean {
    if (this.#lostBecause !== null) return true;
    this.#debt.sent(messages);
    this.preparedStatements.sent(messages);
    this.bytesSent += messages.length;
    return this.#socket.write(this.oids?.sent(messages) ?? messages);
  }

  /** Sends what is missing so that all that is owed will come. Again after each CopyInResponse. */
  conclude(): void {
    const messages = this.#debt.conclusion();
    if (messages) this.send(messages);
  }

  /** Back-pressure: stops reading until `resume`. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Asks the server, over a connection of its own, to cancel what runs here. Never throws. */
  async cancel(): Promise<void> {
    const before = this.#cancelling ?? Promise.resolve();
    const request = encodeCancel(this.processId, this.#secret);
    const cancelling = Promise.all([before, cancelStatement(this.address, request)]).then(
      ([, isTaken]) => {
        if (!isTaken) this.#isCancelLoose = true;
        if (this.#cancelling === cancelling) this.#cancelling = null;
      },
    );
    this.#cancelling = cancelling;
    await cancelling;
  }

  /** After DISCARD ALL: the account of the session begins anew. Who still has the old one changes nothing. */
  forgetSession(): void {
    this.preparedStatements.forget();
    this.unnamedStatement = null;
    this.appliedSettings = new Map();
    this.isSoiled = false;
    this.areSettingsUnknown = false;
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
      // Rows are nobody's answer by themselves, and are most of what comes.
      if (type !== BACKEND.dataRow) this.#note(type, buffer, start, end);
      const reason = type === BACKEND.error ? this.#reasonOf(buffer.subarray(start, end)) : null;
      if (reason) this.receiver?.frame(type, reason, 0, reason.length);
      else this.receiver?.frame(type, buffer, start, end);
    }
    this.receiver?.chunkEnd();
  }

  #note(type: number, buffer: Buffer, start: number, end: number): void {
    if (type === BACKEND.readyForQuery)
      this.transactionStatus = decodeTransactionStatus(buffer[start + 5]);
    else if (type === BACKEND.parameterStatus) {
      const [name, value] = decodeParameterStatus(buffer.subarray(start, end));
      this.parameters.set(name, value);
    } else if (type === BACKEND.rowDescription || type === BACKEND.parameterDescription)
      this.oids?.received(type, buffer, start);
    this.#debt.received(type);
    this.preparedStatements.received(type, () => buffer.subarray(start, end), this.#debt.isClear);
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
    this.receiver?.closed(error);
  }
}

/**
 * Sends a CancelRequest and waits until the server has taken it: it closes, and the signal is out. Never throws.
 * @returns false when it may still be under way
 */
async function cancelStatement(address: ServerAddress, request: Buffer): Promise<boolean> {
  return await new Promise<boolean>((resolve) => {
    const socket = connect({ host: address.host, port: address.port });
    let isSent = false;
    let isTaken = false;
    socket.setTimeout(CANCEL_TIMEOUT_MS, () => socket.destroy());
    socket.once("connect", () => {
      isSent = true;
      socket.write(request);
    });
    socket.once("end", () => {
      isTaken = true;
    });
    socket.on("error", () => {});
    socket.resume();
    socket.once("close", () => resolve(isTaken || !isSent));
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
