import { connect, type Socket } from "node:net";
import { BACKEND, decodeBackendKeyData, decodeRowDescription } from "../../../src/wire/backend.js";
import { decodeErrorFields } from "../../../src/wire/error-fields.js";
import { Framer } from "../../../src/wire/framer.js";
import { encodeCancel, encodeStartup } from "../../../src/wire/frontend.js";

/** A message of the server as a test compares it. */
export interface RawMessage {
  /** PostgreSQL's letter. */
  readonly type: string;
  /** SQLSTATE of an ErrorResponse. */
  readonly code?: string;
  /** What it holds; numbers of tables, which differ from database to database, left out. */
  readonly body: unknown;
}

/** The protocol's own messages, one by one, as no driver sends them. */
export class RawClient implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #port: number;
  readonly #framer = new Framer();
  #messages: RawMessage[] = [];
  #wake: () => void = () => {};
  #key: { readonly processId: number; readonly secret: Buffer } | null = null;

  private constructor(socket: Socket, port: number) {
    this.#socket = socket;
    this.#port = port;
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      this.#framer.push(chunk);
      while (this.#framer.next()) this.#take(this.#framer);
      this.#wake();
    });
  }

  static async connect(port: number, database: string): Promise<RawClient> {
    const client = new RawClient(connect({ host: "127.0.0.1", port }), port);
    const parameters = new Map([
      ["user", "postgres"],
      ["database", database],
    ]);
    await client.exchange([encodeStartup(parameters)]);
    return client;
  }

  /** Sends, and waits for a message of the type that ends the answer. */
  async exchange(
    messages: readonly Buffer[],
    last: "Z" | "G" = "Z",
  ): Promise<readonly RawMessage[]> {
    this.#messages = [];
    this.#socket.write(Buffer.concat(messages));
    const isLast = ({ type }: RawMessage) => type === last || type === "Z";
    while (!this.#messages.some(isLast))
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    return this.#messages;
  }

  async cancel(): Promise<void> {
    const key = this.#key;
    if (key === null) throw new Error("no key");
    await new Promise<void>((resolve) => {
      const socket = connect({ host: "127.0.0.1", port: this.#port });
      socket.end(encodeCancel(key.processId, key.secret));
      socket.once("close", () => resolve());
      socket.resume();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
  }

  #take({ type, buffer, start, end }: Framer): void {
    const frame = buffer.subarray(start, end);
    if (type === BACKEND.backendKeyData) this.#key = decodeBackendKeyData(Buffer.from(frame));
    this.#messages.push(messageOf(String.fromCharCode(type), frame));
  }
}

function messageOf(type: string, frame: Buffer): RawMessage {
  if (type === "E") {
    const code = decodeErrorFields(frame).get("C") ?? "";
    return { type, code, body: code };
  }
  if (type !== "T") return { type, body: frame.toString("hex", 5) };
  const body = decodeRowDescription(frame).map(({ name, typeId, format }) => [
    name,
    typeId,
    format,
  ]);
  return { type, body };
}
