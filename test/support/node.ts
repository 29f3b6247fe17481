import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { builtLauncher } from "./built.js";
import { freePort } from "./postgres.js";
import { until } from "./until.js";

export interface NodeFiles {
  /** `[general] port` is put before it; everything else is the test's. */
  readonly pgdog: string;
  readonly users: string;
  readonly sluice?: string;
}

export interface NodeOptions extends NodeFiles {
  /** Default: any that is free. */
  readonly port?: number;
  readonly env?: Readonly<Record<string, string>>;
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A real `sluice run`, as a user starts it. */
export interface SluiceNode extends AsyncDisposable {
  readonly port: number;
  readonly pid: number;
  /** Of the main process: data planes, control, movers. */
  children(): readonly Child[];
  readonly ended: Promise<Ended>;
  /** Everything on standard error until now: the log. */
  log(): string;
  signal(signal: NodeJS.Signals): void;
  /** SIGKILL of the main process alone; resolves when it is gone. */
  kill(): Promise<void>;
  /** Again on the same port, from the files as they are now. */
  start(): Promise<void>;
  /** Replaces files on disk; what is not given stays. */
  write(files: Partial<NodeFiles>): void;
  readonly folder: string;
}

export interface Child {
  readonly pid: number;
  readonly role: "data-plane" | "control" | "mover" | "other";
}

/** Two seconds of a core; a machine that does ten other things takes its time. */
const START_MS = 90_000;

/** Resolves when the node accepts clients. */
export async function startNode(options: NodeOptions): Promise<SluiceNode> {
  const launcher = await builtLauncher();
  const port = options.port ?? (await freePort());
  const folder = mkdtempSync(join(tmpdir(), "sluice-node-"));
  const write = (files: Partial<NodeFiles>) => {
    const general = `[general]\nhost = "127.0.0.1"\nport = ${port}\n`;
    if (files.pgdog !== undefined) writeFileSync(join(folder, "pgdog.toml"), general + files.pgdog);
    if (files.users !== undefined) writeFileSync(join(folder, "users.toml"), files.users);
    if (files.sluice !== undefined) writeFileSync(join(folder, "sluice.toml"), files.sluice);
  };
  write(options);
  const args = [
    "run",
    "--config",
    join(folder, "pgdog.toml"),
    "--users",
    join(folder, "users.toml"),
  ];
  let stdout = "";
  let stderr = "";
  let child = run();
  let ended = endOf(child);
  function run(): ChildProcess {
    stdout = "";
    const running = spawn(process.execPath, [launcher, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, SLUICE_LOG_LEVEL: "info", ...options.env },
    });
    running.stdout.on("data", (chunk: Buffer) => {
      stdout += chunk.toString();
    });
    running.stderr.on("data", (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    return running;
  }
  const isOver = () => child.exitCode !== null || child.signalCode !== null;
  const untilListening = async () => {
    await until(() => stdout.includes("sluice: listening on") || isOver(), {
      timeoutMs: START_MS,
      what: "the node to listen",
    });
    if (isOver()) throw new Error("the node ended at its start");
  };
  const killTree = () => {
    for (const each of childrenOf(child.pid ?? -1)) kill(each.pid);
    child.kill("SIGKILL");
  };
  process.once("exit", killTree);
  const node: SluiceNode = {
    port,
    get pid() {
      return child.pid ?? -1;
    },
    folder,
    get ended() {
      return ended;
    },
    children: () => childrenOf(child.pid ?? -1),
    log: () => stderr,
    signal: (signal) => void child.kill(signal),
    kill: async () => {
      child.kill("SIGKILL");
      await ended;
    },
    start: async () => {
      child = run();
      ended = endOf(child);
      await untilListening();
    },
    write,
    [Symbol.asyncDispose]: async () => {
      killTree();
      await ended;
      process.removeListener("exit", killTree);
      rmSync(folder, { recursive: true, force: true });
    },
  };
  try {
    await untilListening();
    return node;
  } catch (error) {
    await node[Symbol.asyncDispose]();
    throw new Error(`${String(error)}\n${stdout}${stderr}`);
  }
}

/**
 * A `sluice` command to its end. Never synchronously: servers that this process has started write their logs
 * to it, and stand still when nobody reads.
 */
export async function runSluice(
  args: readonly string[],
  options: { readonly cwd?: string; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }> {
  const child = spawn(process.execPath, [await builtLauncher(), ...args], {
    cwd: options.cwd ?? tmpdir(),
    env: { ...process.env, ...options.env },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 120_000,
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, stdout, stderr };
}

function endOf(child: ChildProcess): Promise<Ended> {
  return new Promise((resolve) => child.once("exit", (code, signal) => resolve({ code, signal })));
}

/** By parent, process by process: the kernel's own list of children leaves some out while one of them ends. */
function childrenOf(pid: number): readonly Child[] {
  const all = readdirSync("/proc").filter((name) => /^\d+$/u.test(name));
  return all
    .filter((name) => parentOf(Number(name)) === pid)
    .map((name) => {
      const command = readProc(`/proc/${name}/cmdline`);
      const role = /(data-plane|control|mover)-process/u.exec(command)?.[1];
      return { pid: Number(name), role: (role ?? "other") as Child["role"] };
    });
}

/** @returns null when there is no such process any more */
export function parentOf(pid: number): number | null {
  const parent = /\)\s\S\s(\d+)/u.exec(readProc(`/proc/${pid}/stat`))?.[1];
  return parent === undefined ? null : Number(parent);
}

function readProc(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** A process that has ended but was not waited for counts as gone. */
export function isAlive(pid: number): boolean {
  const state = /\)\s(\S)/u.exec(readProc(`/proc/${pid}/stat`))?.[1];
  return state !== undefined && state !== "Z" && state !== "X";
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // Gone already.
  }
}
