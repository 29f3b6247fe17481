import type { Config } from "../../config/model.js";
import type { DataPlaneGroup } from "./data-plane-group.js";
import { type EffectiveConfig, effectiveConfig, type KnownMigration } from "./effective-config.js";

/** What the names mean on this node: said to the data planes and to whoever listens. */
export class Publisher {
  readonly #planes: DataPlaneGroup;
  readonly #listeners = new Set<(effective: EffectiveConfig) => void>();
  #files: Config;
  #effective: EffectiveConfig;
  #generation = 0;

  constructor(planes: DataPlaneGroup, files: Config) {
    this.#planes = planes;
    this.#files = files;
    this.#effective = { config: files, epochs: {}, adopted: {} };
  }

  get files(): Config {
    return this.#files;
  }

  get effective(): EffectiveConfig {
    return this.#effective;
  }

  /** Called after each change of what the names mean. */
  onChange(listener: (effective: EffectiveConfig) => void): void {
    this.#listeners.add(listener);
  }

  /**
   * Expresses the decisions in these files from now on.
   * @throws ConfigContradictsDecision: what was said before stays in force
   */
  publish(files: Config, migrations: readonly KnownMigration[], silent: ReadonlySet<string>): void {
    const next = effectiveConfig(files, migrations, silent);
    this.#files = files;
    this.#effective = next;
    this.#generation++;
    const { config, epochs } = next;
    this.#planes.broadcast({ kind: "topology", generation: this.#generation, config, epochs });
    for (const listener of this.#listeners) listener(next);
  }
}
