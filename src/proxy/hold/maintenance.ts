/**
 * The operator's MAINTENANCE flags: a general one and one per database. A database is in maintenance while
 * either is up, so taking one down leaves the other in force. Taking the general one down takes down all.
 */
export class Maintenance {
  #isGeneral = false;
  readonly #databases = new Set<string>();
  /** As `reconcile` left them. */
  #held: ReadonlySet<string> = new Set();

  /** @param database null: the general flag */
  set(isOn: boolean, database: string | null): void {
    if (database === null) {
      this.#isGeneral = isOn;
      if (!isOn) this.#databases.clear();
    } else if (isOn) this.#databases.add(database);
    else this.#databases.delete(database);
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
    this.#held = new Set([...this.#databases, ...(this.#isGeneral ? names : [])]);
    return {
      hold: [...this.#held].filter((name) => !before.has(name)),
      release: [...before].filter((name) => !this.#held.has(name)),
    };
  }
}
