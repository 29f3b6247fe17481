/** Kept for so many users and start-up settings. */
const MOST_GREETINGS = 1_000;

/**
 * What servers say of themselves at login (ParameterStatus), by user and start-up settings: TimeZone, DateStyle and
 * standard_conforming_strings are the role's as much as the server's. Kept so that clients can log in without a server.
 */
export class Greetings {
  #known = new Map<string, ReadonlyMap<string, string>>();

  of(user: string, settings: ReadonlyMap<string, string>): ReadonlyMap<string, string> | null {
    return this.#known.get(keyOf(user, settings)) ?? null;
  }

  learn(
    user: string,
    settings: ReadonlyMap<string, string>,
    parameters: ReadonlyMap<string, string>,
  ): void {
    if (this.#known.size >= MOST_GREETINGS) this.#known.clear();
    this.#known.set(keyOf(user, settings), new Map(parameters));
  }

  /** The servers, or what they say to whom, may have changed. */
  forget(): void {
    this.#known.clear();
  }

  /** Of the same servers. */
  inherit(from: Greetings): void {
    this.#known = new Map(from.#known);
  }
}

function keyOf(user: string, settings: ReadonlyMap<string, string>): string {
  const asked = [...settings].filter(([name]) => name !== "application_name").sort();
  return JSON.stringify([user, asked]);
}
