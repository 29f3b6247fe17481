import type { Duplex } from "node:stream";
import type pg from "pg";
import { asSqlError, type SqlClient } from "../backend/sql-client.js";

/** Takes the bytes of a COPY stream. */
export interface CopySink {
  /** The bytes belong to the reader: valid during the call only. Throwing ends the copy. */
  push(bytes: Buffer, start: number, end: number): void;
  /** A promise to wait for before more is read from the server, or null. Rejecting ends the copy. */
  pressure(): Promise<void> | null;
}

/**
 * Runs `COPY ... TO STDOUT` and hands its payload to the sink, straight out of the socket's buffers: pg's own
 * parser would make an object and a slice per row. The server is paused while the sink is under pressure.
 * @returns rows that the server sent
 * @throws the server's error, the sink's, or the connection's; after the latter two the connection is destroyed
 */
export async function copyOut(client: SqlClient, sql: string, sink: CopySink): Promise<number> {
  return await new Promise((resolve, reject) => {
    client.query(new CopyOutQuery(sql, sink, { resolve, reject }));
  });
}

const MESSAGE = { copyData: 0x64, copyDone: 0x63, errorResponse: 0x45 } as const;
const HEADER_BYTES = 5;

interface Outcome {
  resolve(rowCount: number): void;
  reject(error: unknown): void;
}

type DataHandler = (chunk: Buffer) => void;

/**
 * While the copy runs, the connection's `data` events are ours; pg's parser gets them back, with what is
 * left of the chunk, at CopyDone or ErrorResponse, and sees an ordinary end of statement.
 */
class CopyOutQuery {
  readonly #sql: string;
  readonly #sink: CopySink;
  readonly #outcome: Outcome;
  readonly #header = Buffer.alloc(HEADER_BYTES);
  readonly #onData: DataHandler = (chunk) => this.#consume(chunk);
  #headerLength = 0;
  #kind = 0;
  #remaining = 0;
  #stream: Duplex | null = null;
  #parserHandler: DataHandler | null = null;
  #rowCount = 0;
  #failure: unknown = null;

  constructor(sql: string, sink: CopySink, outcome: Outcome) {
    this.#sql = sql;
    this.#sink = sink;
    this.#outcome = outcome;
  }

  submit(connection: pg.Connection): void {
    const { stream } = connection;
    const [handler, ...others] = stream.listeners("data") as DataHandler[];
    if (handler === undefined || others.length > 0)
      throw new Error("expected the connection's socket to have one reader");
    this.#stream = stream;
    this.#parserHandler = handler;
    stream.removeListener("data", handler);
    stream.on("data", this.#onData);
    connection.query(this.#sql);
  }

  #consume(chunk: Buffer): void {
    try {
      const rest = this.#readFrames(chunk);
      if (rest) this.#handBack(rest);
      else this.#obeyPressure();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** @returns what is not ours any more, beginning at a message, or null */
  #readFrames(chunk: Buffer): Buffer | null {
    let at = 0;
    while (at < chunk.length) {
      if (this.#remaining === 0) {
        const taken = Math.min(HEADER_BYTES - this.#headerLength, chunk.length - at);
        chunk.copy(this.#header, this.#headerLength, at, at + taken);
        at += taken;
        this.#headerLength += taken;
        if (this.#headerLength < HEADER_BYTES) return null;
        this.#headerLength = 0;
        this.#kind = this.#header[0] ?? 0;
        this.#remaining = this.#header.readUInt32BE(1) - 4;
        if (this.#kind === MESSAGE.copyDone) return chunk.subarray(at);
        // Its header may have come with an earlier chunk.
        if (this.#kind === MESSAGE.errorResponse)
          return Buffer.concat([this.#header, chunk.subarray(at)]);
        continue;
      }
      const taken = Math.min(this.#remaining, chunk.length - at);
      // Anything else here (CopyOutResponse, notices, changed parameters) says nothing about rows.
      if (this.#kind === MESSAGE.copyData) this.#sink.push(chunk, at, at + taken);
      at += taken;
      this.#remaining -= taken;
    }
    return null;
  }

  #obeyPressure(): void {
    const pressure = this.#sink.pressure();
    if (pressure === null) return;
    this.#stream?.pause();
    pressure.then(
      () => this.#stream?.resume(),
      (error: unknown) => this.#fail(error),
    );
  }

  #handBack(rest: Buffer): void {
    const { stream, handler } = this.#release();
    if (!stream || !handler) return;
    stream.on("data", handler);
    if (rest.length > 0) handler(rest);
  }

  #release(): { stream: Duplex | null; handler: DataHandler | null } {
    const stream = this.#stream;
    const handler = this.#parserHandler;
    stream?.removeListener("data", this.#onData);
    this.#stream = null;
    this.#parserHandler = null;
    return { stream, handler };
  }

  /** The server is in the middle of its rows and there is no polite way to stop it. */
  #fail(error: unknown): void {
    if (this.#failure === null) this.#failure = error;
    this.#release().stream?.destroy();
    this.#outcome.reject(error);
  }

  // What follows is called by pg.

  handleCommandComplete(message: { readonly text: string }): void {
    this.#rowCount = Number(/^COPY (\d+)$/.exec(message.text)?.[1] ?? 0);
  }

  handleReadyForQuery(): void {
    this.#outcome.resolve(this.#rowCount);
  }

  handleError(error: Error): void {
    this.#release();
    this.#outcome.reject(this.#failure ?? asSqlError(error));
  }
}
