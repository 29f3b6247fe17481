import type { ServerConnection } from "../../backend/server-connection.js";
import { encodeCommandComplete } from "../../wire/backend.js";
import { SYNC } from "../../wire/frontend.js";
import type { Expectation } from "../execution/relay.js";
import { AlreadyTold } from "../session-errors.js";
import type { ShardedStatements } from "./statements.js";

/** What a pipeline has been answered, in the order of its messages; held back as long as it may be taken back. */
export class PipelineAnswers {
  readonly #statements: ShardedStatements;
  /** The last command tag, kept until the commit that makes it true. */
  #lastTag: Buffer | null = null;

  constructor(statements: ShardedStatements) {
    this.#statements = statements;
  }

  add(bytes: Buffer): void {
    this.sendTag();
    this.#statements.sink.holdBack(bytes);
  }

  tag(tag: string): void {
    this.sendTag();
    this.#lastTag = encodeCommandComplete(tag);
  }

  sendTag(): void {
    if (this.#lastTag) this.#statements.sink.holdBack(this.#lastTag);
    this.#lastTag = null;
  }

  /** One message of ours to one server, whose answer goes to the client. */
  async relay(server: ServerConnection, message: Buffer, expected: Expectation): Promise<void> {
    const { relay, sink } = this.#statements;
    this.sendTag();
    sink.flush();
    relay.attach(server);
    relay.begin("extended", false);
    relay.expect(expected);
    relay.expect(OUR_SYNC);
    server.send(Buffer.concat([message, SYNC]));
    const outcome = await relay.outcome();
    relay.detach();
    if (outcome.kind === "lost") throw outcome.error;
    server.use(null);
    if (relay.hasSeenError) throw new AlreadyTold();
  }

  /** All of it is the client's. */
  flush(): void {
    this.sendTag();
    this.#statements.sink.flush();
  }

  /** Nothing of the pipeline is left. */
  clear(): void {
    this.#lastTag = null;
  }
}

const OUR_SYNC: Expectation = { kind: "sync", isOurs: true };
