import { type ChildProcess, spawn } from "node:child_process";
import { chownSync, closeSync, openSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import pg from "pg";
import type { ServerAddress } from "../../src/backend/address.js";
import { findPostgres } from "./binaries.js";
import { makeDataFolder } from "./data-folder.js";
import { makeServerFolder } from "./server-folder.js";
import { unprivilegedUser } from "./unprivileged.js";

export interface PostgresServer extends AsyncDisposable {
  readonly port: number;
  readonly dataDir: string;
  readonly binDir: string;
  readonly major: number;
  /** pid of the postmaster: send it signals by this only. */
  readonly pid: number;
  /** Superuser `postgres`, trust on loopback unless `hba` says otherwise. */
  address(database: string): ServerAddress;
  /** One statement on a connection of its own. */
  sql(
    database: string,
    text: string,
    values?: readonly unknown[],
  ): Promise<Record<string, unknown>[]>;
  createDatabase(name: string): Promise<void>;
  /** "fast" ends sessions, "immediate" is a crash. */
  stop(mode: "fast" | "immediate"): Promise<void>;
  start(): Promise<void>;
}

export interface PostgresOptions {
  readonly settings?: Readonly<Record<string, string>>;
  /** Major version; default: whatever is found first. */
  readonly major?: number;
  /** Lines for pg_hba.conf; default trust on loopback. */
  readonly hba?: readonly string[];
}

export async function freePort(): Promise<number> {
  return await new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => {
        if (address === null || typeof address === "string") reject(new Error("no port"));
        else resolve(address.port);
      });
    });
  });
}

const DEFAULT_SETTINGS: Readonly<Record<string, string>> = {
  wal_level: "logical",
  max_replication_slots: "40",
  max_wal_senders: "40",
  max_connections: "200",
  max_prepared_transactions: "50",
  shared_buffers: "64MB",
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  logging_collector: "off",
  // Servers are killed here, machines are not: what a killed server wrote is with the kernel. What is flushed, and
  // when a commit waits for it, is the same. Both cost a slow disk half of the suite's time.
  fsync: "off",
  full_page_writes: "off",
};

/** Starts a throw-away server on a free loopback port, as an unprivileged user where we are root. */
export async function startPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  const { binDir, major } = await findPostgres(options.major);
  const user = unprivilegedUser();
  const base = makeServerFolder();
  const dataDir = join(base, "data");
  const logFile = join(base, "log");
  writeFileSync(logFile, "");
  if (user) chownSync(logFile, user.uid, user.gid);
  makeDataFolder(binDir, dataDir);
  if (options.hba) writeFileSync(join(dataDir, "pg_hba.conf"), `${options.hba.join("\n")}\n`);
  const port = await freePort();
  let child: ChildProcess | null = null;

  const start = async () => {
    const settings = Object.entries({
      ...DEFAULT_SETTINGS,
      // Up to 17 this is max_replication_slots.
      ...(major >= 18 ? { max_active_replication_origins: "40" } : {}),
      ...options.settings,
      port: String(port),
    });
    // Straight to the file: a pipe would fill, and stop the server, while this process is busy.
    const log = openSync(logFile, "a");
    child = spawn(
      join(binDir, "postgres"),
      ["-D", dataDir, ...settings.flatMap(([name, value]) => ["-c", `${name}=${value}`])],
      { cwd: "/", stdio: ["ignore", "ignore", log], ...(user ?? {}) },
    );
    closeSync(log);
    await untilReady(port, child, logFile);
  };
  const stop = async (mode: "fast" | "immediate") => {
    const running = child;
    if (!running || running.exitCode !== null || running.signalCode !== null) return;
    const gone = new Promise<void>((resolve) => running.once("exit", () => resolve()));
    running.kill(mode === "fast" ? "SIGINT" : "SIGQUIT");
    await gone;
    child = null;
  };
  const onExit = () => child?.kill("SIGQUIT");
  process.once("exit", onExit);
  await start();

  const address = (database: string): ServerAddress => ({
    host: "127.0.0.1",
    port,
    database,
    user: "postgres",
    password: null,
  });
  const sql: PostgresServer["sql"] = async (database, text, values = []) => {
    const client = new pg.Client({ host: "127.0.0.1", port, database, user: "postgres" });
    client.on("error", () => {});
    await client.connect();
    try {
      // Without values pg uses the simple protocol, which takes several statements at once.
      const result =
        values.length > 0 ? await client.query(text, [...values]) : await client.query(text);
      const last = Array.isArray(result) ? result.at(-1) : result;
      return (last?.rows ?? []) as Record<string, unknown>[];
    } finally {
      await client.end();
    }
  };
  return {
    port,
    dataDir,
    binDir,
    major,
    get pid() {
      return child?.pid ?? -1;
    },
    address,
    sql,
    createDatabase: async (name) => {
      await sql("postgres", `CREATE DATABASE "${name}"`);
    },
    stop,
    start,
    [Symbol.asyncDispose]: async () => {
      await stop("immediate");
      process.removeListener("exit", onExit);
      rmSync(base, { recursive: true, force: true });
    },
  };
}

async function untilReady(port: number, child: ChildProcess, logFile: string): Promise<void> {
  const deadline = Date.now() + 30_000;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`postgres ended at start, see ${logFile}`);
    const client = new pg.Client({
      host: "127.0.0.1",
      port,
      database: "postgres",
      user: "postgres",
    });
    client.on("error", () => {});
    try {
      await client.connect();
      await client.end();
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
      // Readiness is polled: the server offers nothing to wait on before it listens.
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
