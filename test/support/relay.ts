import { connect, createServer, type Socket } from "node:net";

export interface RelayOptions {
  /** Where it relays to, on this machine. */
  readonly port: number;
  /** What a server says arrives so many ms later, in order. */
  readonly answerDelayMs: number;
  /** ... and in pieces of so many bytes, so that messages are cut wherever that falls. */
  readonly pieceBytes: number;
}

/** A TCP relay that is slow in one direction: what comes back from the port. */
export interface Relay extends AsyncDisposable {
  readonly port: number;
  /** From now on nothing comes back on connections that are made from now on, until `release`. */
  holdNew(): void;
  release(): void;
}

export async function startRelay(options: RelayOptions): Promise<Relay> {
  const answers = new Set<SlowAnswer>();
  const sockets = new Set<Socket>();
  let isHeld = false;
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ host: "127.0.0.1", port: options.port, allowHalfOpen: true });
    for (const socket of [near, far]) {
      socket.setNoDelay(true);
      sockets.add(socket);
    }
    const answer = new SlowAnswer(near, options, isHeld);
    answers.add(answer);
    near.on("data", (chunk) => far.write(chunk));
    near.on("end", () => far.end());
    far.on("data", (chunk) => answer.add(chunk));
    far.on("end", () => answer.add(null));
    const close = () => {
      near.destroy();
      far.destroy();
      answers.delete(answer);
      sockets.delete(near);
      sockets.delete(far);
    };
    for (const socket of [near, far]) socket.on("error", close);
    near.on("close", close);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return {
    port: address.port,
    holdNew: () => {
      isHeld = true;
    },
    release: () => {
      isHeld = false;
      for (const answer of answers) answer.release();
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
    },
  };
}

/** One connection's way back. */
class SlowAnswer {
  readonly #to: Socket;
  readonly #options: RelayOptions;
  /** null: the end. */
  readonly #pieces: (Buffer | null)[] = [];
  #isHeld: boolean;
  #timer: NodeJS.Timeout | null = null;

  constructor(to: Socket, options: RelayOptions, isHeld: boolean) {
    this.#to = to;
    this.#options = options;
    this.#isHeld = isHeld;
  }

  add(chunk: Buffer | null): void {
    const { pieceBytes } = this.#options;
    if (chunk === null) this.#pieces.push(null);
    else
      for (let at = 0; at < chunk.length; at += pieceBytes)
        this.#pieces.push(chunk.subarray(at, at + pieceBytes));
    this.#arm();
  }

  release(): void {
    this.#isHeld = false;
    this.#arm();
  }

  #arm(): void {
    if (this.#isHeld || this.#timer || this.#pieces.length === 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#say();
    }, this.#options.answerDelayMs);
  }

  /** A piece in each turn of the event loop: who reads sees them one by one. */
  #say(): void {
    if (this.#isHeld || this.#to.destroyed) return;
    const piece = this.#pieces.shift();
    if (piece === undefined) return;
    if (piece === null) this.#to.end();
    else this.#to.write(piece);
    setImmediate(() => this.#say());
  }
}
