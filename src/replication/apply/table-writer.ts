import type { SqlClient } from "../../backend/sql-client.js";
import { RowEvidence } from "../../core/row-evidence.js";
import { SqlError } from "../../core/sql-error.js";
import { SQLSTATE } from "../../core/sqlstate.js";
import { LaneRowExists, LaneRowMissing } from "../stream-errors.js";
import { appendTuple, TextArray } from "../text-array.js";
import { columnText, type Tuple, unchangedMask } from "../tuple.js";
import { type AppliedTable, describeTable } from "./applied-table.js";
import { deleteSql, insertSql, updateSql } from "./table-sql.js";

export interface Update {
  readonly match: Tuple;
  readonly row: Tuple;
}

/** Changes that could not be made because the row as it stands is not this lane's (R9, R33). */
export interface Unmet {
  readonly reason: "missing" | "exists";
  readonly rows: readonly Tuple[];
}

/**
 * Writes one table for one lane inside the batch's transaction.
 *
 * A strict writer throws when a row is missing or exists (R17). A tolerant one returns the rows that it
 * could not change, and has changed none of those: it is not told everything that happens to a key (R9), or its
 * lane shares the table with lanes of other shards (R33). The keys are set aside.
 */
export class TableWriter {
  readonly #client: SqlClient;
  readonly #table: AppliedTable;
  readonly #isTolerant: boolean;
  readonly #updateTexts = new Map<string, string>();
  readonly #insertText: string;
  readonly #deleteText: string;

  constructor(client: SqlClient, table: AppliedTable, options: { readonly isTolerant: boolean }) {
    this.#client = client;
    this.#table = table;
    this.#isTolerant = options.isTolerant;
    this.#insertText = insertSql(table, options.isTolerant);
    this.#deleteText = deleteSql(table);
  }

