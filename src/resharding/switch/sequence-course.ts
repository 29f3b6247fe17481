import type { FedColumn, SequenceFacts, SequenceState } from "../preflight/sequence-facts.js";

/**
 * Which ids each shard may give out (R35, R49). Pure.
 *
 *     old side, INCREMENT 50      ... 401 451 501 | margin |
 *     new side, shard 0 of 2                               10601       10701       ...   INCREMENT 100
 *     new side, shard 1 of 2                                     10651       10751 ...   INCREMENT 100
 *
 * Applications take a value for a block of ids as wide as the increment (`INCREMENT BY 50`), so n shards are one
 * old increment apart and count in steps of n of them: neither values nor blocks ever meet. Sequences of
 * omnisharded tables too: one shard draws, and which one is not always the same.
 *
 * All arithmetic is in the direction of counting: a sequence that counts down is turned round first.
 */

/** One sequence as one shard has it. */
export interface SequenceReading {
  readonly facts: SequenceFacts;
  readonly state: SequenceState;
  /** What one shard alone would count in, if the increment is ours; else null. */
  readonly ownIncrement: bigint | null;
}

/** What the old side has given out, over all its shards. */
export interface GivenIds {
  readonly readings: readonly SequenceReading[];
  /** Highest ids in columns (lowest, of one that counts down). */
  readonly extremes: readonly bigint[];
}

/** How a sequence of one shard has to be. */
export interface SequenceSetting {
  readonly type: SequenceFacts["type"];
  readonly start: bigint;
  readonly increment: bigint;
  readonly min: bigint;
  readonly max: bigint;
  readonly cache: bigint;
  readonly cycles: boolean;
  /** The next id; null: none is left, as `nextval` shall say. */
  readonly next: bigint | null;
  /** Kept beside the sequence, as `ownIncrement` of the next reading. */
  readonly ownIncrement: bigint;
}

/** Increments left free ahead of what was given out. */
export interface Margin {
  readonly most: bigint;
  /** Not more than this part of what is left: a smallserial has 32,767 ids in all. */
  readonly share: bigint;
}

export type Course =
  /** By shard of the new side: how the sequence has to be set, or null where it is right as it is. */
  | { readonly kind: "plotted"; readonly settings: readonly (SequenceSetting | null)[] }
  /** In words. */
  | { readonly kind: "impossible"; readonly reason: string };

export interface CourseInput {
  /** Of the old side, at least one. */
  readonly given: GivenIds;
  /** By shard of the new side; null: it is not there. */
  readonly to: readonly (SequenceReading | null)[];
  /** What is free at least; a shard that has it stays as it is. */
  readonly needed: Margin;
  /** What is left free when a sequence is set. */
  readonly wanted: Margin;
}

/** How the shards of the new side share the ids that are left. */
export function plotCourse(input: CourseInput): Course {
  const [model] = input.given.readings;
  if (!model) return impossible("it is on no shard");
  const { facts } = model;
  const sign = facts.increment < 0n ? -1n : 1n;
  if (input.given.readings.some((one) => one.facts.increment < 0n !== sign < 0n))
    return impossible("it counts up on one shard and down on another");
  const grid = gridOf(input, sign);
  if (facts.cycles && grid.bottom + (grid.shards - 1n) * grid.increment > grid.top)
    return impossible("it cycles through fewer ids than there are shards");
  const settings = (floor: bigint) =>
    input.to.map((_, shard) => settingOf({ facts, sign, grid, shard: BigInt(shard), floor }));
  const least = settings(grid.given + grid.increment * (1n + marginOf(grid, input.needed)));
  const isRight = least.map((right, shard) => {
    const reading = input.to[shard] ?? null;
    return reading !== null && isOnCourse(reading, right, sign);
  });
  const wanted = grid.given + grid.increment * (1n + marginOf(grid, input.wanted));
  const best = settings(max(wanted, ownFloor(input.to, grid, sign)));
  return {
    kind: "plotted",
    settings: best.map((setting, shard) => (isRight[shard] === true ? null : setting)),
  };
}

function impossible(reason: string): Course {
  return { kind: "impossible", reason };
}

/** Ids of a shard: `anchor + (shard + k * shards) * increment`. In the direction of counting. */
interface Grid {
  readonly shards: bigint;
  /** What one shard alone counts in: the width of a block. */
  readonly increment: bigint;
  readonly anchor: bigint;
  readonly start: bigint;
  readonly bottom: bigint;
  readonly top: bigint;
  /** Nothing at or below it is free. */
  readonly given: bigint;
  /** Where ids end for the columns too. */
  readonly end: bigint;
}

