import pg from "pg";
import { describeAddress, type ServerAddress } from "../backend/address.js";
import { asSqlError } from "../backend/sql-client.js";
import { ServerUnreachable } from "../core/errors.js";
import { quoteIdentifier, quoteLiteral } from "../core/identifier.js";
import { formatLsn, LSN_ZERO, type Lsn, toLsn } from "../core/lsn.js";
import { SqlError } from "../core/sql-error.js";
import { StreamMalformed } from "./stream-errors.js";

/** Who answers at the other end (R18). */
export interface ServerIdentity {
  readonly systemIdentifier: string;
  readonly timeline: number;
}

export interface StreamOptions {
  readonly slot: string;
  readonly publication: string;
  /** The server starts at the later of this and what the slot has confirmed. */
  readonly startLsn: Lsn;
}

/** Called from the socket's read; `bytes` are valid during the call only. */
export interface WalReceiver {
  /** One pgoutput message in `bytes[start, end)`. Throwing ends the stream with that error. */
  data(bytes: Buffer, start: number, end: number): void;
  /** The server has sent everything before `walEnd`. */
  keepalive(walEnd: Lsn): void;
}

const CONNECT_TIMEOUT_MS = 5_000;
/** Far below wal_sender_timeout (60 s by default, seldom under 10 s), whatever the lanes are doing. */
const FEEDBACK_MS = 1_000;
/** Microseconds from 1970 to 2000, where PostgreSQL's clock begins. */
const EPOCH_2000_US = 946_684_800_000_000n;
const WAL_DATA = 0x77;
const KEEPALIVE = 0x6b;
const WAL_DATA_HEADER = 25;
const KEEPALIVE_BYTES = 18;

/** What we use of pg's connection: public in its JavaScript, absent from its typings. */
interface RawConnection {
  readonly stream: { pause(): void; resume(): void; destroy(): void };
  on(event: "copyData", listener: (message: { readonly chunk: Buffer }) => void): void;
  once(event: "replicationStart", listener: () => void): void;
  sendCopyFromChunk(chunk: Buffer): void;
}

/**
 * A logical replication connection. One consumer per slot is PostgreSQL's rule; what is confirmed, and only
 * that, may be forgotten by the source, so the caller confirms what is durable on *all* lanes.
 */
export class Walsender implements AsyncDisposable {
  readonly #client: pg.Client;
  readonly #connection: RawConnection;
  readonly #address: ServerAddress;
  #receivedLsn: Lsn = LSN_ZERO;
  #flushedLsn: Lsn = LSN_ZERO;
  #feedbackTimer: NodeJS.Timeout | null = null;
  #failure: Error | null = null;

  private constructor(client: pg.Client, address: ServerAddress) {
    this.#client = client;
    this.#connection = (client as unknown as { connection: RawConnection }).connection;
    this.#address = address;
  }

  /** @throws ServerUnreachable */
  static async connect(address: ServerAddress, applicationName: string): Promise<Walsender> {
    const client = new pg.Client({
      host: address.host,
      port: address.port,
      database: address.database,
      user: address.user,
      ...(address.password === null ? {} : { password: address.password }),
      application_name: applicationName,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      keepAlive: true,
      options: STREAM_SETTINGS,
      ...({ replication: "database" } as object),
    });
    client.on("error", () => {});
    try {
      await client.connect();
    } catch (error) {
      throw new ServerUnreachable(describeAddress(address), { cause: asSqlError(error) });
    }
    return new Walsender(client, address);
  }

  async identify(): Promise<ServerIdentity> {
    const { rows } = await this.#query<{ systemid: string; timeline: number }>("IDENTIFY_SYSTEM");
    const row = rows[0];
    if (!row) throw new StreamMalformed("IDENTIFY_SYSTEM returned nothing");
    return { systemIdentifier: row.systemid, timeline: Number(row.timeline) };
  }

  async serverVersion(): Promise<number> {
    const { rows } = await this.#query<{ server_version_num: string }>("SHOW server_version_num");
    return Number(rows[0]?.server_version_num ?? 0);
  }

