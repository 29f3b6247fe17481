/** A connection that has not proved who it is. */
interface PendingLogin {
  readonly address: string;
  /** Its place goes to another. */
  readonly giveUp: () => void;
}

/**
 * Connections that have not proved who they are, up to a number. Past it the address that has most of them loses its
 * oldest: whoever opens many and says nothing takes places from himself, and others log in beside him.
 */
export class PendingLogins {
  readonly #most: number;
  readonly #byAddress = new Map<string, Set<PendingLogin>>();
  #count = 0;

  constructor(most: number) {
    this.#most = most;
  }

  get count(): number {
    return this.#count;
  }

  /** @returns to be called when it has proved who it is, or is gone */
  add(login: PendingLogin): () => void {
    if (this.#count >= this.#most) this.#makeRoom();
    const { address } = login;
    const own = this.#byAddress.get(address) ?? new Set();
    this.#byAddress.set(address, own);
    own.add(login);
    this.#count++;
    return () => this.#remove(login);
  }

  #makeRoom(): void {
    let largest: ReadonlySet<PendingLogin> | null = null;
    for (const logins of this.#byAddress.values())
      if (logins.size > (largest?.size ?? 0)) largest = logins;
    const [oldest] = largest ?? [];
    if (!oldest) return;
    this.#remove(oldest);
    oldest.giveUp();
  }

  #remove(login: PendingLogin): void {
    const own = this.#byAddress.get(login.address);
    if (!own?.delete(login)) return;
    this.#count--;
    if (own.size === 0) this.#byAddress.delete(login.address);
  }
}
