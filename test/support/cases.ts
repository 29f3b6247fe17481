const FACTOR = Number(process.env.SLUICE_TEST_CASES ?? 1);

/** How many cases a property is tried with: `count` in `npm test`, a multiple in `npm run test:full`. */
export function cases(count: number): number {
  return count * FACTOR;
}
