import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type Connection,
  isGrpcCancelledError,
  isGrpcDeadlineError,
  isGrpcServiceError,
} from "@temporalio/client";
import type { TemporalConfig } from "../../config/model.js";
import type { Log } from "../../observe/log.js";
import { TemporalUnreachable } from "../task-api.js";

/** Of gRPC's status codes, the one that the SDK has no question for. */
const UNAVAILABLE = 14;
const REPEAT_PAUSE_MS = 100;
const GUARD_MS = 100;
const PROBE_TIMEOUT_MS = 2_000;
const DEFAULT_PORT = 7233;

export interface CallOptions {
  /** The server alone cannot answer, so silence may also be a missing control process. */
  readonly needsWorker?: boolean;
  /** A lost answer must not lead to a second call. */
  readonly isOnce?: boolean;
}

/**
 * Calls to Temporal that end in time. Without a deadline a call to a dead server hangs for 20 s, and an
 * update or query that no worker answers for longer. Where nobody listens at Temporal's address it is told at
 * once: gRPC alone would try again until the deadline, which must leave time for a server that is merely slow.
 */
export class DeadlineCalls {
  readonly #connection: Connection;
  readonly #timeoutMs: number;
  readonly #address: string;
  readonly #log: Log;
  #state: "unknown" | "up" | "down" = "unknown";

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

  /** @throws TemporalUnreachable, or what the call throws */
  async run<T>(call: () => Promise<T>, options: CallOptions = {}): Promise<T> {
    const deadline = Date.now() + this.#timeoutMs;
    if (this.#state !== "up") await this.#probe(deadline);
    for (;;) {
      try {
        const result = await this.#connection.withDeadline(deadline, () =>
          inTime(call, deadline - Date.now() + GUARD_MS),
        );
        this.#note("up");
        return result;
      } catch (error) {
        const silence = silenceOf(error);
        if (silence === null) throw error;
        if (silence === "unavailable") await this.#probe(deadline);
        const mayRepeat = !options.isOnce && silence === "unavailable";
        if (!mayRepeat || Date.now() + REPEAT_PAUSE_MS > deadline)
          throw this.#unreachable(error, options);
        await sleep(REPEAT_PAUSE_MS);
      }
    }
  }

  isNoAnswer(error: unknown): boolean {
    return error instanceof TemporalUnreachable;
  }

  /** @throws TemporalUnreachable where nobody listens */
  async #probe(deadline: number): Promise<void> {
    const withinMs = Math.max(1, Math.min(PROBE_TIMEOUT_MS, deadline - Date.now()));
    const reason = await whyNobodyListens(this.#address, withinMs);
    if (reason === null) return;
    this.#note("down");
    throw new TemporalUnreachable(this.#address, { detail: reason });
  }

  #unreachable(cause: unknown, options: CallOptions): TemporalUnreachable {
    if (!options.needsWorker) this.#note("down");
    return new TemporalUnreachable(this.#address, {
      cause,
      ...(options.needsWorker
        ? { detail: "or no control process of any node is up to answer" }
        : {}),
    });
  }

  #note(state: "up" | "down"): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#log.info("temporal", { state });
  }
}

/** A guard beside the gRPC deadline: some calls wait in loops of their own. */
async function inTime<T>(call: () => Promise<T>, ms: number): Promise<T> {
  const answered = new AbortController();
  const late = async (): Promise<never> => {
    await sleep(ms, undefined, { signal: answered.signal });
    throw new NoAnswer();
  };
  try {
    return await Promise.race([call(), late()]);
  } finally {
    answered.abort();
  }
}

/** Control flow of this file only. */
class NoAnswer extends Error {}

/**
 * Whether an error only says that there was no answer. "unavailable": the server has not taken the call, so
 * the same one may be sent again; "late": it may be doing it still.
 */
export function silenceOf(error: unknown): "unavailable" | "late" | null {
  if (error instanceof NoAnswer || isGrpcDeadlineError(error) || isGrpcCancelledError(error))
    return "late";
  // The SDK wraps gRPC errors in its own for some calls.
  const isUnavailable = [error, error instanceof Error ? error.cause : null].some(
    (one) => isGrpcServiceError(one) && Number(one.code) === UNAVAILABLE,
  );
  return isUnavailable ? "unavailable" : null;
}

/** @param address "host:port", "[::1]:port" or a host alone; @returns null: somebody does */
async function whyNobodyListens(address: string, withinMs: number): Promise<string | null> {
  const [, host = address, port] = /^\[?(.*?)\]?(?::(\d+))?$/u.exec(address) ?? [];
  const socket = connect({ host, port: port === undefined ? DEFAULT_PORT : Number(port) });
  const signal = AbortSignal.timeout(withinMs);
  try {
    await once(socket, "connect", { signal });
    return null;
  } catch (error) {
    if (signal.aborted) return `no answer in ${withinMs} ms`;
    if (!(error instanceof Error)) return String(error);
    // Of an unreachable host with several addresses the message is empty, the code says it.
    const code = "code" in error ? String(error.code) : "not reachable";
    return error.message === "" ? code : error.message;
  } finally {
    socket.destroy();
  }
}
