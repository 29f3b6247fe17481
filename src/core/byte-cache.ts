/**
 * What may be forgotten, within a number of bytes: the longest unused goes first. The one class for everything that is
 * kept by what clients write, so that no text of theirs makes a process grow for good.
 */
export class ByteCache<K, V> {
  readonly #budget: number;
  readonly #onEvict: (value: V) => void;
  /** The longest unused first. */
  readonly #entries = new Map<K, { readonly value: V; readonly bytes: number }>();
  #bytes = 0;

  /** @param onEvict hears of what went to make room; not of what was deleted */
  constructor(budgetBytes: number, onEvict: (value: V) => void = () => {}) {
    this.#budget = budgetBytes;
    this.#onEvict = onEvict;
  }

  get size(): number {
    return this.#entries.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Counts as a use. */
  get(key: K): V | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry.value;
  }

  /** @param bytes that it takes in memory, its key too; what is larger than the budget by itself is not kept */
  set(key: K, value: V, bytes: number): void {
    this.delete(key);
    if (bytes > this.#budget) {
      this.#onEvict(value);
      return;
    }
    this.#entries.set(key, { value, bytes });
    this.#bytes += bytes;
    for (const [oldest, entry] of this.#entries) {
      if (this.#bytes <= this.#budget) return;
      this.delete(oldest);
      this.#onEvict(entry.value);
    }
  }

  delete(key: K): void {
    this.#bytes -= this.#entries.get(key)?.bytes ?? 0;
    this.#entries.delete(key);
  }
}
