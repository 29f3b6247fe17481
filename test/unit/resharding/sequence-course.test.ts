import fc from "fast-check";
import { expect, test } from "vitest";
import type { SequenceFacts } from "../../../src/resharding/preflight/sequence-facts.js";
import {
  extremeLimit,
  plotCourse,
  type SequenceReading,
  type SequenceSetting,
} from "../../../src/resharding/switch/sequence-course.js";

const NONE = { most: 0n, share: 1n };
const SOME = { most: 100n, share: 100n };

function reading(
  facts: Partial<SequenceFacts> = {},
  state: Partial<SequenceReading["state"]> = {},
  ownIncrement: bigint | null = null,
): SequenceReading {
  const increment = facts.increment ?? 1n;
  const sign = increment < 0n ? -1n : 1n;
  return {
    facts: {
      oid: 1,
      fate: "travels",
      schema: "public",
      name: "s",
      type: "bigint",
      start: sign,
      increment,
      min: sign > 0n ? 1n : -(2n ** 63n),
      max: sign > 0n ? 2n ** 63n - 1n : -1n,
      cache: 1n,
      cycles: false,
      isFeeding: false,
      columns: [],
      ...facts,
    },
    state: { last: facts.start ?? sign, isCalled: false, ...state },
    ownIncrement,
  };
}

function plot(given: readonly SequenceReading[], shards: number, margin = NONE) {
  const to = Array.from({ length: shards }, () => null);
  const course = plotCourse({
    given: { readings: given, extremes: [] },
    ...{ to, needed: margin, wanted: margin },
  });
  if (course.kind === "impossible") throw new Error(course.reason);
  return course.settings.map((setting) => {
    if (!setting) throw new Error("no setting");
    return setting;
  });
}

/** As the server would be after the setting. */
function asSet(setting: SequenceSetting, isCalled = false): SequenceReading {
  const { next, ownIncrement, ...facts } = setting;
  return reading(facts, { last: next ?? setting.max, isCalled }, ownIncrement);
}

/** What PostgreSQL gives out after the setting, as long as there is something. */
function draw(setting: SequenceSetting, count: number): bigint[] {
  const values: bigint[] = [];
  let next = setting.next;
  while (next !== null && values.length < count) {
    values.push(next);
    next += setting.increment;
    const isOver = next > setting.max || next < setting.min;
    if (isOver && !setting.cycles) break;
    if (isOver) next = setting.increment > 0n ? setting.min : setting.max;
  }
  return values;
}

test("R49: n shards are one old increment apart and count in n of them", () => {
  const course = plot([reading({ increment: 50n }, { last: 501n, isCalled: true })], 3);
  expect(course.map(({ next, increment }) => [next, increment])).toEqual([
    [601n, 150n],
    [651n, 150n],
    [551n, 150n],
  ]);
});

test("R35: of a sequence that was set and not used, the first id is free still", () => {
  const course = plot([reading({}, { last: 500n, isCalled: false })], 1);
  expect(course.map(({ next }) => next)).toEqual([500n]);
});

test("R49: an increment that we made is not multiplied again", () => {
  const first = plot([reading({ increment: 5n }, { last: 101n, isCalled: true })], 2);
  const second = plot(
    first.map((setting) => asSet(setting)),
    4,
  );
  expect(second.map(({ increment }) => increment)).toEqual([20n, 20n, 20n, 20n]);
  const back = plot(
    second.map((setting) => asSet(setting)),
    1,
  );
  expect(back.map(({ increment, start }) => [increment, start])).toEqual([[5n, 1n]]);
});

test("R35: a sequence that is right stays, one that lags is set", () => {
  const given = { readings: [reading({}, { last: 700n, isCalled: true })], extremes: [] };
  const [first, second] = plot(given.readings, 2, SOME);
  if (!first || !second) throw new Error("two shards");
  const to = [asSet(first), asSet({ ...second, next: 601n })];
  const course = plotCourse({ given, to, needed: NONE, wanted: SOME });
  expect(course).toMatchObject({ kind: "plotted", settings: [null, { increment: 2n }] });
});

