import type { Connection } from "@temporalio/client";
import type { TemporalConfig } from "../../config/model.js";
import type { Log } from "../../observe/log.js";
import { type ConnectionState, TemporalUnreachable } from "../task-api.js";
import { grpcCodeOf } from "./search-attributes.js";

const CANCELLED = 1;
const DEADLINE_EXCEEDED = 4;
const UNAVAILABLE = 14;
const REPEAT_PAUSE_MS = 100;
const GUARD_MS = 100;

export interface CallOptions {
  /** The server alone cannot answer, so silence may also be a missing control process. */
  readonly needsWorker?: boolean;
  /** A lost answer must not lead to a second call. */
  readonly isOnce?: boolean;
}

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

  /** @throws TemporalUnreachable, or what the call throws */
  async run<T>(call: () => Promise<T>, options: CallOptions = {}): Promise<T> {
    const deadline = Date.now() + this.#timeoutMs;
    for (;;) {
      try {
        const result = await this.#connection.withDeadline(deadline, () =>
          inTime(call, deadline - Date.now() + GUARD_MS),
        );
        this.#note({ kind: "up" });
        return result;
      } catch (error) {
        if (!isSilence(error)) throw error;
        const mayRepeat = !options.isOnce && codeOf(error) === UNAVAILABLE;
        if (!mayRepeat || Date.now() + REPEAT_PAUSE_MS > deadline)
          throw this.#unreachable(error, options);
        await new Promise((wake) => setTimeout(wake, REPEAT_PAUSE_MS));
      }
    }
  }

  #unreachable(cause: unknown, options: CallOptions): TemporalUnreachable {
    const reason = cause instanceof Error ? cause.message : String(cause);
    if (!options.needsWorker) this.#note({ kind: "down", reason });
    return new TemporalUnreachable(this.#address, {
      cause,
      ...(options.needsWorker
        ? { detail: "or no control process of any node is up to answer" }
        : {}),
    });
  }

  isNoAnswer(error: unknown): boolean {
    return error instanceof TemporalUnreachable;
  }

  #note(next: { readonly kind: "up" } | { readonly kind: "down"; readonly reason: string }): void {
    if (next.kind === this.#state.kind) return;
    this.#state = { ...next, sinceMs: Date.now() };
    this.#log.info("temporal", { state: next.kind });
  }
}

/** A guard beside the gRPC deadline: some calls wait in loops of their own. */
async function inTime<T>(call: () => Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new NoAnswer()), ms);
  });
  try {
    return await Promise.race([call(), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Control flow of this file only. */
class NoAnswer extends Error {}

function isSilence(error: unknown): boolean {
  if (error instanceof NoAnswer) return true;
  const code = codeOf(error);
  return code === CANCELLED || code === DEADLINE_EXCEEDED || code === UNAVAILABLE;
}

/** The SDK wraps gRPC errors in its own for some calls. */
function codeOf(error: unknown): number | null {
  return grpcCodeOf(error) ?? grpcCodeOf(error instanceof Error ? error.cause : undefined);
}
