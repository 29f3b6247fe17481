import type { Config } from "../config/model.js";
import type { CutoverRow, WaitingSwitch } from "../control/node/answers.js";
import type { TaskClient } from "../control/task-api.js";
import type { Log } from "../observe/log.js";
import type { AdminRow } from "../proxy/channel.js";

export interface MaintenanceFlag {
  /** null: all databases. */
  readonly database: string | null;
  /** The operator's own, or a switch's hold, which MAINTENANCE OFF leaves alone. */
  readonly owner: "operator" | "cutover";
}

/**
 * What the admin database asks of the node that it runs in; the main process fills it. Nothing here needs
 * Temporal but `tasks`, so what gets a node out of trouble works without it.
 */
export interface AdminHost {
  readonly log: Log;
  readonly tasks: TaskClient;
  readonly nodeId: string;
  readonly incarnation: string;
  /** The configuration in force, names exchanged by committed switches. */
  config(): Config;
  /** Of all data planes, in the column order of the command. */
  gather(what: "clients" | "pools" | "servers" | "stats"): Promise<readonly AdminRow[]>;
  maintenance(isOn: boolean, database: string | null): void;
  maintenanceFlags(): readonly MaintenanceFlag[];
  pause(order: {
    readonly isPaused: boolean;
    readonly user: string | null;
    readonly database: string | null;
  }): void;
  /** @throws ConfigInvalid and leaves the running configuration in place */
  reload(): Promise<void>;
  /** Until RELOAD. */
  change(edit: (config: Config) => Config): Promise<void>;
  reconnect(): void;
  shutdown(): void;
  showCutover(): Promise<readonly CutoverRow[]>;
  /** Never fails. */
  waitingSwitches(): Promise<readonly WaitingSwitch[]>;
  resolveCutover(database: string): Promise<readonly string[]>;
  /** Takes the gate of a finished migration away from its old side (R36). */
  unfence(database: string): Promise<readonly string[]>;
}
