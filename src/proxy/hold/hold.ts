/**
 * Who may start a transaction, and who waits. Pure: no clock, no I/O; time is an argument and what is to
 * be done comes back as effects.
 *
 *     hold(token, databases)        every later `begin` there waits
 *       | in flight > 0             running transactions finish, or are ended
 *       | in flight = 0  ------->   effect "held", once, and again for each repetition
 *     release(token)                waiting sessions become `takeReleased`, oldest first
 *
 * Never: "held" while something is in flight; `begin` answering "go" under a hold; a hold that ends by
 * itself (`tick` gives up waiting *clients*, never the hold).
 */
export interface Hold {
  readonly token: string;
  readonly databases: readonly string[];
  /** "end": running transactions are ended instead of awaited. */
  readonly openTransactions: "wait" | "end";
  /** How long one client waits before it gets a retryable error; null: for ever (MAINTENANCE, PAUSE). */
  readonly clientTimeoutMs: number | null;
  readonly maxClients: number;
  readonly maxBytes: number;
}

export type SessionId = number;

export type HoldEffect =
  /** Nothing of the hold's databases is in flight, and nothing will be. */
  | { readonly kind: "held"; readonly token: string }
  | { readonly kind: "overflow"; readonly token: string; readonly reason: string }
  /** This client waits no longer: retryable error, its statement was not sent. */
  | { readonly kind: "giveUp"; readonly session: SessionId; readonly reason: string }
  | { readonly kind: "end"; readonly session: SessionId };

interface HoldProgress {
  readonly open: number;
  readonly waiting: number;
  /** In flight for longest, the oldest first. */
  readonly oldest: readonly SessionId[];
}

interface Waiting {
  readonly database: string;
  readonly bytes: number;
  readonly sinceMs: number;
}

interface ActiveHold {
  readonly hold: Hold;
  hasAnswered: boolean;
}

export class HoldMachine {
  readonly #holds = new Map<string, ActiveHold>();
  /** In the order of their starts: the first is the oldest. */
  readonly #inFlight = new Map<SessionId, string>();
  readonly #inFlightCount = new Map<string, number>();
  /** In the order of arrival: the first is the oldest. */
  readonly #waiting = new Map<SessionId, Waiting>();
  /** Sum over `#waiting`. */
  #waitingBytes = 0;

