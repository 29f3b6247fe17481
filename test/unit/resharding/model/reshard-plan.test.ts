import { describe, expect, test } from "vitest";
import type { TableCopyPlan } from "../../../../src/resharding/model/activities.js";
import type { Check } from "../../../../src/resharding/model/migration.js";
import {
  checkedBy,
  copyBudget,
  copyQueue,
  copyWeight,
  rangesToCopy,
} from "../../../../src/resharding/model/reshard-plan.js";

function plan(table: string, rest: Partial<TableCopyPlan> = {}): TableCopyPlan {
  return {
    schema: "public",
    table,
    sourceShard: 0,
    rangeCount: 4,
    doneRanges: [],
    estimatedRows: 10,
    ...rest,
  };
}

describe("what is copied when", () => {
  test("the largest first; what is done is left out", () => {
    const plans = [
      plan("small"),
      plan("done", { rangeCount: 2, doneRanges: [0, 1], estimatedRows: 99 }),
      plan("big", { estimatedRows: 50 }),
      plan("empty", { rangeCount: 0 }),
    ];
    expect(copyQueue(plans).map(({ table }) => table)).toEqual(["big", "small"]);
    expect(plans.map(({ table }) => table)).toEqual(["small", "done", "big", "empty"]);
  });

  test("no table takes more of the budget than it has ranges left", () => {
    expect(copyWeight(plan("a"))).toBe(2);
    expect(copyWeight(plan("a", { doneRanges: [0, 1, 2] }))).toBe(1);
    // One table with two ranges always fits.
    expect([0, 1, 2, 8].map((parallelCopies) => copyBudget({ parallelCopies }))).toEqual([
      2, 2, 2, 8,
    ]);
  });

  test("ranges that neither the plan nor an earlier run has done, in order", () => {
    expect(rangesToCopy(plan("a", { doneRanges: [2] }), [0])).toEqual([1, 3]);
    expect(rangesToCopy(plan("a"), [3, 2, 1, 0])).toEqual([]);
  });
});

describe("what preflight says", () => {
  const spec = {
    version: 1 as const,
    source: { shardCount: 1 },
    destination: { shardCount: 2 },
    tables: [],
  };
  const check = (id: string, severity: Check["severity"], remedy = ""): Check => ({
    id,
    scope: "shard 0",
    severity,
    evidence: "as it is",
    remedy,
  });

  test("a plan goes on, also with warnings", () => {
    const checks = [check("a", "ok"), check("b", "warning")];
    expect(checkedBy({ ok: true, checks, spec })).toEqual({ kind: "passed", spec });
  });

  test("every check that failed is named, with what to do", () => {
    const checks = [check("a", "error", "do x"), check("b", "warning"), check("c", "error")];
    expect(checkedBy({ ok: false, checks, spec })).toEqual({
      kind: "failed",
      message: "a (shard 0): as it is. do x; c (shard 0): as it is.",
      hint: "2 checks failed; each says what to do. Nothing was changed.",
    });
  });

  test("no plan is no yes", () => {
    expect(checkedBy({ ok: true, checks: [], spec: null })).toMatchObject({
      kind: "failed",
      message: "preflight made no plan",
    });
  });
});
