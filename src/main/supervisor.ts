import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server } from "node:net";
import { hostname } from "node:os";
import { AdminExecutor } from "../admin/admin-executor.js";
import type { AdminHost } from "../admin/host.js";
import { logLevel } from "../config/environment.js";
import type { Config } from "../config/model.js";
import { type ConfigPaths, readConfig } from "../config/read-config.js";
import { refuseUnfitKeys } from "../control/node/key-columns.js";
import { NodeAgent } from "../control/node/node-agent.js";
import { PreparedRecovery } from "../control/node/prepared-recovery.js";
import type { TaskClient } from "../control/task-api.js";
import { connectTasks } from "../control/temporal/task-client.js";
import type { ProcessLog } from "../observe/log.js";
import { DataPlaneProcesses } from "./processes/data-plane-processes.js";
import type { NodeIdentity, ToWorker } from "./processes/worker-channel.js";
import { WorkerProcesses } from "./processes/worker-processes.js";

const LISTEN_BACKLOG = 4_096;

export interface SupervisorOptions {
  readonly paths: ConfigPaths;
  readonly log: ProcessLog;
}

/**
 * The main process of a node: it reads decisions before anything else, then starts the data planes, listens,
 * and last starts the processes that need Temporal. It hands sockets out and never reads one.
 */
export class Supervisor {
  readonly #paths: ConfigPaths;
  readonly #log: ProcessLog;
  readonly #planes: DataPlaneProcesses;
  readonly #agent: NodeAgent;
  readonly #recovery: PreparedRecovery;
  readonly #workers: WorkerProcesses;
  readonly #tasks: TaskClient;
  readonly #admin: AdminExecutor;
  readonly #server: Server;
  readonly #identity: NodeIdentity;
  /** As the files say, with what SET changed; names as in the files. */
  #files: Config;
  #stopping: Promise<void> | null = null;
  #notifyStopped: () => void = () => {};
  /** Resolves when the node has gone down in good order. */
  readonly stopped: Promise<void>;

