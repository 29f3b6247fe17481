import type { Duplex } from "node:stream";
import type pg from "pg";
import { asSqlError, type SqlClient } from "../backend/sql-client.js";

const FRAME_BYTES = 128 * 1024;
const HEADER_BYTES = 5;
/** Buffers kept for the next frame; more only wait in the socket under pressure, and are dropped. */
const FREE_BUFFERS = 4;
const COPY_DATA = 0x64;

/**
 * Starts `COPY ... FROM STDIN`.
 * @returns when the server is ready for rows
 * @throws the server's or the connection's error
 */
export async function openCopyIn(client: SqlClient, sql: string): Promise<CopyIn> {
  return await new Promise((resolve, reject) => {
    const query = new CopyInQuery(sql, (error) => {
      if (error === null) resolve(new CopyIn(query));
      else reject(error);
    });
    client.query(query);
  });
}

/** Rows on their way into one server: appended bytes become CopyData messages of 128 kB. */
export class CopyIn {
  readonly #query: CopyInQuery;
  readonly #free: Buffer<ArrayBuffer>[] = [];
  #frame = Buffer.allocUnsafe(FRAME_BYTES);
  #length = HEADER_BYTES;
  byteCount = 0;

  constructor(query: CopyInQuery) {
    this.#query = query;
  }

  /** Copies the bytes; rows need not be whole. @throws the error that ended the copy */
  append(bytes: Buffer, start: number, end: number): void {
    this.byteCount += end - start;
    let at = start;
    while (at < end) {
      const taken = Math.min(FRAME_BYTES - this.#length, end - at);
      bytes.copy(this.#frame, this.#length, at, at + taken);
      this.#length += taken;
      at += taken;
      if (this.#length === FRAME_BYTES) this.#flush();
    }
  }

  /** A promise when the server is slower than we are, else null. @throws the error that ended the copy */
  pressure(): Promise<void> | null {
    return this.#query.pressure();
  }

  /**
   * Says that all rows were sent.
   * @returns the number of rows that the server has taken
   * @throws the server's or the connection's error
   */
  async finish(): Promise<number> {
    if (this.#length > HEADER_BYTES) this.#flush();
    return await this.#query.finish();
  }

  #flush(): void {
    const frame = this.#frame;
    frame[0] = COPY_DATA;
    frame.writeUInt32BE(this.#length - 1, 1);
    this.#query.write(frame.subarray(0, this.#length), () => {
      if (this.#free.length < FREE_BUFFERS) this.#free.push(frame);
    });
    this.#frame = this.#free.pop() ?? Buffer.allocUnsafe(FRAME_BYTES);
    this.#length = HEADER_BYTES;
  }
}

/** pg's side of the statement. */
class CopyInQuery {
  readonly #sql: string;
  readonly #onReady: (error: Error | null) => void;
  readonly #ended: Promise<number>;
  #resolveEnded: (rowCount: number) => void = () => {};
  #rejectEnded: (error: Error) => void = () => {};
  #stream: Duplex | null = null;
  #failure: Error | null = null;
  #drained: Promise<void> | null = null;
  #releaseDrained: () => void = () => {};
  #rowCount = 0;

  constructor(sql: string, onReady: (error: Error | null) => void) {
    this.#sql = sql;
    this.#onReady = onReady;
    this.#ended = new Promise((resolve, reject) => {
      this.#resolveEnded = resolve;
      this.#rejectEnded = reject;
    });
    // Whoever is in append() or waits for pressure learns of a failure there; nobody may be in finish() yet.
    this.#ended.catch(() => {});
  }

  submit(connection: pg.Connection): void {
    this.#stream = connection.stream;
    connection.query(this.#sql);
  }

  write(frame: Buffer, onWritten: () => void): void {
    if (this.#failure) throw this.#failure;
    const stream = this.#stream;
    if (stream === null) throw new Error("the copy has ended");
    if (stream.write(frame, onWritten) || this.#drained) return;
    this.#drained = new Promise((resolve) => {
      this.#releaseDrained = resolve;
    });
    stream.once("drain", this.#onDrain);
  }

  pressure(): Promise<void> | null {
    if (this.#failure) throw this.#failure;
    if (!this.#drained) return null;
    return this.#drained.then(() => {
      if (this.#failure) throw this.#failure;
    });
  }

  async finish(): Promise<number> {
    if (this.#failure) throw this.#failure;
    this.#stream?.write(COPY_DONE);
    return await this.#ended;
  }

  readonly #onDrain = (): void => {
    this.#drained = null;
    this.#releaseDrained();
  };

  // What follows is called by pg.

  handleCopyInResponse(): void {
    this.#onReady(null);
  }

  handleCommandComplete(message: { readonly text: string }): void {
    this.#rowCount = Number(/^COPY (\d+)$/.exec(message.text)?.[1] ?? 0);
  }

  handleReadyForQuery(): void {
    this.#stream = null;
    this.#resolveEnded(this.#rowCount);
  }

  /** The server throws away what we may still send, and waits for the next statement. */
  handleError(sent: Error): void {
    const error = asSqlError(sent);
    this.#failure = error;
    this.#stream?.removeListener("drain", this.#onDrain);
    this.#stream = null;
    this.#onReady(error);
    this.#rejectEnded(error);
    this.#releaseDrained();
  }
}

const COPY_DONE = Buffer.from([0x63, 0, 0, 0, 4]);
