import { encodeParameterStatus } from "../../wire/backend.js";

/**
 * What a client believes of its session by ParameterStatus. Its servers change under it, so theirs are not passed on
 * as they come: before each ReadyForQuery the client is told what is other than it was told.
 */
export class ClientParameters {
  readonly #told = new Map<string, string>();
  #greeting: ReadonlyMap<string, string> = new Map();

  /** At the login. */
  greeted(parameters: ReadonlyMap<string, string>): void {
    this.#greeting = new Map(parameters);
    for (const [name, value] of parameters) this.#told.set(name, value);
  }

  /**
   * What the client is to hear of a server that it has; after this it counts as told.
   * @param isSettling of those that are about to have another value again
   */
  news(
    parameters: ReadonlyMap<string, string>,
    isSettling: (name: string) => boolean,
  ): Buffer | null {
    let news: Buffer[] | null = null;
    for (const [name, value] of parameters) {
      if (this.#told.get(name) === value || isSettling(name)) continue;
      this.#told.set(name, value);
      news ??= [];
      news.push(encodeParameterStatus(name, value));
    }
    return news && Buffer.concat(news);
  }

  /** As after DISCARD ALL: what is as it was at the login again. */
  restarted(): Buffer | null {
    return this.news(this.#greeting, () => false);
  }
}
