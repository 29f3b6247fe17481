import { randomInt, timingSafeEqual } from "node:crypto";
import type { CancelKey } from "../client/login.js";
import type { Session } from "./session.js";

/** The sessions of a data plane, by the process ids that their clients were told, with the keys to cancel them. */
export class Sessions {
  readonly #byId = new Map<number, Session>();
  readonly #keys = new Map<number, CancelKey>();

  get byId(): ReadonlyMap<number, Session> {
    return this.#byId;
  }

  get all(): readonly Session[] {
    return [...this.#byId.values()];
  }

  get count(): number {
    return this.#byId.size;
  }

  freeId(): number {
    for (;;) {
      // Random, so that the data planes of a node hardly ever have the same.
      const id = randomInt(1, 0x7fffffff);
      if (!this.#byId.has(id)) return id;
    }
  }

  add(session: Session, key: CancelKey): void {
    this.#byId.set(session.id, session);
    this.#keys.set(session.id, key);
  }

  remove({ id }: Session): void {
    this.#byId.delete(id);
    this.#keys.delete(id);
  }

  has(processId: number): boolean {
    return this.#keys.has(processId);
  }

  /** Whose CancelRequest this is; null: nobody's. */
  withKey(processId: number, secret: Buffer): Session | null {
    const key = this.#keys.get(processId);
    if (!key || key.secret.length !== secret.length || !timingSafeEqual(key.secret, secret))
      return null;
    return this.#byId.get(processId) ?? null;
  }
}
