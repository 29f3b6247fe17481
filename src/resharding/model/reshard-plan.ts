import type { PreflightResult, TableCopyPlan } from "./activities.js";
import type { MigrationSpec } from "./migration.js";
import type { TaskPolicy } from "./policy.js";

/** What `reshard` decides, from the answers of its steps. */

export type Checked =
  | { readonly kind: "passed"; readonly spec: MigrationSpec }
  | { readonly kind: "failed"; readonly message: string; readonly hint: string };

/** Goes on with a plan, or names every check that failed, and what to do about it. */
export function checkedBy(preflight: PreflightResult): Checked {
  const { ok, spec, checks } = preflight;
  if (ok && spec !== null) return { kind: "passed", spec };
  const errors = checks.filter((check) => check.severity === "error");
  const text = errors
    .map((check) => `${check.id} (${check.scope}): ${check.evidence}. ${check.remedy}`.trim())
    .join("; ");
  return {
    kind: "failed",
    message: text === "" ? "preflight made no plan" : text,
    hint: `${errors.length} checks failed; each says what to do. Nothing was changed.`,
  };
}

/** Ranges of one table at once; a table takes no more of the budget than it has ranges. */
const RANGES_AT_ONCE = 2;
const FEWEST_AT_ONCE = 2;

/** Ranges at once, over all tables. */
export function copyBudget(policy: Pick<TaskPolicy, "parallelCopies">): number {
  return Math.max(FEWEST_AT_ONCE, policy.parallelCopies);
}

/** What is left to copy. The largest go first, so that the end is not one big table alone. */
export function copyQueue(plans: readonly TableCopyPlan[]): readonly TableCopyPlan[] {
  return plans
    .filter((plan) => rangesLeft(plan) > 0)
    .toSorted((a, b) => b.estimatedRows - a.estimatedRows);
}

/** How many ranges of the table are copied at once: its part of the budget. */
export function copyWeight(plan: TableCopyPlan): number {
  return Math.min(RANGES_AT_ONCE, rangesLeft(plan));
}

function rangesLeft(plan: TableCopyPlan): number {
  return plan.rangeCount - plan.doneRanges.length;
}

/** Ranges of a table that neither the plan nor an earlier run of the workflow has done, in order. */
export function rangesToCopy(plan: TableCopyPlan, doneRanges: readonly number[]): number[] {
  const done = new Set([...plan.doneRanges, ...doneRanges]);
  return Array.from({ length: plan.rangeCount }, (_, range) => range).filter(
    (range) => !done.has(range),
  );
}
