/** What every way of showing it gives: text, JSON, `util.inspect`, template strings. */
const HIDDEN = "(row text, shown by SHOW EVIDENCE alone)";
/** Enough for the key of many rows or one wide one; whoever needs more reads the row itself. */
const MAX_CHARACTERS = 8_000;

/**
 * R56: text that may hold values of a row. An error carries it from where the row was met to the column that
 * keeps it, in the user's own database. On the way it cannot be shown: not by a log, a message, a payload or a
 * stack. `RowEvidence.open` is for those alone who write that column (eslint).
 */
export class RowEvidence {
  readonly #text: string;

  constructor(text: string) {
    this.#text =
      text.length <= MAX_CHARACTERS ? text : `${text.slice(0, MAX_CHARACTERS)} (cut here)`;
  }

  static open(evidence: RowEvidence): string {
    return evidence.#text;
  }

  toString(): string {
    return HIDDEN;
  }

  toJSON(): string {
    return HIDDEN;
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return HIDDEN;
  }
}