  isHeld(database: string): boolean {
    for (const { hold } of this.#holds.values()) if (hold.databases.includes(database)) return true;
    return false;
  }

  inFlightCount(database: string): number {
    return this.#inFlightCount.get(database) ?? 0;
  }

  /**
   * Of a hold's databases: what "says why it waits".
   * @param most of the oldest open ones that are named
   */
  progress(token: string, most: number): HoldProgress | null {
    const active = this.#holds.get(token);
    if (!active) return null;
    const { hold } = active;
    const oldest: SessionId[] = [];
    for (const [session, database] of this.#inFlight) {
      if (oldest.length === most) break;
      if (hold.databases.includes(database)) oldest.push(session);
    }
    return { open: this.#openUnder(hold), waiting: this.#waitersUnder(hold).length, oldest };
  }

  hold(hold: Hold): readonly HoldEffect[] {
    const known = this.#holds.get(hold.token);
    if (known) known.hasAnswered = false;
    else this.#holds.set(hold.token, { hold, hasAnswered: false });
    const ended: HoldEffect[] = [];
    if (hold.openTransactions === "end")
      for (const [session, database] of this.#inFlight)
        if (hold.databases.includes(database)) ended.push({ kind: "end", session });
    return [...ended, ...this.#answer()];
  }

  /** Waiting sessions under no other hold become `takeReleased`. Unknown tokens are ignored. */
  release(token: string): void {
    this.#holds.delete(token);
  }

  /**
   * A session wants to start a transaction of which nothing has been sent.
   * @param bytes of its request, which we keep while it waits
   */
  begin(
    session: SessionId,
    wish: { readonly database: string; readonly bytes: number; readonly nowMs: number },
  ): { readonly answer: "go" | "wait"; readonly effects: readonly HoldEffect[] } {
    const { database, bytes, nowMs } = wish;
    if (!this.isHeld(database)) {
      this.#fly(session, database);
      return { answer: "go", effects: [] };
    }
    this.#waiting.set(session, { database, bytes, sinceMs: nowMs });
    this.#waitingBytes += bytes;
    return { answer: "wait", effects: this.#enforceBounds(database) };
  }

  /** The transaction ended and its servers were given back, or the waiting or running client is gone. */
  finish(session: SessionId): readonly HoldEffect[] {
    this.#stopWaiting(session);
    const database = this.#inFlight.get(session);
    if (database === undefined) return [];
    this.#inFlight.delete(session);
    this.#inFlightCount.set(database, this.inFlightCount(database) - 1);
    return this.#answer();
  }

  /** The oldest waiting sessions that nothing holds any more, at most `count`: they are in flight now. */
  takeReleased(count: number): readonly SessionId[] {
    const taken: SessionId[] = [];
    for (const [session, { database }] of this.#waiting) {
      if (taken.length === count) break;
      if (!this.isHeld(database)) taken.push(session);
    }
    for (const session of taken) {
      const database = this.#waiting.get(session)?.database ?? "";
      this.#stopWaiting(session);
      this.#fly(session, database);
    }
    return taken;
  }

  /** Gives up clients that have waited too long. Ends no hold. */
  tick(nowMs: number): readonly HoldEffect[] {
    const effects: HoldEffect[] = [];
    for (const [session, { database, sinceMs }] of this.#waiting) {
      const timeoutMs = this.#clientTimeoutMs(database);
      if (timeoutMs === null || nowMs - sinceMs < timeoutMs) continue;
      effects.push({ kind: "giveUp", session, reason: `it waited ${timeoutMs} ms` });
    }
    for (const effect of effects) if (effect.kind === "giveUp") this.#stopWaiting(effect.session);
    return effects;
  }

  #fly(session: SessionId, database: string): void {
    this.#inFlight.set(session, database);
    this.#inFlightCount.set(database, this.inFlightCount(database) + 1);
  }

  #stopWaiting(session: SessionId): void {
    const waiting = this.#waiting.get(session);
    if (!waiting) return;
    this.#waiting.delete(session);
    this.#waitingBytes -= waiting.bytes;
  }

  #answer(): readonly HoldEffect[] {
    const effects: HoldEffect[] = [];
    for (const active of this.#holds.values()) {
      if (active.hasAnswered || this.#openUnder(active.hold) > 0) continue;
      active.hasAnswered = true;
      effects.push({ kind: "held", token: active.hold.token });
    }
    return effects;
  }

  #enforceBounds(database: string): readonly HoldEffect[] {
    const effects: HoldEffect[] = [];
    for (const { hold } of this.#holds.values()) {
      if (!hold.databases.includes(database)) continue;
      // The walk is only for when a bound may be passed.
      if (this.#waiting.size <= hold.maxClients && this.#waitingBytes <= hold.maxBytes) continue;
      const waiters = this.#waitersUnder(hold);
      let clients = waiters.length;
      let bytes = waiters.reduce((sum, [, waiting]) => sum + waiting.bytes, 0);
      for (const [session, waiting] of waiters) {
        const reason = overflowOf(hold, clients, bytes);
        if (reason === null) break;
        if (effects.length === 0) effects.push({ kind: "overflow", token: hold.token, reason });
        effects.push({ kind: "giveUp", session, reason });
        this.#stopWaiting(session);
        clients--;
        bytes -= waiting.bytes;
      }
    }
    return effects;
  }

  #openUnder(hold: Hold): number {
    return hold.databases.reduce((sum, database) => sum + this.inFlightCount(database), 0);
  }

  #waitersUnder(hold: Hold): readonly (readonly [SessionId, Waiting])[] {
    return [...this.#waiting].filter(([, { database }]) => hold.databases.includes(database));
  }

  #clientTimeoutMs(database: string): number | null {
    let least: number | null = null;
    for (const { hold } of this.#holds.values()) {
      if (!hold.databases.includes(database) || hold.clientTimeoutMs === null) continue;
      least = least === null ? hold.clientTimeoutMs : Math.min(least, hold.clientTimeoutMs);
    }
    return least;
  }
}

function overflowOf(hold: Hold, clients: number, bytes: number): string | null {
  if (clients > hold.maxClients) return `more than ${hold.maxClients} clients wait`;
  if (bytes > hold.maxBytes) return `more than ${hold.maxBytes} bytes wait`;
  return null;
}
