/** A small generator with a seed (mulberry32), so that a run can be repeated. */
export interface Random {
  /** From 0 below 1. */
  next(): number;
  /** A whole number from 0 below `limit`. */
  below(limit: number): number;
  pick<T>(from: readonly T[]): T | undefined;
  uuid(): string;
}

export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (limit: number) => Math.floor(next() * limit);
  const hex = (digits: number) =>
    Array.from({ length: digits }, () => below(16).toString(16)).join("");
  return {
    next,
    below,
    pick: (from) => from[below(from.length)],
    uuid: () => `${hex(8)}-${hex(4)}-4${hex(3)}-${"89ab"[below(4)]}${hex(3)}-${hex(12)}`,
  };
}

/** One of them, as often as its weight says. */
export function chooseWeighted<T extends readonly [weight: number, ...rest: unknown[]]>(
  random: Random,
  from: readonly T[],
): T {
  let at = random.below(from.reduce((sum, [weight]) => sum + weight, 0));
  for (const one of from) {
    at -= one[0];
    if (at < 0) return one;
  }
  throw new Error("weights do not add up");
}
