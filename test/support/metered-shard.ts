import { connect, createServer, type Server, type Socket } from "node:net";
import type { ServerAddress } from "../../src/backend/address.js";

/** One connection that was tried, by what its startup message says. */
export interface Opened {
  readonly applicationName: string;
}

/**
 * A way to one database of a server that counts who comes: as exact as the connections themselves, whatever
 * opened them and however short they were. `cut` is the server's death, as its clients see it.
 */
export class MeteredShard implements AsyncDisposable {
  readonly #to: ServerAddress;
  readonly #sockets = new Set<Socket>();
  readonly #onOpened: (opened: Opened) => void;
  #server: Server | null = null;
  #port = 0;

  private constructor(to: ServerAddress, onOpened: (opened: Opened) => void) {
    this.#to = to;
    this.#onOpened = onOpened;
  }

  /** @param onOpened told of each connection that comes, in order */
  static async to(
    address: ServerAddress,
    onOpened: (opened: Opened) => void,
  ): Promise<MeteredShard> {
    const shard = new MeteredShard(address, onOpened);
    await shard.mend();
    return shard;
  }

  get address(): ServerAddress {
    return { ...this.#to, port: this.#port };
  }

  /** Connections that are there now. */
  get openCount(): number {
    return this.#sockets.size;
  }

  /** Nobody listens any more, and what was open breaks. */
  async cut(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    if (!server) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async mend(): Promise<void> {
    if (this.#server) return;
    const server = createServer((socket) => this.#accept(socket));
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(this.#port, "127.0.0.1", resolve);
    });
    const bound = server.address();
    if (bound === null || typeof bound === "string") throw new Error("no port");
    this.#port = bound.port;
    this.#server = server;
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    const upstream = connect(this.#to.port, this.#to.host);
    socket.once("data", (startup: Buffer) => {
      this.#onOpened(describe(startup));
      upstream.write(startup);
      socket.pipe(upstream);
    });
    upstream.pipe(socket);
    const end = () => {
      this.#sockets.delete(socket);
      socket.destroy();
      upstream.destroy();
    };
    for (const one of [socket, upstream]) {
      one.on("error", end);
      one.once("close", end);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cut();
  }
}

/** StartupMessage: length, version, then pairs of zero-terminated strings. */
function describe(startup: Buffer): Opened {
  const words = startup.subarray(8).toString("utf8").split("\0");
  const value = (name: string) => words[words.indexOf(name) + 1] ?? "";
  return {
    applicationName: words.includes("application_name") ? value("application_name") : "",
  };
}
