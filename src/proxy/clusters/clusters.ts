import type { Log } from "../../observe/log.js";
import type { Database } from "../../topology/topology.js";
import type { ToDataPlane } from "../channel.js";
import { Cluster } from "./cluster.js";
import { topologyFromConfig } from "./topology-from-config.js";

type TopologyMessage = Extract<ToDataPlane, { kind: "topology" }>;
type PauseMessage = Extract<ToDataPlane, { kind: "pause" }>;

/** The clusters that are served, by the names that clients use. */
export class Clusters {
  readonly #log: Log;
  #byName = new Map<string, Cluster>();
  #generation = -1;

  constructor(log: Log) {
    this.#log = log;
  }

  get names(): readonly string[] {
    return [...this.#byName.keys()];
  }

  get all(): readonly Cluster[] {
    return [...this.#byName.values()];
  }

  get(name: string): Cluster | null {
    return this.#byName.get(name) ?? null;
  }

  /**
   * Serves this from now on. A database that is the same keeps its connections; the pools of one that moved
   * are retired: what they lent comes back and is closed. An older generation than what is served is late,
   * and ignored.
   */
  replace({ config, generation, epochs }: TopologyMessage): void {
    if (generation < this.#generation) return;
    this.#generation = generation;
    const topology = topologyFromConfig(config, generation, epochs);
    const served = new Set(this.#byName.values());
    const next = new Map<string, Cluster>();
    const settings = JSON.stringify(config.general);
    for (const [name, database] of topology.databases) {
      const before = this.#byName.get(name);
      const isSame =
        before !== undefined &&
        JSON.stringify(before.general) === settings &&
        fingerprint(before.database) === fingerprint(database);
      next.set(name, isSame ? before : new Cluster(database, config.general, this.#log));
    }
    const retired = [...this.#byName.values()].filter(
      (cluster) => next.get(cluster.database.name) !== cluster,
    );
    for (const cluster of next.values()) if (!served.has(cluster)) cluster.inherit(retired);
    this.#byName = next;
    for (const cluster of retired) cluster.retire();
  }

  setPaused({ isPaused, user, database }: PauseMessage): void {
    for (const cluster of this.all)
      if (database === null || cluster.database.name === database)
        cluster.setPaused(user, isPaused);
  }

  reconnect(): void {
    for (const cluster of this.all) cluster.reconnect();
  }

  destroy(): void {
    for (const cluster of this.all) cluster.destroy();
  }
}

/** Holds secrets: for comparison only. */
function fingerprint(database: Database): string {
  return JSON.stringify({ ...database, users: [...database.users] });
}
