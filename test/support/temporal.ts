import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { Connection } from "@temporalio/client";
import { findTemporal } from "./binaries.js";
import { freePort } from "./postgres.js";
import { until } from "./until.js";

export interface TemporalServer extends AsyncDisposable {
  /** host:port of the frontend. */
  readonly address: string;
  /** Address of the UI, or null when headless. */
  readonly uiUrl: string | null;
  /** pid of the dev server: send it signals by this only. */
  readonly pid: number;
  /** Runs the real CLI against this server. Not synchronously: a worker in this process must answer it. */
  cli(...args: readonly string[]): Promise<{ readonly status: number; readonly output: string }>;
  /** SIGKILL; with a database file, `start` goes on where it was. */
  kill(): Promise<void>;
  start(): Promise<void>;
}

export interface TemporalOptions {
  /** SQLite file that outlives a kill; default: memory. */
  readonly databaseFile?: string;
  readonly withUi?: boolean;
  readonly port?: number;
  /** KEY=JSON, as `--dynamic-config-value` takes it. */
  readonly dynamicConfig?: readonly string[];
}

/** Starts a dev server on free ports, in its own process group, so that a killed runner leaves it findable. */
export async function startTemporal(options: TemporalOptions = {}): Promise<TemporalServer> {
  const executable = await findTemporal();
  const port = options.port ?? (await freePort());
  const uiPort = options.withUi ? await freePort() : null;
  const address = `127.0.0.1:${port}`;
  let child: ChildProcess | null = null;
  const start = async () => {
    child = spawn(executable, argumentsFor(options, port, uiPort), {
      detached: true,
      stdio: ["ignore", "ignore", "inherit"],
    });
    await untilAnswers(address, child);
  };
  const kill = async () => {
    const running = child;
    if (!running || running.exitCode !== null || running.signalCode !== null) return;
    const gone = new Promise<void>((resolve) => running.once("exit", () => resolve()));
    running.kill("SIGKILL");
    await gone;
  };
  const onExit = () => child?.kill("SIGKILL");
  process.once("exit", onExit);
  await start();
  return {
    address,
    uiUrl: uiPort === null ? null : `http://127.0.0.1:${uiPort}`,
    get pid() {
      return child?.pid ?? -1;
    },
    cli: (...args) => runToEnd(executable, [...args, "--address", address]),
    kill,
    start,
    [Symbol.asyncDispose]: async () => {
      await kill();
      process.removeListener("exit", onExit);
    },
  };
}

async function runToEnd(
  executable: string,
  args: readonly string[],
): Promise<{ readonly status: number; readonly output: string }> {
  const running = spawn(executable, args, { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [running.stdout, running.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  const [code] = (await once(running, "close")) as [number | null];
  return { status: code ?? -1, output };
}

function argumentsFor(
  options: TemporalOptions,
  port: number,
  uiPort: number | null,
): readonly string[] {
  return [
    ...["server", "start-dev", "--ip", "127.0.0.1", "--port", String(port)],
    ...["--log-level", "never"],
    ...(uiPort === null
      ? ["--headless"]
      : ["--ui-port", String(uiPort), "--ui-disable-news-fetch"]),
    ...(options.databaseFile === undefined ? [] : ["--db-filename", options.databaseFile]),
    ...(options.dynamicConfig ?? []).flatMap((entry) => ["--dynamic-config-value", entry]),
  ];
}

async function untilAnswers(address: string, child: ChildProcess): Promise<void> {
  const connection = Connection.lazy({ address });
  try {
    await until(
      async () => {
        if (child.exitCode !== null) throw new Error(`temporal ended with code ${child.exitCode}`);
        return await connection
          .withDeadline(Date.now() + 1_000, () =>
            connection.workflowService.describeNamespace({ namespace: "default" }),
          )
          .then(() => true)
          .catch(() => false);
      },
      { timeoutMs: 60_000, what: `the Temporal dev server at ${address}`, intervalMs: 50 },
    );
  } finally {
    await connection.close();
  }
}
