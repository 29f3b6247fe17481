import { describe, expect, it } from "vitest";
import { History, type RowState } from "../../support/load/history.js";
import { type FinalTables, judge } from "../../support/load/judge.js";

const at = (tenant: number, revision = 0, lines = 0): RowState => ({ tenant, revision, lines });

function tables(
  events: Record<string, readonly RowState[]>,
  more: Partial<FinalTables> = {},
): FinalTables {
  return {
    rows: { events: new Map(Object.entries(events)), orders: new Map() },
    writes: new Map(),
    repeatedIds: [],
    ...more,
  };
}

function history(write: (history: History) => void) {
  const made = new History(0);
  write(made);
  return [made.snapshot()];
}

describe("the oracle", () => {
  const one = history((it) => it.wrote("events", "a", at(1, 2)));

  it("is content when the tables show what was acknowledged", () => {
    expect(judge(one, tables({ a: [at(1, 2)] }))).toEqual({ lost: 0, doubled: 0, findings: [] });
  });

  it.each([
    ["a row that is gone", {}],
    ["a change that is gone", { a: [at(1, 1)] }],
    ["a row that is with another tenant", { a: [at(2, 2)] }],
  ])("finds lost: %s", (_what, events) => {
    expect(judge(one, tables(events))).toMatchObject({ lost: 1, doubled: 0 });
  });

  it.each([
    ["a row on two shards", { a: [at(1, 2), at(1, 2)] }],
    ["a change made twice", { a: [at(1, 3)] }],
    ["a row that nobody wrote", { a: [at(1, 2)], b: [at(1)] }],
  ])("finds doubled: %s", (_what, events) => {
    expect(judge(one, tables(events))).toMatchObject({ lost: 0, doubled: 1 });
  });

  it("finds a deleted row that is there again", () => {
    const deleted = history((it) => it.wrote("events", "a", null));
    expect(judge(deleted, tables({ a: [at(1)] }))).toMatchObject({ lost: 1 });
  });

  it("accepts both outcomes of a write that was not answered, and no third", () => {
    const unknown = history((it) => {
      it.wrote("events", "a", at(1, 2));
      it.mayHaveWritten("events", "a", at(1, 3));
    });
    expect(judge(unknown, tables({ a: [at(1, 2)] }))).toMatchObject({ lost: 0, doubled: 0 });
    expect(judge(unknown, tables({ a: [at(1, 3)] }))).toMatchObject({ lost: 0, doubled: 0 });
    expect(judge(unknown, tables({ a: [at(1, 4)] }))).toMatchObject({ doubled: 1 });
    expect(judge(unknown, tables({}))).toMatchObject({ lost: 1 });
  });

  it("adds up counters between what was acknowledged and what may have been", () => {
    const counted = history((it) => {
      for (let n = 0; n < 5; n++) it.incremented(7, "acknowledged");
      it.incremented(7, "unknown");
    });
    const verdict = (writes: number) =>
      judge(counted, tables({}, { writes: new Map([[7, writes]]) }));
    expect(verdict(3)).toMatchObject({ lost: 2, doubled: 0 });
    expect(verdict(5)).toMatchObject({ lost: 0, doubled: 0 });
    expect(verdict(6)).toMatchObject({ lost: 0, doubled: 0 });
    expect(verdict(8)).toMatchObject({ lost: 0, doubled: 2 });
  });

  it("counts an id that was given twice", () => {
    const verdict = judge(one, tables({ a: [at(1, 2)] }, { repeatedIds: ["users 5"] }));
    expect(verdict).toMatchObject({ doubled: 1 });
  });
});
