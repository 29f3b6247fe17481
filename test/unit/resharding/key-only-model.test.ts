import fc from "fast-check";
import { expect, test } from "vitest";
import { Dice, Model, RULES, type Rule, type Shape } from "./key-only-model.js";

/** Two to four is disjoint by itself; no shape lets two rows of a key meet on one shard. */
const SHAPES: readonly Shape[] = [
  { sources: 1, destinations: 2 },
  { sources: 1, destinations: 3 },
  { sources: 2, destinations: 4 },
];
const FACES = fc.array(fc.nat(255), { minLength: 60, maxLength: 160 });

function outcome(faces: readonly number[], shape: Shape, without: Rule | null): string | null {
  const dice = new Dice(faces);
  const model = new Model(dice, shape, without);
  try {
    model.run(dice);
  } catch (error) {
    return String(error);
  }
  return model.difference();
}

test.each(SHAPES)(
  "R9: $sources to $destinations, in every order of lanes, copy and settlements",
  (shape) => {
    fc.assert(
      fc.property(FACES, (faces) => {
        expect(outcome(faces, shape, null)).toBeNull();
      }),
      { numRuns: 6_000 },
    );
  },
);

test.each(RULES)("R9: without the rule '%s' rows are wrong", (rule) => {
  const wrong = SHAPES.some((shape) => {
    const run = fc.check(
      fc.property(FACES, (faces) => outcome(faces, shape, rule) === null),
      { numRuns: 4_000, endOnFailure: true },
    );
    return run.failed;
  });
  expect(wrong).toBe(true);
});