  constructor(options: SupervisorOptions) {
    this.#paths = options.paths;
    this.#log = options.log;
    this.#files = readConfig(options.paths);
    this.#log.setLevel(logLevel(process.env, this.#files.general.logLevel));
    for (const warning of this.#files.warnings) this.#log.warn(warning);
    const { general, sluice } = this.#files;
    this.#identity = {
      nodeId: sluice.nodeId,
      incarnation: randomUUID(),
      address: `${general.host === "0.0.0.0" ? hostname() : general.host}:${general.port}`,
    };
    this.#planes = new DataPlaneProcesses({
      count: Math.max(1, general.workers),
      log: this.#log,
      admin: async (user, sql) => await this.#admin.execute(user, sql),
    });
    this.#agent = new NodeAgent({
      files: this.#files,
      planes: this.#planes,
      log: this.#log.child({ part: "agent" }),
      paths: options.paths,
      ...this.#identity,
    });
    this.#recovery = new PreparedRecovery({
      config: () => this.#agent.effectiveConfig.config,
      log: this.#log.child({ part: "recovery" }),
    });
    this.#tasks = connectTasks({
      temporal: sluice.temporal,
      timeoutMs: sluice.adminApiTimeoutMs,
      log: this.#log.child({ part: "tasks" }),
    });
    this.#workers = new WorkerProcesses({
      movers: sluice.movers,
      log: this.#log,
      greeting: () => this.#workerConfig(),
      node: { arm: async (order) => await this.#agent.arm(order) },
    });
    this.#admin = new AdminExecutor(this.#adminHost());
    this.#server = createServer({ pauseOnConnect: true }, (socket) => this.#planes.attach(socket));
    this.stopped = new Promise((resolve) => {
      this.#notifyStopped = resolve;
    });
  }

  /**
   * Boots the node; clients are accepted when it resolves.
   * @returns the port listened on
   * @throws KeyColumnUnfit; when a decision cannot be read, a data plane cannot start, or the port is taken
   */
  async start(): Promise<{ readonly host: string; readonly port: number }> {
    const { host, port } = this.#files.general;
    await refuseUnfitKeys(this.#files);
    // R32: nobody may be accepted before the gates and decisions have been asked which side serves.
    await this.#agent.boot();
    await this.#recovery.check(this.#files);
    this.#recovery.start();
    await this.#planes.start();
    this.#server.listen({ host, port, backlog: LISTEN_BACKLOG });
    await once(this.#server, "listening");
    this.#server.on("error", (error) =>
      this.#log.error("accepting clients failed", { error: error.message }),
    );
    this.#agent.onEffectiveConfig(() => this.#workers.broadcast(this.#workerConfig()));
    this.#workers.start();
    const address = this.#server.address();
    return { host, port: typeof address === "object" && address !== null ? address.port : port };
  }

  /**
   * Reads the files again. Host, port, workers and movers take a restart.
   * @throws ConfigInvalid, KeyColumnUnfit, or what the agent refuses: the running configuration stays in place
   */
  async reload(): Promise<void> {
    await this.#adopt(readConfig(this.#paths));
    this.#log.info("configuration reloaded");
  }

  /** Waits for transactions up to `shutdown_timeout`, then ends everything. A second call waits with the first. */
  async shutdown(): Promise<void> {
    this.#stopping ??= this.#stop();
    await this.#stopping;
  }

  /** Ends all child processes now. */
  kill(): void {
    void this.#planes.kill();
    this.#workers.kill();
  }

  async #stop(): Promise<void> {
    const timeoutMs = this.#files.general.shutdownTimeoutMs;
    this.#log.info("shutting down", { timeoutMs });
    // New clients still reach the data planes, which refuse them with 57P01, until the last one has left.
    await Promise.all([this.#planes.drain(timeoutMs), this.#workers.shutdown(timeoutMs)]);
    this.#server.close();
    await this.#planes.kill();
    // Only now: a hold in force needs the agent to the end.
    await Promise.allSettled([this.#agent.close(), this.#recovery.close(), this.#tasks.close()]);
    this.#notifyStopped();
  }

  async #adopt(files: Config): Promise<void> {
    const { host, port, workers } = this.#files.general;
    const next = files.general;
    if (next.host !== host || next.port !== port || next.workers !== workers)
      this.#log.warn("host, port and workers change at the next start");
    await refuseUnfitKeys(files);
    await this.#recovery.check(files);
    await this.#agent.reload(files);
    this.#files = files;
    this.#log.setLevel(logLevel(process.env, next.logLevel));
  }

  #workerConfig(): ToWorker {
    return { kind: "config", config: this.#agent.effectiveConfig.config, node: this.#identity };
  }

  /** What the admin database may do to this node. */
  #adminHost(): AdminHost {
    const planes = this.#planes;
    const agent = this.#agent;
    return {
      log: this.#log.child({ part: "admin" }),
      tasks: this.#tasks,
      nodeId: this.#identity.nodeId,
      incarnation: this.#identity.incarnation,
      config: () => agent.effectiveConfig.config,
      gather: async (what) => await planes.gather(what),
      maintenance: (isOn, database) => planes.broadcast({ kind: "maintenance", isOn, database }),
      maintenanceFlags: () => planes.maintenanceFlags,
      pause: ({ isPaused, user, database }) =>
        planes.broadcast({ kind: "pause", isPaused, user, database }),
      reload: async () => await this.reload(),
      change: async (edit) => await this.#adopt(edit(this.#files)),
      reconnect: () => planes.broadcast({ kind: "reconnect" }),
      shutdown: () => void this.shutdown(),
      showCutover: async () => await agent.showCutover(),
      waitingSwitches: async () => await agent.waitingSwitches(),
      resolveCutover: async (database) => await agent.resolveCutover(database),
      unfence: async (database) => await agent.unfence(database),
    };
  }
}
