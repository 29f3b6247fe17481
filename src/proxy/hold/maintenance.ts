/**
 * The operator's MAINTENANCE flags: a general one (null) and one per database. Taking the general one down
 * takes down all.
 */
export class MaintenanceFlags {
  readonly #up = new Set<string | null>();

  /** @param database null: the general flag */
  set(isOn: boolean, database: string | null): void {
    if (isOn) this.#up.add(database);
    else if (database === null) this.#up.clear();
    else this.#up.delete(database);
  }

  get up(): ReadonlySet<string | null> {
    return this.#up;
  }
}

/**
 * The databases that are held for maintenance: while either flag of theirs is up, so that taking one down
 * leaves the other in force.
 */
export class Maintenance {
  readonly #flags = new MaintenanceFlags();
  /** As `reconcile` left them. */
  #held: ReadonlySet<string> = new Set();

  /** @param database null: the general flag */
  set(isOn: boolean, database: string | null): void {
    this.#flags.set(isOn, database);
  }

  /**
   * What to do so that exactly the databases in maintenance are held: after every `set`, and when databases
   * come or go, as the general flag is up for those that come, too.
   * @param names databases that are served
   */
  reconcile(names: readonly string[]): {
    readonly hold: readonly string[];
    readonly release: readonly string[];
  } {
    const before = this.#held;
    const { up } = this.#flags;
    const own = [...up].filter((name) => name !== null);
    this.#held = new Set([...own, ...(up.has(null) ? names : [])]);
    return {
      hold: [...this.#held].filter((name) => !before.has(name)),
      release: [...before].filter((name) => !this.#held.has(name)),
    };
  }
}
