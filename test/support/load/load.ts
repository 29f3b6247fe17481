import { LoadClient } from "./client.js";
import type { ClientHistory } from "./history.js";
import { type LatencySummary, summarize } from "./latency.js";
import type { ClientError, LoadAddress, LoadSession } from "./session.js";

export interface LoadOptions {
  /** Clients take them in turn. */
  readonly addresses: readonly LoadAddress[];
  readonly clients: number;
  readonly seed: number;
  /** Tenants are numbered from 1 to this. */
  readonly tenants: number;
  /** Pause between two operations of a client, ms; default 15. */
  readonly thinkMs?: number;
}

/** `History`: what a client knows about its own writes. */
export interface LoadReport<History = ClientHistory> {
  readonly histories: readonly History[];
  readonly errors: readonly ClientError[];
  readonly operationCount: number;
  readonly acknowledged: number;
  readonly unknown: number;
}

export interface Load<History = ClientHistory> {
  report(): LoadReport<History>;
  /** Of what clients waited for in a window of `performance.now()`. */
  latency(window: { readonly fromMs: number; readonly toMs: number }): LatencySummary;
  /** Every client ends after what it has under way. */
  stop(): Promise<void>;
}

/** One client of a load: what it does again and again, and what it knows of it. */
export interface LoadWorker<History> {
  readonly session: LoadSession;
  once(): Promise<void>;
  snapshot(): History;
}

/** Connects all clients and keeps them busy with the shop's schema until `stop`. */
export async function startLoad(options: LoadOptions): Promise<Load> {
  return await startWorkers(
    Array.from(
      { length: options.clients },
      (_, client) =>
        new LoadClient({
          client,
          addresses: options.addresses,
          seed: options.seed,
          tenants: options.tenants,
          thinkMs: options.thinkMs ?? 15,
        }),
    ),
  );
}

/** Connects all workers and keeps them busy until `stop`. */
export async function startWorkers<History>(
  workers: readonly LoadWorker<History>[],
): Promise<Load<History>> {
  const sessions = workers.map(({ session }) => session);
  const stop = async () => {
    await Promise.all(sessions.map((session) => session.stop()));
  };
  try {
    await Promise.all(workers.map((worker) => worker.session.start(() => worker.once())));
  } catch (error) {
    await stop();
    throw error;
  }
  const sum = (of: (session: LoadSession) => number) =>
    sessions.reduce((total, session) => total + of(session), 0);
  return {
    stop,
    latency: (window) => summarize(sessions.flatMap(({ latency }) => latency.within(window))),
    report: () => ({
      histories: workers.map((worker) => worker.snapshot()),
      errors: sessions.flatMap(({ errors }) => errors),
      operationCount: sum(({ latency }) => latency.count),
      acknowledged: sum(({ acknowledged }) => acknowledged),
      unknown: sum(({ unknown }) => unknown),
    }),
  };
}