function gridOf({ given, to }: CourseInput, sign: bigint): Grid {
  const { readings, extremes } = given;
  const increment = readings.map(ownIncrementOf).reduce(max);
  const bottom = readings.map(({ facts }) => bottomOf(facts, sign)).reduce(min);
  const top = readings.map(({ facts }) => (sign > 0n ? facts.max : -facts.min)).reduce(min);
  const [first] = readings;
  const start = (first?.facts.start ?? 0n) * sign;
  const columns = readings.flatMap(({ facts }) => facts.columns);
  return {
    shards: BigInt(to.length),
    increment,
    // A sequence that cycles comes back at its bottom, so its shards are apart there too.
    anchor: first?.facts.cycles === true && to.length > 1 ? bottom : start,
    start,
    bottom,
    top,
    given: [
      ...readings.map((reading) => lastGiven(reading, sign, increment)),
      ...extremes.map((extreme) => extreme * sign),
    ].reduce(max),
    end: columns.map((column) => limitOf(column, sign)).reduce(min, top),
  };
}

function bottomOf(facts: SequenceFacts, sign: bigint): bigint {
  return sign > 0n ? facts.min : -facts.max;
}

function ownIncrementOf({ facts, ownIncrement }: SequenceReading): bigint {
  return ownIncrement ?? abs(facts.increment);
}

/** Of a sequence that was set and not used, the one before. */
function lastGiven({ state }: SequenceReading, sign: bigint, increment: bigint): bigint {
  return state.isCalled ? state.last * sign : state.last * sign - increment;
}

function marginOf(grid: Grid, margin: Margin): bigint {
  const left = (grid.end - grid.given) / grid.increment;
  return left <= 0n ? 0n : min(margin.most, left / margin.share);
}

/** Never back: what a shard of the new side has given out itself is given out. */
function ownFloor(to: CourseInput["to"], grid: Grid, sign: bigint): bigint {
  return to
    .filter((reading) => reading !== null && !reading.facts.cycles)
    .map((reading) => (reading ? lastGiven(reading, sign, grid.increment) + grid.increment : 0n))
    .reduce(max, grid.given);
}

interface SettingInput {
  readonly facts: SequenceFacts;
  readonly sign: bigint;
  readonly grid: Grid;
  readonly shard: bigint;
  /** The lowest next id. */
  readonly floor: bigint;
}

function settingOf({ facts, sign, grid, shard, floor }: SettingInput): SequenceSetting {
  const step = grid.increment * grid.shards;
  const first = grid.anchor + shard * grid.increment;
  const bottom = facts.cycles ? grid.bottom + shard * grid.increment : grid.bottom;
  const start = min(alignUp(max(grid.start, bottom), first, step), grid.top);
  const next = alignUp(max(floor, bottom), first, step);
  return {
    type: facts.type,
    start: start * sign,
    increment: step * sign,
    min: sign > 0n ? bottom : -grid.top,
    max: sign > 0n ? grid.top : -bottom,
    cache: facts.cache,
    cycles: facts.cycles,
    next: next <= grid.top ? next * sign : facts.cycles ? bottom * sign : null,
    ownIncrement: grid.increment,
  };
}

/** @returns whether the sequence is as the setting says, and at its next id or ahead of it */
function isOnCourse(
  { facts, state, ownIncrement }: SequenceReading,
  right: SequenceSetting,
  sign: bigint,
): boolean {
  const isSame =
    facts.type === right.type &&
    facts.start === right.start &&
    facts.increment === right.increment &&
    facts.min === right.min &&
    facts.max === right.max &&
    facts.cache === right.cache &&
    facts.cycles === right.cycles &&
    (ownIncrement ?? abs(facts.increment)) === right.ownIncrement;
  if (!isSame) return false;
  const next = state.isCalled ? state.last + facts.increment : state.last;
  const isOver = next * sign > (sign > 0n ? facts.max : -facts.min);
  if (right.next === null) return isOver;
  const isOnGrid = modulo(next - right.next, abs(facts.increment)) === 0n;
  return isOnGrid && !isOver && next * sign >= right.next * sign;
}

/**
 * An id that leaves less than half of what is free is no sign of how far the application has come (2,147,483,647
 * for "nobody"): following it would end the sequence. On one server, too, it would be met only in the end.
 * @returns the id, in the sequence's own direction, beyond which no row is looked at
 */
export function extremeLimit(
  { facts, state }: Pick<SequenceReading, "facts" | "state">,
  column: FedColumn,
): bigint {
  const sign = facts.increment < 0n ? -1n : 1n;
  const end = min(sign > 0n ? facts.max : -facts.min, limitOf(column, sign));
  const at = min(state.last * sign, end);
  return (at + (end - at) / 2n) * sign;
}

const HIGHEST = {
  smallint: 2n ** 15n - 1n,
  integer: 2n ** 31n - 1n,
  bigint: 2n ** 63n - 1n,
} as const;

function limitOf({ type }: FedColumn, sign: bigint): bigint {
  const highest = type === "numeric" ? HIGHEST.bigint : HIGHEST[type];
  return sign > 0n ? highest : highest + 1n;
}

/** The smallest value of at least `value` that is a whole number of steps from `from`. */
function alignUp(value: bigint, from: bigint, step: bigint): bigint {
  return value + modulo(from - value, step);
}

function modulo(value: bigint, by: bigint): bigint {
  return ((value % by) + by) % by;
}

function abs(value: bigint): bigint {
  return value < 0n ? -value : value;
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
