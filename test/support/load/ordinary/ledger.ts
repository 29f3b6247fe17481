import { createHash } from "node:crypto";
import type { ClientHistory } from "../history.js";
import type { Outcome } from "../session.js";
import type { Kind, Turn } from "./script.js";

/** What a client was told about one statement. Times are of `Date.now()`. */
export interface Told {
  readonly outcome: Outcome;
  /** Rows that the answer counted; null: no answer. */
  readonly rows: number | null;
  readonly sentAtMs: number;
  readonly answeredAtMs: number;
}

/** Statements of one kind that meet the same rows. */
export interface Counted {
  readonly acknowledged: number;
  readonly unknown: number;
  /** Of the row counts that were answered. */
  readonly sum: number;
  readonly least: number;
  readonly most: number;
}

/** When a statement that writes `now()` was under way; `toMs` is infinite where no answer came. */
export interface Span {
  readonly fromMs: number;
  readonly toMs: number;
  readonly isAcknowledged: boolean;
}

/**
 * What one client knows about its own writes, and nothing else. Keys say which rows are meant, the same way as
 * in the tables' state: `projects 17 load 42`, `tasks 17/3`.
 */
export interface Ledger {
  /** Rows that only this statement writes; `absent`: acknowledged, and the answer said no row. */
  readonly rows: ReadonlyMap<string, Outcome | "absent">;
  readonly counts: ReadonlyMap<string, Counted>;
  readonly stamps: ReadonlyMap<string, readonly Span[]>;
  /** Sessions that this client has ended, perhaps, and not begun again. */
  readonly ended: ReadonlySet<string>;
}

/** What a client of this load knows: one that does what load.sql does, or one that has a team. */
export type Known =
  | { readonly kind: "script"; readonly ledger: Ledger }
  | { readonly kind: "team"; readonly history: ClientHistory };

/** Rows of a tenant that a statement of load.sql meets together: those whose id has this remainder. */
export const CLASSES = { users: 10, tasks: 50, attachments: 100 } as const;
const FLAGS = 200;
const SESSIONS = 2_000;

export class LedgerBook {
  readonly #rows = new Map<string, Outcome | "absent">();
  readonly #counts = new Map<string, Counted>();
  readonly #stamps = new Map<string, Span[]>();
  readonly #ended = new Set<string>();

  /** Whether the statement writes anything that has to be remembered. */
  static remembers(kind: Kind): boolean {
    return kind !== "list tasks";
  }

  note(kind: Kind, turn: Turn, told: Told): void {
    const { tenant, n } = turn;
    const inClass = (table: keyof typeof CLASSES) => `${table} ${tenant}/${n % CLASSES[table]}`;
    switch (kind) {
      case "add project":
        this.#row(`projects ${tenant} load ${n}`, told);
        break;
      case "comment":
        this.#row(`comments ${tenant} load ${n}`, told);
        break;
      case "sign up":
        this.#row(`tenants signup-${n}`, told);
        break;
      case "log":
        this.#count(`audit_log ${tenant}`, told);
        break;
      case "log in":
        this.#count(inClass("users"), told);
        this.#stamp(inClass("users"), told);
        break;
      case "finish tasks":
        this.#count(inClass("tasks"), told);
        break;
      case "drop attachments":
        this.#count(inClass("attachments"), told);
        break;
      case "toggle flag":
        this.#count(`feature_flags flag-${n % FLAGS}`, told);
        this.#stamp(`feature_flags flag-${n % FLAGS}`, told);
        break;
      case "begin session":
        this.#stamp(sessionKey(n), told);
        if (told.outcome === "acknowledged") this.#ended.delete(sessionKey(n));
        break;
      case "end session":
        this.#ended.add(sessionKey(n));
        break;
      case "list tasks":
        break;
    }
  }

  /** Whether this client has finished that task of a tenant, and was told so. */
  hasFinished(tenant: number, task: bigint): boolean {
    const key = `tasks ${tenant}/${task % BigInt(CLASSES.tasks)}`;
    return (this.#counts.get(key)?.acknowledged ?? 0) > 0;
  }

  snapshot(): Ledger {
    return {
      rows: new Map(this.#rows),
      counts: new Map(this.#counts),
      stamps: new Map([...this.#stamps].map(([key, spans]) => [key, [...spans]])),
      ended: new Set(this.#ended),
    };
  }

  #row(key: string, { outcome, rows }: Told): void {
    this.#rows.set(key, outcome === "acknowledged" && rows === 0 ? "absent" : outcome);
  }

  #count(key: string, { outcome, rows }: Told): void {
    const before = this.#counts.get(key) ?? NOTHING_COUNTED;
    const isKnown = outcome === "acknowledged" && rows !== null;
    this.#counts.set(key, {
      ...before,
      [outcome]: before[outcome] + 1,
      ...(isKnown
        ? {
            sum: before.sum + rows,
            least: Math.min(before.least, rows),
            most: Math.max(before.most, rows),
          }
        : {}),
    });
  }

  #stamp(key: string, { outcome, sentAtMs, answeredAtMs }: Told): void {
    const isAcknowledged = outcome === "acknowledged";
    const toMs = isAcknowledged ? answeredAtMs : Number.POSITIVE_INFINITY;
    const spans = this.#stamps.get(key) ?? [];
    spans.push({ fromMs: sentAtMs, toMs, isAcknowledged });
    this.#stamps.set(key, spans);
  }
}

const NOTHING_COUNTED: Counted = {
  acknowledged: 0,
  unknown: 0,
  sum: 0,
  least: Number.POSITIVE_INFINITY,
  most: 0,
};

/** As one client's: what all of them know. */
export function together(ledgers: readonly Ledger[]): Ledger {
  const rows = new Map<string, Outcome | "absent">();
  const counts = new Map<string, Counted>();
  const stamps = new Map<string, readonly Span[]>();
  for (const ledger of ledgers) {
    for (const [key, outcome] of ledger.rows) rows.set(key, outcome);
    for (const [key, spans] of ledger.stamps)
      stamps.set(key, [...(stamps.get(key) ?? []), ...spans]);
    for (const [key, more] of ledger.counts) {
      const sofar = counts.get(key) ?? NOTHING_COUNTED;
      counts.set(key, {
        acknowledged: sofar.acknowledged + more.acknowledged,
        unknown: sofar.unknown + more.unknown,
        sum: sofar.sum + more.sum,
        least: Math.min(sofar.least, more.least),
        most: Math.max(sofar.most, more.most),
      });
    }
  }
  const ended = new Set(ledgers.flatMap((ledger) => [...ledger.ended]));
  return { rows, counts, stamps, ended };
}

function sessionKey(n: number): string {
  return `sessions ${createHash("md5")
    .update(String(n % SESSIONS))
    .digest("hex")}`;
}
