import type { SluiceError } from "../core/errors.js";
import { BACKEND } from "../wire/backend.js";
import { ServerConnection } from "./server-connection.js";
import type { ServerLink, ServerReceiver } from "./server-link.js";

/** A statement whose client has left may end by itself for so long, as it would on PostgreSQL; then it is cancelled. */
const GRACE_MS = 100;
/** All of it; what takes longer is closed. */
const MENDING_TIMEOUT_MS = 5_000;

/**
 * Brings a session to rest that was given back with something open: what is owed comes in and is thrown away, what
 * runs on is cancelled, a transaction is rolled back. Where something was in flight nobody has read what it did to
 * the session, which is as good as soiled: it gets DISCARD ALL. Ends within 5 s. Never throws.
 * @returns false when it did not come to rest: it is to be closed
 */
export async function mend(link: ServerLink): Promise<boolean> {
  // A hint that reading was stopped for a slow client must not outlive that client.
  link.resume();
  if (link.isOwing) link.isSoiled = true;
  const timer = setTimeout(() => link.destroy(), MENDING_TIMEOUT_MS);
  try {
    await settle(link);
    const own = new ServerConnection(link, () => null);
    if (link.isIdleInTransaction) await own.query("ROLLBACK");
    if (!link.isKnown && !link.isIdleInTransaction) {
      const { error } = await own.query("DISCARD ALL");
      if (error) return false;
      link.forgetSession();
    }
    own.giveBack();
    return link.isAtRest;
  } catch {
    // Lost meanwhile.
    return false;
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves when nothing is owed, and no request to cancel could hit what comes next. @throws when it is lost */
async function settle(link: ServerLink): Promise<void> {
  if (link.isOwing) {
    const grace = setTimeout(() => void link.cancel(), GRACE_MS);
    try {
      await new Promise<void>((resolve, reject) => {
        link.receiver = new Settling(link, resolve, reject);
        link.conclude();
      });
    } finally {
      clearTimeout(grace);
      link.receiver = null;
    }
  }
  while (link.cancelling) await link.cancelling;
}

class Settling implements ServerReceiver {
  readonly #link: ServerLink;
  readonly #resolve: () => void;
  readonly #reject: (error: SluiceError) => void;

  constructor(link: ServerLink, resolve: () => void, reject: (error: SluiceError) => void) {
    this.#link = link;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  frame(type: number): void {
    if (type === BACKEND.copyInResponse) this.#link.conclude();
  }

  chunkEnd(): void {
    if (!this.#link.isOwing) this.#resolve();
  }

  drained(): void {}
  closed(error: SluiceError): void {
    this.#reject(error);
  }
}
