import type { SluiceError } from "../../core/errors.js";
import type { Log } from "../../observe/log.js";
import type { FromDataPlane, OpenTransaction } from "../channel.js";
import { HoldGivenUp } from "../session-errors.js";
import { type Hold, type HoldEffect, HoldMachine, type SessionId } from "./hold.js";

const TICK_MS = 20;
const PROGRESS_MS = 200;
/** A report is for people: the oldest say enough. */
const NAMED_TRANSACTIONS = 3;
/** Waiting sessions go on in groups, so that a release is no stampede on cold servers. */
const RELEASED_AT_ONCE = 32;
const BETWEEN_GROUPS_MS = 1;

/** What a hold knows of a session. */
export interface HeldSession {
  readonly id: SessionId;
  readonly database: string;
  /** The one that is in flight. */
  readonly openTransaction: OpenTransaction;
  /** Its transaction is not waited for. */
  endForHold(): void;
}

interface Parked {
  readonly session: HeldSession;
  readonly go: () => void;
  readonly giveUp: (error: SluiceError) => void;
}

/** Gives the hold machine its clock, its sessions and its voice. */
export class HoldDriver {
  readonly #machine = new HoldMachine();
  readonly #sessions: ReadonlyMap<SessionId, HeldSession>;
  readonly #send: (message: FromDataPlane) => void;
  readonly #log: Log;
  readonly #parked = new Map<SessionId, Parked>();
  /** Holds that the other side waits for, by token, with the time of the last report. */
  readonly #awaited = new Map<string, number>();
  #ticker: NodeJS.Timeout | null = null;
  #isReleasing = false;

  constructor(options: {
    readonly sessions: ReadonlyMap<SessionId, HeldSession>;
    readonly send: (message: FromDataPlane) => void;
    readonly log: Log;
  }) {
    this.#sessions = options.sessions;
    this.#send = options.send;
    this.#log = options.log;
  }

  isHeld(database: string): boolean {
    return this.#machine.isHeld(database);
  }

  /** @param isAnswered whether "held" is to be sent */
  hold(hold: Hold, isAnswered: boolean): void {
    if (isAnswered) this.#awaited.set(hold.token, Date.now());
    this.#apply(this.#machine.hold(hold));
    this.#ticker ??= setInterval(() => this.#tick(), TICK_MS);
  }

  release(token: string): void {
    this.#machine.release(token);
    this.#awaited.delete(token);
    this.#releaseSome();
  }

  /** @returns null: go; else resolves when the session may go. @throws HoldGivenUp by the promise */
  begin(session: HeldSession, bytes: number): Promise<void> | null {
    const { database, id } = session;
    const { answer, effects } = this.#machine.begin(id, { database, bytes, nowMs: Date.now() });
    if (answer === "go") return null;
    return new Promise<void>((go, giveUp) => {
      this.#parked.set(id, { session, go, giveUp });
      this.#apply(effects);
    });
  }

  finish(session: HeldSession): void {
    this.#apply(this.#machine.finish(session.id));
  }

  /** The client is gone or asked for an end of its statement: it waits no longer. */
  unpark(session: HeldSession, error: SluiceError): boolean {
    const parked = this.#parked.get(session.id);
    if (!parked) return false;
    this.#parked.delete(session.id);
    this.#apply(this.#machine.finish(session.id));
    parked.giveUp(error);
    return true;
  }

  stop(): void {
    if (this.#ticker) clearInterval(this.#ticker);
    this.#ticker = null;
  }

  #tick(): void {
    this.#apply(this.#machine.tick(Date.now()));
    const nowMs = Date.now();
    for (const [token, reportedAtMs] of this.#awaited) {
      if (nowMs - reportedAtMs < PROGRESS_MS) continue;
      const progress = this.#machine.progress(token, NAMED_TRANSACTIONS);
      if (!progress || progress.open + progress.waiting === 0) continue;
      this.#awaited.set(token, nowMs);
      this.#send({
        kind: "holding",
        token,
        openTransactions: progress.open,
        waitingClients: progress.waiting,
        oldest: progress.oldest.flatMap((id) => this.#sessions.get(id)?.openTransaction ?? []),
      });
    }
    if (this.#parked.size === 0 && this.#awaited.size === 0) this.stop();
  }

  #releaseSome(): void {
    if (this.#isReleasing) return;
    const ids = this.#machine.takeReleased(RELEASED_AT_ONCE);
    for (const id of ids) {
      const parked = this.#parked.get(id);
      this.#parked.delete(id);
      if (parked) parked.go();
      else this.#apply(this.#machine.finish(id));
    }
    if (ids.length < RELEASED_AT_ONCE) return;
    this.#isReleasing = true;
    setTimeout(() => {
      this.#isReleasing = false;
      this.#releaseSome();
    }, BETWEEN_GROUPS_MS);
  }

  #apply(effects: readonly HoldEffect[]): void {
    for (const effect of effects) {
      switch (effect.kind) {
        case "held":
          if (this.#awaited.has(effect.token)) this.#send({ kind: "held", token: effect.token });
          break;
        case "overflow":
          this.#log.warn("hold passed a bound", { token: effect.token, reason: effect.reason });
          this.#send({ kind: "holdOverflow", token: effect.token, reason: effect.reason });
          break;
        case "giveUp": {
          const parked = this.#parked.get(effect.session);
          this.#parked.delete(effect.session);
          parked?.giveUp(new HoldGivenUp(parked.session.database, effect.reason));
          break;
        }
        case "end":
          this.#sessions.get(effect.session)?.endForHold();
          break;
      }
    }
  }
}
