import { RowEvidence } from "../../core/row-evidence.js";
import { LaneRowExists, LaneRowMissing } from "../stream-errors.js";
import { columnText, hasUnchanged, type Tuple, unchangedMask } from "../tuple.js";
import { type AppliedTable, describeTable } from "./applied-table.js";
import { Fold } from "./fold.js";
import type { TableWriter, Unmet, Update } from "./table-writer.js";

/** What is done to the table, in this order. */
type Step =
  | { readonly kind: "fold"; readonly fold: Fold }
  | { readonly kind: "insert"; readonly rows: Tuple[] }
  | { readonly kind: "update"; readonly update: Update; readonly setsKey: boolean }
  | { readonly kind: "delete"; readonly match: Tuple };

/**
 * The changes of a batch to one table. Tables are independent of each other (triggers and foreign keys do
 * not fire for `session_replication_role = replica`), so each is flushed by itself.
 */
export class TableBatch {
  readonly #table: AppliedTable;
  #steps: Step[] = [];

  constructor(table: AppliedTable) {
    this.#table = table;
  }

  get isEmpty(): boolean {
    return this.#steps.length === 0;
  }

  insert(row: Tuple): void {
    if (this.#table.isFoldable) {
      if (!this.#fold().insert(this.#key(row), row)) this.#contradict("insert", row);
      return;
    }
    const last = this.#steps.at(-1);
    // Inserts in a row keep their order within one statement.
    if (last?.kind === "insert") last.rows.push(row);
    else this.#steps.push({ kind: "insert", rows: [row] });
  }

  /** @param match the row as it was: identity columns only, or all */
  update(match: Tuple, row: Tuple): void {
    const isSameKey = this.#table.keyColumns === null || this.#key(match) === this.#key(row);
    if (!this.#table.isFoldable) {
      this.#steps.push({ kind: "update", update: { match, row }, setsKey: !isSameKey });
    } else if (isSameKey) {
      if (!this.#fold().update(this.#key(row), match, row)) this.#contradict("update", row);
    } else if (hasUnchanged(row)) {
      // As one UPDATE the row keeps the TOAST value that the stream did not send (R12).
      this.#steps.push({ kind: "update", update: { match, row }, setsKey: true });
    } else {
      this.delete(match);
      this.insert(row);
    }
  }

  delete(match: Tuple): void {
    if (!this.#table.isFoldable) this.#steps.push({ kind: "delete", match });
    else if (!this.#fold().delete(this.#key(match), match)) this.#contradict("delete", match);
  }

  /**
   * Writes everything and is empty afterwards.
   * @param guard wraps a statement that may fail without ending the batch: a savepoint, for tolerant writers
   * @returns what a tolerant writer could not do
   */
  async flush(writer: TableWriter, guard: Guard): Promise<readonly Unmet[]> {
    const steps = this.#steps;
    this.#steps = [];
    const unmet: Unmet[] = [];
    for (const step of steps) {
      const outcome = await runStep(step, writer, guard);
      unmet.push(...outcome.filter((one) => one !== null));
    }
    return unmet;
  }

  #fold(): Fold {
    const last = this.#steps.at(-1);
    if (last?.kind === "fold") return last.fold;
    const fold = new Fold();
    this.#steps.push({ kind: "fold", fold });
    return fold;
  }

  #key(row: Tuple): string {
    const columns = this.#table.keyColumns ?? [];
    if (columns.length === 1) return columnText(row, columns[0] ?? 0) ?? "";
    return JSON.stringify(columns.map((index) => columnText(row, index)));
  }

  #contradict(operation: "insert" | "update" | "delete", row: Tuple): never {
    const evidence = new RowEvidence(`${operation}: key ${this.#key(row)}`);
    const options = { evidence, hint: CONTRADICTION_HINT };
    const where = `in ${describeTable(this.#table)} within one batch of the stream`;
    if (operation === "insert") throw new LaneRowExists(`two inserts of a key ${where}`, options);
    throw new LaneRowMissing(`${operation} of a deleted row ${where}`, options);
  }
}

const CONTRADICTION_HINT =
  "The stream contradicts itself: the slot or a copied range is damaged. Abort the migration and start again.";

/** Runs the statement; on a unique violation undoes it alone and returns the row as unmet. */
export type Guard = (row: Tuple, statement: () => Promise<Unmet | null>) => Promise<Unmet | null>;

async function runStep(
  step: Step,
  writer: TableWriter,
  guard: Guard,
): Promise<readonly (Unmet | null)[]> {
  switch (step.kind) {
    case "fold":
      return await flushFold(step.fold, writer);
    case "insert":
      return [await writer.insert(step.rows)];
    case "update": {
      const { update, setsKey } = step;
      return [await guard(update.match, () => writer.update([update], { setsKey }))];
    }
    case "delete":
      return [await writer.delete([step.match])];
  }
}

/** Deletes, then updates by the columns they carry, then inserts: keys are distinct, no other order matters. */
async function flushFold(fold: Fold, writer: TableWriter): Promise<readonly (Unmet | null)[]> {
  const inserts: Tuple[] = [];
  const deletes: Tuple[] = [];
  const updates = new Map<string, Update[]>();
  for (const change of fold.values()) {
    if (change.kind === "insert") inserts.push(change.row);
    else if (change.kind === "delete") deletes.push(change.match);
    else {
      const mask = unchangedMask(change.row);
      const group = updates.get(mask);
      if (group) group.push(change);
      else updates.set(mask, [change]);
    }
  }
  const unmet = [await writer.delete(deletes)];
  for (const group of updates.values()) unmet.push(await writer.update(group, { setsKey: false }));
  unmet.push(await writer.insert(inserts));
  return unmet;
}
