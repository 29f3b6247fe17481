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
  | { readonly kind: "delete"; readonly matches: Tuple[] };

/**
 * The changes of a batch to one table. Tables are independent of each other (triggers and foreign keys do
 * not fire for `session_replication_role = replica`), so each is flushed by itself.
 */
export class TableBatch {
  readonly #table: AppliedTable;
  #steps: Step[] = [];
  /** Deletes of keys that nothing in `#steps` has touched before: they come first, in one statement. */
  #first: Tuple[] = [];
  /** Keys in `#first` and `#steps`; kept where deletes come to every shard and changes keep their order. */
  readonly #touched = new Set<string>();

  constructor(table: AppliedTable) {
    this.#table = table;
  }

  get isEmpty(): boolean {
    return this.#steps.length === 0 && this.#first.length === 0;
  }

  insert(row: Tuple): void {
    if (this.#table.isFoldable) {
      if (!this.#fold().insert(this.#key(row), row)) this.#contradict("insert", row);
      return;
    }
    this.#touch(row);
    const last = this.#steps.at(-1);
    // Inserts in a row keep their order within one statement.
    if (last?.kind === "insert") last.rows.push(row);
    else this.#steps.push({ kind: "insert", rows: [row] });
  }

  /** @param match the row as it was: identity columns only, or all */
  update(match: Tuple, row: Tuple): void {
    const isSameKey = this.#table.keyColumns === null || this.#key(match) === this.#key(row);
    if (!this.#table.isFoldable) {
      this.#touch(row);
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
    if (!this.#table.isFoldable) this.#deleteInOrder(match);
    else if (!this.#fold().delete(this.#key(match), match)) this.#contradict("delete", match);
  }

  /**
   * Writes everything and is empty afterwards.
   * @param attempt of a tolerant writer: what fails within it is undone alone. Tried with all steps first, as a
   *   savepoint for each would cost every batch what hardly any needs
   * @returns what a tolerant writer could not do
   */
  async flush(writer: TableWriter, attempt: Attempt | null): Promise<readonly Unmet[]> {
    const steps: Step[] =
      this.#first.length > 0
        ? [{ kind: "delete", matches: this.#first }, ...this.#steps]
        : this.#steps;
    this.#steps = [];
    this.#first = [];
    this.#touched.clear();
    const mayFail = (step: Step) =>
      step.kind === "update" || (step.kind === "insert" && this.#table.isDeferrable);
    if (attempt === null || !steps.some(mayFail)) return await runSteps(steps, writer, null);
    const whole = await attempt(() => runSteps(steps, writer, null));
    return whole === null ? await runSteps(steps, writer, attempt) : whole.value;
  }

  /**
   * R9: most of the deletes that come to every shard find nothing here, so they must cost little: a key that the
   * batch has not touched before may go first, as nothing that another key does needs its row.
   */
  #deleteInOrder(match: Tuple): void {
    if (this.#table.isKeyOnly) {
      const key = this.#key(match);
      if (!this.#touched.has(key)) {
        this.#touched.add(key);
        this.#first.push(match);
        return;
      }
    }
    const last = this.#steps.at(-1);
    // Rows without a key are taken one at a time (R20).
    if (last?.kind === "delete" && this.#table.keyColumns !== null) last.matches.push(match);
    else this.#steps.push({ kind: "delete", matches: [match] });
  }

  #touch(row: Tuple): void {
    if (this.#table.isKeyOnly) this.#touched.add(this.#key(row));
  }

  #fold(): Fold {
    const last = this.#steps.at(-1);
    if (last?.kind === "fold") return last.fold;
    const fold = new Fold(this.#table);
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

/** Does the work in a savepoint; null: it met a unique or exclusion constraint, and is undone. */
export type Attempt = <T>(work: () => Promise<T>) => Promise<{ readonly value: T } | null>;

async function runSteps(
  steps: readonly Step[],
  writer: TableWriter,
  attempt: Attempt | null,
): Promise<readonly Unmet[]> {
  const unmet: (Unmet | null)[] = [];
  for (const step of steps) unmet.push(...(await runStep(step, writer, attempt)));
  return unmet.filter((one) => one !== null);
}

async function runStep(
  step: Step,
  writer: TableWriter,
  attempt: Attempt | null,
): Promise<readonly (Unmet | null)[]> {
  switch (step.kind) {
    case "fold":
      return await flushFold(step.fold, writer);
    case "insert":
      return await insertRows(step.rows, writer, attempt);
    case "update": {
      const { update, setsKey } = step;
      const write = () => writer.update([update], { setsKey });
      const done = attempt === null ? { value: await write() } : await attempt(write);
      const unmet: Unmet | null = done === null ? { reason: "exists", rows: [] } : done.value;
      // Under either of its keys there may be a row, or none where one should be.
      const rows = setsKey ? [update.match, update.row] : [update.match];
      return [unmet && { ...unmet, rows }];
    }
    case "delete":
      return [await writer.delete(step.matches)];
  }
}

/**
 * @param attempt null: what meets an existing row fails, unless the writer is tolerant and no constraint deferrable
 * @returns what a tolerant writer could not insert
 */
export async function insertRows(
  rows: readonly Tuple[],
  writer: TableWriter,
  attempt: Attempt | null,
): Promise<readonly (Unmet | null)[]> {
  if (attempt === null) return [await writer.insert(rows)];
  const whole = await attempt(() => writer.insert(rows));
  if (whole !== null) return [whole.value];
  if (rows.length === 1) return [{ reason: "exists", rows }];
  const unmet: (Unmet | null)[] = [];
  for (const row of rows) unmet.push(...(await insertRows([row], writer, attempt)));
  return unmet;
}

/** Deletes, then updates by the columns they carry, then inserts: keys are distinct, no other order matters. */
async function flushFold(fold: Fold, writer: TableWriter): Promise<readonly (Unmet | null)[]> {
  const inserts: Tuple[] = [];
  const deletes: Tuple[] = [];
  const lost: Tuple[] = [];
  const updates = new Map<string, Update[]>();
  for (const change of fold.values()) {
    if (change.kind === "insert" || change.kind === "replace") inserts.push(change.row);
    if (change.kind === "delete" || change.kind === "replace" || change.kind === "lost")
      deletes.push(change.match);
    if (change.kind === "lost") lost.push(change.match);
    if (change.kind !== "update") continue;
    const mask = unchangedMask(change.row);
    const group = updates.get(mask);
    if (group) group.push(change);
    else updates.set(mask, [change]);
  }
  const unmet = [await writer.delete(deletes)];
  for (const group of updates.values()) unmet.push(await writer.update(group, { setsKey: false }));
  unmet.push(await writer.insert(inserts));
  if (lost.length > 0) unmet.push({ reason: "missing", rows: lost });
  return unmet;
}
