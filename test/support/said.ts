import { inspect } from "node:util";
import { DefaultFailureConverter, defaultPayloadConverter } from "@temporalio/common";
import { toFailure } from "../../activities/failure.js";
import type { Log } from "../../src/observe/log.js";

/** Values that no one may see outside of the databases, one for each kind of column. */
export const PLANTED = {
  key: "PLANTEDkey7f3a9c",
  text: "PLANTEDtext91bc5d",
  json: "PLANTEDjson4d2e8f",
  bytes: "PLANTEDbytes0c6f1b",
  number: "918273645546372819",
} as const;

const VALUES: readonly string[] = Object.values(PLANTED);

/** Planted values that a text has: as they are, in hexadecimal, or inside of base64 of any alignment. */
export function plantedIn(text: string): readonly string[] {
  const decoded = [...text.matchAll(/[A-Za-z0-9+/]{12,}={0,2}/gu)].map(([run]) =>
    Buffer.from(run, "base64").toString("latin1"),
  );
  // In any case: PostgreSQL folds what it takes for a name.
  const everything = [text, ...decoded].join("\n").toLowerCase();
  return VALUES.filter((value) =>
    [value.toLowerCase(), Buffer.from(value).toString("hex")].some((form) =>
      everything.includes(form),
    ),
  );
}

/** Listens to what the engine lets out: results, errors, logs, heartbeats, and what Temporal would keep of them. */
export class Said {
  readonly #texts: string[] = [];

  readonly log: Log = {
    debug: (...words) => this.note(words),
    info: (...words) => this.note(words),
    warn: (...words) => this.note(words),
    error: (...words) => this.note(words),
    child: () => this.log,
  };

  readonly heartbeat = (progress: unknown): void => this.note(progress);

  note(what: unknown): void {
    this.#texts.push(inspect(what, { depth: 20, showHidden: true, maxStringLength: null }));
    this.#texts.push(String(what), JSON.stringify([what]));
    if (what instanceof Error) this.#noteError(what);
  }

  /** @returns where planted values came out; empty: nowhere */
  leaks(): readonly string[] {
    return this.#texts.filter((text) => plantedIn(text).length > 0);
  }

  #noteError(error: Error): void {
    const own = Object.getOwnPropertyNames(error).map((name) => [name, Reflect.get(error, name)]);
    this.#texts.push(error.stack ?? "", inspect(own, { depth: 20 }));
    const failure = new DefaultFailureConverter().errorToFailure(
      toFailure(error, 99),
      defaultPayloadConverter,
    );
    // Payloads are bytes: as text, and not as a list of numbers.
    this.#texts.push(
      JSON.stringify(failure, (_name, value: unknown) =>
        value instanceof Uint8Array ? Buffer.from(value).toString() : value,
      ),
    );
    if (error.cause instanceof Error) this.#noteError(error.cause);
  }
}
