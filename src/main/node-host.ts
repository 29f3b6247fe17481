import type { AdminHost, MaintenanceFlag } from "../admin/host.js";
import type { Config } from "../config/model.js";
import type { CutoverRow } from "../control/node/cutover-row.js";
import type { NodeAgent } from "../control/node/node-agent.js";
import type { TaskClient } from "../control/task-api.js";
import type { Log } from "../observe/log.js";
import type { AdminRow } from "../proxy/channel.js";
import type { DataPlaneProcesses } from "./processes/data-plane-processes.js";
import type { NodeIdentity } from "./processes/worker-channel.js";

export interface NodeHostOptions {
  readonly log: Log;
  readonly identity: NodeIdentity;
  readonly planes: DataPlaneProcesses;
  readonly agent: NodeAgent;
  readonly tasks: TaskClient;
  readonly reload: () => Promise<void>;
  readonly change: (edit: (config: Config) => Config) => Promise<void>;
  readonly shutdown: () => void;
}

/** What the admin database may do to this node. */
export class NodeHost implements AdminHost {
  readonly #options: NodeHostOptions;
  readonly log: Log;
  readonly tasks: TaskClient;
  readonly nodeId: string;
  readonly incarnation: string;

  constructor(options: NodeHostOptions) {
    this.#options = options;
    this.log = options.log;
    this.tasks = options.tasks;
    this.nodeId = options.identity.nodeId;
    this.incarnation = options.identity.incarnation;
  }

  config(): Config {
    return this.#options.agent.effectiveConfig.config;
  }

  async gather(what: "clients" | "pools" | "servers" | "stats"): Promise<readonly AdminRow[]> {
    return await this.#options.planes.gather(what);
  }

  maintenance(isOn: boolean, database: string | null): void {
    this.#options.planes.broadcast({ kind: "maintenance", isOn, database });
  }

  maintenanceFlags(): readonly MaintenanceFlag[] {
    return this.#options.planes.maintenanceFlags;
  }

  pause(order: {
    readonly isPaused: boolean;
    readonly user: string | null;
    readonly database: string | null;
  }): void {
    const { isPaused, user, database } = order;
    this.#options.planes.broadcast({ kind: "pause", isPaused, user, database });
  }

  async reload(): Promise<void> {
    await this.#options.reload();
  }

  async change(edit: (config: Config) => Config): Promise<void> {
    await this.#options.change(edit);
  }

  reconnect(): void {
    this.#options.planes.broadcast({ kind: "reconnect" });
  }

  shutdown(): void {
    this.#options.shutdown();
  }

  async showCutover(): Promise<readonly CutoverRow[]> {
    return await this.#options.agent.showCutover();
  }

  async resolveCutover(database: string): Promise<readonly string[]> {
    return await this.#options.agent.resolveCutover(database);
  }

  async unfence(database: string): Promise<readonly string[]> {
    return await this.#options.agent.unfence(database);
  }
}