test("R35: ids in columns count; one that would end the sequence does not", () => {
  const column = {
    ...{ schema: "public", table: "t", column: "id" },
    ...({ type: "integer", isIndexed: true, isIdentity: false } as const),
  };
  const facts = { ...reading().facts, max: 2n ** 31n - 1n, columns: [column] };
  const state = { last: 501n, isCalled: true };
  const limit = extremeLimit({ facts, state }, column);
  expect(limit).toBeGreaterThan(1_000_000_000n);
  expect(limit).toBeLessThan(2_000_000_000n);
  const given = { readings: [{ facts, state, ownIncrement: null }], extremes: [900_001n] };
  const course = plotCourse({ given, to: [null, null], needed: NONE, wanted: NONE });
  expect(course).toMatchObject({ settings: [{ next: 900_003n }, { next: 900_002n }] });
});

test("a sequence at its end has none left for some shards, and nextval says so there", () => {
  const course = plot([reading({ max: 100n }, { last: 99n, isCalled: true })], 2, SOME);
  expect(course.map(({ next }) => next)).toEqual([null, 100n]);
});

test("what cannot be shared is said", () => {
  const to = [null, null];
  const plotOf = (readings: readonly SequenceReading[]) =>
    plotCourse({ given: { readings, extremes: [] }, to, needed: NONE, wanted: NONE });
  expect(plotOf([reading(), reading({ increment: -1n })])).toMatchObject({ kind: "impossible" });
  expect(plotOf([reading({ cycles: true, max: 1n })])).toMatchObject({ kind: "impossible" });
});

const anySequence = fc
  .record({
    increment: fc.integer({ min: -60, max: 60 }).filter((n) => n !== 0),
    low: fc.integer({ min: -40, max: 5 }),
    width: fc.integer({ min: 200, max: 30_000 }),
    startAt: fc.nat({ max: 100 }),
    at: fc.nat({ max: 199 }),
    isCalled: fc.boolean(),
    cycles: fc.boolean(),
    shards: fc.integer({ min: 1, max: 5 }),
    from: fc.integer({ min: 1, max: 3 }),
  })
  .filter(
    ({ cycles, width, increment, shards }) => !cycles || width > Math.abs(increment) * shards,
  );

test("R35 R49: blocks never meet, whatever the sequence and however often it moves", () => {
  fc.assert(
    fc.property(anySequence, (one) => {
      const [min, max] = [BigInt(one.low), BigInt(one.low + one.width)];
      const up = one.increment > 0;
      const facts = {
        ...{ min, max, cycles: one.cycles, increment: BigInt(one.increment) },
        start: up ? min + BigInt(one.startAt) : max - BigInt(one.startAt),
      };
      const last = up ? min + BigInt(one.at) : max - BigInt(one.at);
      const width = BigInt(Math.abs(one.increment));
      let given = Array.from({ length: one.from }, () =>
        reading(facts, { last, isCalled: one.isCalled }),
      );
      for (const shards of [one.shards, one.from, one.shards]) {
        const highest = given
          .map(({ state }) => (state.isCalled ? state.last : null))
          .filter((value) => value !== null);
        const settings = plot(given, shards, SOME);
        const taken = settings.map((setting) => draw(setting, 40));
        for (const setting of settings) {
          expect(setting.increment).toBe(facts.increment * BigInt(shards));
          if (setting.next !== null) {
            expect(setting.next >= setting.min && setting.next <= setting.max).toBe(true);
            expect(setting.min >= min && setting.max <= max).toBe(true);
          }
        }
        // Between shards: no two values nearer than a block.
        const owners = taken.flatMap((values, shard) => values.map((value) => ({ value, shard })));
        const sorted = owners.toSorted((a, b) => (a.value < b.value ? -1 : 1));
        const near = sorted.filter((a, index) => {
          const b = sorted[index + 1];
          return b !== undefined && b.shard !== a.shard && b.value - a.value < width;
        });
        expect(near).toEqual([]);
        // Ahead of everything that was given.
        const behind = owners.filter(({ value }) =>
          highest.some((old) => (up ? value < old + width : value > old - width)),
        );
        if (!one.cycles) expect(behind).toEqual([]);
        given = settings.map((setting, shard) => {
          const values = taken[shard] ?? [];
          const end = up ? setting.max : setting.min;
          const state = { last: values.at(-1) ?? end, isCalled: true };
          return { ...asSet(setting), state };
        });
      }
    }),
  );
});
