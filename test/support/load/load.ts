import { type ClientError, type LoadAddress, LoadClient } from "./client.js";
import type { ClientHistory } from "./history.js";
import { type LatencySummary, summarize } from "./latency.js";

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

export interface LoadReport {
  readonly histories: readonly ClientHistory[];
  readonly errors: readonly ClientError[];
  readonly operationCount: number;
  readonly acknowledged: number;
  readonly unknown: number;
}

export interface Load {
  report(): LoadReport;
  /** Of what clients waited for in a window of `performance.now()`. */
  latency(window: { readonly fromMs: number; readonly toMs: number }): LatencySummary;
  /** Every client ends after the operation under way. */
  stop(): Promise<void>;
}

/** Connects all clients and keeps them busy with the demo's schema until `stop`. */
export async function startLoad(options: LoadOptions): Promise<Load> {
  const clients = Array.from(
    { length: options.clients },
    (_, client) =>
      new LoadClient({
        client,
        addresses: options.addresses,
        seed: options.seed,
        tenants: options.tenants,
        thinkMs: options.thinkMs ?? 15,
      }),
  );
  const stop = async () => {
    await Promise.all(clients.map((client) => client.stop()));
  };
  try {
    await Promise.all(clients.map((client) => client.start()));
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    stop,
    latency: (window) => summarize(clients.flatMap((client) => client.latency.within(window))),
    report: () => {
      const histories = clients.map((client) => client.history.snapshot());
      const sum = (of: (history: ClientHistory) => number) =>
        histories.reduce((total, history) => total + of(history), 0);
      return {
        histories,
        errors: clients.flatMap((client) => client.errors),
        operationCount: clients.reduce((total, client) => total + client.latency.count, 0),
        acknowledged: sum((history) => history.acknowledgedWrites),
        unknown: sum((history) => history.unknownWrites),
      };
    },
  };
}