  /**
   * Streams until the signal aborts, the server ends it, or the receiver throws.
   * @throws what ended it; on abort, the signal's reason
   */
  async stream(options: StreamOptions, receiver: WalReceiver, signal: AbortSignal): Promise<never> {
    const version = await this.serverVersion();
    // Nothing awaits between this and the listener: a signal that was aborted before never calls it.
    signal.throwIfAborted();
    const stop = () => this.#connection.stream.destroy();
    signal.addEventListener("abort", stop, { once: true });
    this.#connection.on("copyData", ({ chunk }) => this.#receive(chunk, receiver));
    this.#connection.once("replicationStart", () => {
      this.#feedbackTimer = setInterval(() => this.#sendFeedback(), FEEDBACK_MS);
    });
    try {
      await this.#query(startCommand(options, version));
    } catch (error) {
      signal.throwIfAborted();
      if (this.#failure !== null) throw this.#failure;
      if (error instanceof SqlError) throw error;
      throw new ServerUnreachable(describeAddress(this.#address), { cause: error });
    } finally {
      if (this.#feedbackTimer !== null) clearInterval(this.#feedbackTimer);
      this.#feedbackTimer = null;
      signal.removeEventListener("abort", stop);
    }
    if (this.#failure !== null) throw this.#failure;
    throw new ServerUnreachable(describeAddress(this.#address), {
      detail: "the server ended the stream",
    });
  }

  /** Everything before `lsn` is durable in every lane. Told to the server within a second. */
  confirm(lsn: Lsn): void {
    if (lsn > this.#flushedLsn) this.#flushedLsn = lsn;
    if (lsn > this.#receivedLsn) this.#receivedLsn = lsn;
  }

  get confirmedLsn(): Lsn {
    return this.#flushedLsn;
  }

  /** Stops reading the socket: the server blocks when its buffers are full. Feedback goes on. */
  pause(): void {
    this.#connection.stream.pause();
  }

  resume(): void {
    this.#connection.stream.resume();
  }

  async #query<Row extends object>(text: string): Promise<{ readonly rows: readonly Row[] }> {
    try {
      return await this.#client.query<Row>(text);
    } catch (error) {
      throw asSqlError(error);
    }
  }

  #receive(chunk: Buffer, receiver: WalReceiver): void {
    if (this.#failure !== null) return;
    try {
      this.#dispatch(chunk, receiver);
    } catch (error) {
      // The socket's listener has no caller to throw to.
      this.#failure = error instanceof Error ? error : new Error(String(error));
      this.#connection.stream.destroy();
    }
  }

  #dispatch(chunk: Buffer, receiver: WalReceiver): void {
    if (chunk[0] === WAL_DATA && chunk.length > WAL_DATA_HEADER) {
      const position = toLsn(chunk.readBigUInt64BE(1));
      if (position > this.#receivedLsn) this.#receivedLsn = position;
      receiver.data(chunk, WAL_DATA_HEADER, chunk.length);
    } else if (chunk[0] === KEEPALIVE && chunk.length >= KEEPALIVE_BYTES) {
      const walEnd = toLsn(chunk.readBigUInt64BE(1));
      if (walEnd > this.#receivedLsn) this.#receivedLsn = walEnd;
      receiver.keepalive(walEnd);
      if (chunk[17] === 1) this.#sendFeedback();
    } else {
      throw new StreamMalformed(`replication message of type ${String(chunk[0])}`);
    }
  }

  /** Standby status update: written is what came in, flushed and applied what is durable in all lanes. */
  #sendFeedback(): void {
    const reply = Buffer.allocUnsafe(34);
    reply[0] = 0x72;
    reply.writeBigUInt64BE(this.#receivedLsn, 1);
    reply.writeBigUInt64BE(this.#flushedLsn, 9);
    reply.writeBigUInt64BE(this.#flushedLsn, 17);
    reply.writeBigInt64BE(BigInt(Date.now()) * 1000n - EPOCH_2000_US, 25);
    reply[33] = 0;
    this.#connection.sendCopyFromChunk(reply);
  }

  /**
   * Leaves without a word: the server keeps what was confirmed last, and sends again what came after it. The slot
   * is free when the server has noticed.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#connection.stream.destroy();
    await this.#client.end().catch(() => {});
  }
}

/**
 * pgoutput writes values with the walsender's own settings: these are what the lanes' sessions read with.
 * @see connectSql
 */
const STREAM_SETTINGS = [
  "datestyle=ISO",
  "intervalstyle=postgres",
  "timezone=UTC",
  "extra_float_digits=3",
  "bytea_output=hex",
  "search_path=pg_catalog",
]
  .map((setting) => `-c ${setting}`)
  .join(" ");

function startCommand(options: StreamOptions, version: number): string {
  const publication = quoteLiteral(quoteIdentifier(options.publication)).trim();
  const parameters = [
    // 1 knows whole transactions as text, which is all we ask for; later ones add options.
    "proto_version '1'",
    `publication_names ${publication}`,
    "messages 'true'",
    "binary 'false'",
    // R34: what our lanes applied must not come back. Before 16 the Origin message tells.
    ...(version >= 160_000 ? ["origin 'none'"] : []),
  ];
  return `START_REPLICATION SLOT ${quoteIdentifier(options.slot)} LOGICAL ${formatLsn(options.startLsn)} (${parameters.join(", ")})`;
}
