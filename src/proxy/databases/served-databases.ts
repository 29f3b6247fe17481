import type { Database } from "../../topology/topology.js";
import type { ToDataPlane } from "../channel.js";
import { ServedDatabase, type ServedIn } from "./served-database.js";
import { topologyFromConfig } from "./topology-from-config.js";

type TopologyMessage = Extract<ToDataPlane, { kind: "topology" }>;
type PauseMessage = Extract<ToDataPlane, { kind: "pause" }>;

/** The databases that are served, by the names that clients use. */
export class ServedDatabases {
  readonly #in: ServedIn;
  #byName = new Map<string, ServedDatabase>();
  #generation = -1;

  constructor(servedIn: ServedIn) {
    this.#in = servedIn;
  }

  get names(): readonly string[] {
    return [...this.#byName.keys()];
  }

  get all(): readonly ServedDatabase[] {
    return [...this.#byName.values()];
  }

  get(name: string): ServedDatabase | null {
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
    const before = new Set(this.#byName.values());
    const next = new Map<string, ServedDatabase>();
    const settings = JSON.stringify(config.general);
    for (const [name, database] of topology.databases) {
      const known = this.#byName.get(name);
      const isSame =
        known !== undefined &&
        JSON.stringify(known.general) === settings &&
        fingerprint(known.database) === fingerprint(database);
      // After RELOAD its tables are read again: they may have been changed past us.
      if (isSame) known.tablesChanged();
      next.set(name, isSame ? known : new ServedDatabase(database, config.general, this.#in));
    }
    const retired = [...before].filter((served) => next.get(served.database.name) !== served);
    for (const served of next.values()) if (!before.has(served)) served.inherit(retired);
    this.#byName = next;
    for (const served of retired) served.retire();
  }

  setPaused({ isPaused, user, database }: PauseMessage): void {
    for (const served of this.all)
      if (database === null || served.database.name === database) served.setPaused(user, isPaused);
  }

  reconnect(): void {
    for (const served of this.all) served.reconnect();
  }

  destroy(): void {
    for (const served of this.all) served.destroy();
  }
}

/** Holds secrets: for comparison only. */
function fingerprint(database: Database): string {
  return JSON.stringify({ ...database, users: [...database.users] });
}
