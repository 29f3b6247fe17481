import { type LiftedText, liftLiterals } from "./literals.js";

/** What an analysis has learnt from the constants themselves: it holds only where they are the same. */
export interface Analyzed<T> {
  readonly value: T;
  /** Numbers of the constants that the analysis looked at. */
  readonly pinned: readonly number[];
}

export interface CachedStatement<T> {
  readonly value: T;
  readonly lifted: LiftedText;
}

/** Texts without constants (those of prepared statements), by the text itself; and shapes, each. */
const DEFAULT_ENTRIES = 10_000;
const LONGEST_CACHED = 64 * 1024;

/**
 * Remembers what was found out about statements, by their text without constants. Bounded: two
 * generations, the older dropped when the younger is full, so that a hit costs no re-ordering and what
 * was used in the last half of the entries stays.
 */
export class StatementCache<T> {
  readonly #analyze: (sql: string, lifted: LiftedText) => Analyzed<T>;
  readonly #exact: Generations<CachedStatement<T>>;
  readonly #pins: Generations<readonly number[]>;
  readonly #shapes: Generations<T>;

  constructor(
    analyze: (sql: string, lifted: LiftedText) => Analyzed<T>,
    entries: number = DEFAULT_ENTRIES,
  ) {
    this.#analyze = analyze;
    this.#exact = new Generations(entries);
    this.#pins = new Generations(entries);
    this.#shapes = new Generations(entries);
  }

  get(sql: string): CachedStatement<T> {
    const exact = this.#exact.get(sql);
    if (exact !== undefined) return exact;
    const lifted = liftLiterals(sql);
    const found = { value: this.#shape(sql, lifted), lifted };
    if (lifted.spans.length === 0 && sql.length <= LONGEST_CACHED) this.#exact.set(sql, found);
    return found;
  }

  #shape(sql: string, lifted: LiftedText): T {
    if (lifted.key.length > LONGEST_CACHED) return this.#analyze(sql, lifted).value;
    const pins = this.#pins.get(lifted.key);
    if (pins !== undefined) {
      const known = this.#shapes.get(shapeKey(sql, lifted, pins));
      if (known !== undefined) return known;
    }
    const { value, pinned } = this.#analyze(sql, lifted);
    this.#pins.set(lifted.key, pinned);
    this.#shapes.set(shapeKey(sql, lifted, pinned), value);
    return value;
  }
}

function shapeKey(sql: string, lifted: LiftedText, pins: readonly number[]): string {
  let key = lifted.key;
  // A zero character cannot be in SQL, so nothing else makes this key.
  for (const pin of pins) {
    key += `\0${pin}:${sql.slice(lifted.spans[pin * 2], lifted.spans[pin * 2 + 1])}`;
  }
  return key;
}

class Generations<V> {
  readonly #half: number;
  #young = new Map<string, V>();
  #old = new Map<string, V>();

  constructor(entries: number) {
    this.#half = Math.max(1, entries >> 1);
  }

  get(key: string): V | undefined {
    const young = this.#young.get(key);
    if (young !== undefined) return young;
    const old = this.#old.get(key);
    if (old !== undefined) this.set(key, old);
    return old;
  }

  set(key: string, value: V): void {
    if (this.#young.size >= this.#half) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(key, value);
  }
}