  /** @throws LaneRowExists unless tolerant */
  async insert(rows: readonly Tuple[]): Promise<Unmet | null> {
    if (rows.length === 0) return null;
    const arrays = this.#table.columns.map(() => new TextArray());
    for (const row of rows) appendTuple(arrays, row);
    try {
      const result = await this.#query<{ key: string[] }>(this.#insertText, arrays);
      if (!this.#isTolerant || result.rows.length === rows.length) return null;
      const inserted = new Set(result.rows.map((row) => JSON.stringify(row.key)));
      return { reason: "exists", rows: rows.filter((row) => !inserted.has(this.#keyOf(row))) };
    } catch (error) {
      throw this.#asRowExists(error, "insert");
    }
  }

  /**
   * One statement, however many rows.
   * @throws LaneRowMissing unless tolerant, or the table's deletes come to every shard
   */
  async delete(matches: readonly Tuple[]): Promise<Unmet | null> {
    if (matches.length === 0) return null;
    const arrays = this.#arraysFor(this.#table.matchColumns);
    for (const match of matches) appendTuple(arrays.byColumn, match);
    const result = await this.#query<{ ord: number }>(this.#deleteText, arrays.inOrder);
    if (this.#table.isKeyOnly) return null;
    return this.#unmet("delete", matches, result.rows);
  }

  /**
   * All updates must carry the same columns.
   * @throws LaneRowMissing unless tolerant; LaneRowExists when a unique constraint is met
   */
  async update(
    updates: readonly Update[],
    options: { readonly setsKey: boolean },
  ): Promise<Unmet | null> {
    const first = updates[0];
    if (!first) return null;
    const set = this.#columnsToSet(unchangedMask(first.row), options.setsKey);
    const match = this.#arraysFor(this.#table.matchColumns);
    const values = this.#arraysFor(set);
    for (const update of updates) {
      appendTuple(match.byColumn, update.match);
      appendTuple(values.byColumn, update.row);
    }
    try {
      const text = this.#updateText(set);
      const arrays = [...match.inOrder, ...values.inOrder];
      const result = await this.#query<{ ord: number }>(text, arrays);
      return this.#unmet(
        "update",
        updates.map((update) => update.match),
        result.rows,
      );
    } catch (error) {
      throw this.#asRowExists(error, "update");
    }
  }

  #unmet(
    operation: string,
    wanted: readonly Tuple[],
    found: readonly { readonly ord: number }[],
  ): Unmet | null {
    if (found.length === wanted.length) return null;
    const there = new Set(found.map((row) => row.ord));
    const rows = wanted.filter((_, index) => !there.has(index + 1));
    if (this.#isTolerant) return { reason: "missing", rows };
    throw new LaneRowMissing(
      `${operation} in ${describeTable(this.#table)}: ${rows.length} of ${wanted.length} rows are not there`,
      { evidence: this.#evidenceOf(operation, rows), hint: STOPPED_HINT },
    );
  }

  #evidenceOf(operation: string, rows: readonly Tuple[]): RowEvidence {
    const shown = rows.slice(0, SHOWN_ROWS).map((row) => `${operation}: ${this.#describeRow(row)}`);
    const left = rows.length - shown.length;
    return new RowEvidence([...shown, ...(left > 0 ? [`and ${left} more`] : [])].join("\n"));
  }

  /** Names a row by what it is matched on. */
  #describeRow(row: Tuple): string {
    const columns = this.#table.keyColumns ?? this.#table.matchColumns;
    return columns
      .map(
        (index) =>
          `${this.#table.columns[index]?.name ?? ""} = ${columnText(row, index) ?? "NULL"}`,
      )
      .join(", ");
  }

  #keyOf(row: Tuple): string {
    return JSON.stringify((this.#table.keyColumns ?? []).map((index) => columnText(row, index)));
  }

  #columnsToSet(mask: string, setsKey: boolean): readonly number[] {
    const key = setsKey ? [] : (this.#table.keyColumns ?? []);
    return this.#table.columns
      .map((_, index) => index)
      .filter((index) => mask[index] !== "0" && !key.includes(index));
  }

  #updateText(set: readonly number[]): string {
    const name = set.join(",");
    const known = this.#updateTexts.get(name);
    if (known !== undefined) return known;
    const text = updateSql(this.#table, set);
    this.#updateTexts.set(name, text);
    return text;
  }

  #arraysFor(columns: readonly number[]): {
    readonly byColumn: (TextArray | null)[];
    readonly inOrder: TextArray[];
  } {
    const inOrder = columns.map(() => new TextArray());
    const byColumn = this.#table.columns.map((_, index) => {
      const place = columns.indexOf(index);
      return place < 0 ? null : (inOrder[place] ?? null);
    });
    return { byColumn, inOrder };
  }

  async #query<Row extends object>(
    text: string,
    arrays: readonly TextArray[],
  ): Promise<{ readonly rows: readonly Row[] }> {
    return await this.#client.query<Row>({
      name: statementName(text),
      text,
      values: arrays.map((array) => array.finish()),
    });
  }

  #asRowExists(error: unknown, operation: string): unknown {
    if (!(error instanceof SqlError) || !MEETS_A_ROW.has(error.code)) return error;
    const constraint = error.constraint === undefined ? "" : ` by constraint "${error.constraint}"`;
    return new LaneRowExists(
      `${operation} in ${describeTable(this.#table)} meets an existing row${constraint}`,
      { cause: error, evidence: error.evidence, hint: STOPPED_HINT },
    );
  }
}

const MEETS_A_ROW: ReadonlySet<string> = new Set([
  SQLSTATE.uniqueViolation,
  SQLSTATE.exclusionViolation,
]);

const SHOWN_ROWS = 20;

const STOPPED_HINT =
  "Somebody else wrote to the tables of this side. SHOW EVIDENCE names the row: compare it on both sides; abort the migration, or repair the row and retry the step.";

const statementNames = new Map<string, string>();

/** Prepared once per session and text: `pg` prepares by name. */
function statementName(text: string): string {
  const known = statementNames.get(text);
  if (known !== undefined) return known;
  const name = `sluice_${statementNames.size}`;
  statementNames.set(text, name);
  return name;
}
