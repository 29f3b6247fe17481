import { connect, type Socket } from "node:net";
import { BACKEND, decodeRowDescription } from "../../../src/wire/backend.js";
import { decodeErrorFields } from "../../../src/wire/error-fields.js";
import { Framer } from "../../../src/wire/framer.js";
import { encodeStartup } from "../../../src/wire/frontend.js";

/** Where a server has been told something and owes no answer, a script waits for the letter that it expects. */
const ANSWER_MS = 10_000;

/**
 * A client that sends what it is told, whenever it is told, and shows each message of the server as one line of text:
 * two servers that answer alike give the same lines.
 */
export class ProtocolClient implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #framer = new Framer();
  readonly #lines: string[] = [];
  #read = 0;
  #isClosed = false;
  #wake: () => void = () => {};

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      this.#framer.push(chunk);
      while (this.#framer.next()) {
        const { type, buffer, start, end } = this.#framer;
        // What a server reports of its settings and of itself is another test's.
        if (type === BACKEND.parameterStatus || type === BACKEND.backendKeyData) continue;
        this.#lines.push(shown(String.fromCharCode(type), buffer.subarray(start, end)));
      }
      this.#wake();
    });
    socket.on("close", () => {
      this.#isClosed = true;
      this.#lines.push("closed");
      this.#wake();
    });
  }

  static async connect(
    port: number,
    database: string,
    more: Readonly<Record<string, string>> = {},
  ): Promise<ProtocolClient> {
    const client = new ProtocolClient(connect({ host: "127.0.0.1", port }));
    const parameters = new Map(Object.entries({ user: "postgres", database, ...more }));
    await client.exchange([encodeStartup(parameters)], "Z");
    return client;
  }

  /**
   * Sends, and waits for a message of that letter ("ZZ": for two; "closed": until the server hangs up).
   * @returns all messages since the last exchange
   */
  async exchange(messages: readonly Buffer[], until: string): Promise<readonly string[]> {
    if (messages.length > 0) this.#socket.write(Buffer.concat(messages));
    const from = this.#read;
    const [letter, count] = until === "closed" ? [until, 1] : [until.slice(0, 1), until.length];
    const isThere = () =>
      this.#lines.slice(from).filter((line) => line.split(" ")[0] === letter).length >= count;
    const timer = setTimeout(() => {
      this.#lines.push(`nothing more came, ${until} was waited for`);
      this.#isClosed = true;
      this.#wake();
    }, ANSWER_MS);
    while (!isThere() && !this.#isClosed)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    clearTimeout(timer);
    const seen = this.#lines.slice(from);
    this.#read = this.#lines.length;
    return seen;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
  }
}

function shown(letter: string, frame: Buffer): string {
  switch (letter) {
    case "E":
    case "N": {
      const fields = decodeErrorFields(frame);
      return `${letter} ${["S", "C", "M"].map((field) => fields.get(field) ?? "").join(" ")}`;
    }
    case "T":
      return `T ${decodeRowDescription(frame)
        .map(({ name, typeId, format }) => `${name}:${typeId}:${format}`)
        .join(" ")}`;
    case "C":
      return `C ${frame.toString("latin1", 5, frame.length - 1)}`;
    case "Z":
      return `Z ${frame.toString("latin1", 5)}`;
    default:
      return frame.length > 5 ? `${letter} ${frame.toString("hex", 5)}` : letter;
  }
}
