import type { Connection } from "@temporalio/client";
import type { TemporalConfig } from "../config/model.js";
import type { Log } from "../observe/log.js";
import { grpcCodeOf } from "./search-attributes.js";
import { type ConnectionState, TemporalUnreachable } from "./tasks.js";

const CANCELLED = 1;
const DEADLINE_EXCEEDED = 4;
const UNAVAILABLE = 14;

/**
 * Calls to Temporal that end in time. Without a deadline a call to a dead server hangs for 20 s, and an
 * update or query that no worker answers for longer.
 */
export class DeadlineCalls {
  readonly #connection: Connection;
  readonly #timeoutMs: number;
  readonly #address: string;
  readonly #log: Log;
  #state: ConnectionState = { kind: "connecting", sinceMs: Date.now() };

  constructor(options: {
    readonly connection: Connection;
    readonly timeoutMs: number;
    readonly temporal: TemporalConfig;
    readonly log: Log;
  }) {
    this.#connection = options.connection;
    this.#timeoutMs = options.timeoutMs;
    this.#address = options.temporal.address;
    this.#log = options.log;
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /**
   * @param needs "worker": the server alone cannot answer, so silence may be a missing control process
   * @throws TemporalUnreachable, or what the call throws
   */
  async run<T>(call: () => Promise<T>, needs: "server" | "worker" = "server"): Promise<T> {
    try {
      const result = await this.#connection.withDeadline(Date.now() + this.#timeoutMs, () =>
        this.#inTime(call),
      );
      this.#note({ kind: "up" });
      return result;
    } catch (error) {
      if (!isSilence(error)) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      if (needs === "server") this.#note({ kind: "down", reason });
      throw new TemporalUnreachable(this.#address, {
        cause: error,
        ...(needs === "worker"
          ? { detail: "or no control process of any node is up to answer" }
          : {}),
      });
    }
  }

  isNoAnswer(error: unknown): boolean {
    return error instanceof TemporalUnreachable;
  }

  /** A guard beside the gRPC deadline: some calls wait in loops of their own. */
  async #inTime<T>(call: () => Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new NoAnswer()), this.#timeoutMs + 100);
    });
    try {
      return await Promise.race([call(), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #note(next: { readonly kind: "up" } | { readonly kind: "down"; readonly reason: string }): void {
    if (next.kind === this.#state.kind) return;
    this.#state = { ...next, sinceMs: Date.now() };
    this.#log.info("temporal", { state: next.kind });
  }
}

/** Control flow of this file only. */
class NoAnswer extends Error {}

function isSilence(error: unknown): boolean {
  if (error instanceof NoAnswer) return true;
  const code = grpcCodeOf(error) ?? grpcCodeOf(causeOf(error));
  return code === CANCELLED || code === DEADLINE_EXCEEDED || code === UNAVAILABLE;
}

function causeOf(error: unknown): unknown {
  return error instanceof Error ? error.cause : undefined;
}
