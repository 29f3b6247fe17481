import { ByteCache } from "../core/byte-cache.js";
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

/**
 * Of one database and data-plane process: what its statements may take in memory at most, in all. A plan keeps what it
 * needs of the tree, which was measured as 20 to 70 bytes a character of the text; texts and keys are strings of two bytes a character at worst.
 */
const BUDGET_BYTES = 64 * 1024 * 1024;
const PLAN_BYTES_PER_CHARACTER = 64;
const TEXT_BYTES_PER_CHARACTER = 2;
const ENTRY_BYTES = 800;
const LONGEST_CACHED = 64 * 1024;

/** One memory for all three, so that one bound holds for them together. The first letter of a key says which it is. */
type Kept<T> =
  | { readonly kind: "exact"; readonly statement: CachedStatement<T> }
  | { readonly kind: "pins"; readonly pins: readonly number[] }
  | { readonly kind: "shape"; readonly value: T };

/**
 * Remembers what was found out about statements, by their text without constants. Bounded in bytes, the longest unused
 * going first.
 */
export class StatementCache<T> {
  readonly #analyze: (sql: string, lifted: LiftedText) => Analyzed<T>;
  readonly #kept: ByteCache<string, Kept<T>>;

  constructor(
    analyze: (sql: string, lifted: LiftedText) => Analyzed<T>,
    budgetBytes: number = BUDGET_BYTES,
  ) {
    this.#analyze = analyze;
    this.#kept = new ByteCache(budgetBytes);
  }

  /** What is counted as taken. */
  get bytes(): number {
    return this.#kept.bytes;
  }

  get(sql: string): CachedStatement<T> {
    const exact = this.#kept.get(`e${sql}`);
    if (exact?.kind === "exact") return exact.statement;
    const lifted = liftLiterals(sql);
    const statement = { value: this.#shape(sql, lifted), lifted };
    // Its plan is counted with the shape.
    if (lifted.spans.length === 0 && sql.length <= LONGEST_CACHED)
      this.#keep(`e${sql}`, { kind: "exact", statement }, sql.length * TEXT_BYTES_PER_CHARACTER);
    return statement;
  }

  #shape(sql: string, lifted: LiftedText): T {
    if (lifted.key.length > LONGEST_CACHED) return this.#analyze(sql, lifted).value;
    const pins = this.#kept.get(`p${lifted.key}`);
    if (pins?.kind === "pins") {
      const known = this.#kept.get(`s${shapeKey(sql, lifted, pins.pins)}`);
      if (known?.kind === "shape") return known.value;
    }
    const { value, pinned } = this.#analyze(sql, lifted);
    this.#keep(`p${lifted.key}`, { kind: "pins", pins: pinned }, pinned.length * 8);
    const planBytes = sql.length * PLAN_BYTES_PER_CHARACTER;
    this.#keep(`s${shapeKey(sql, lifted, pinned)}`, { kind: "shape", value }, planBytes);
    return value;
  }

  #keep(key: string, value: Kept<T>, bytes: number): void {
    this.#kept.set(key, value, ENTRY_BYTES + key.length * TEXT_BYTES_PER_CHARACTER + bytes);
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
