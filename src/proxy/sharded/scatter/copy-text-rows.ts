import { BACKSLASH, DOT, NEWLINE, RETURN } from "../../../wire/copy-format.js";
import { CopyFields } from "./copy-fields.js";
import {
  ALL_SHARDS,
  type CopyEmit,
  type CopyRows,
  type KeyLookup,
  NO_SHARD_YET,
  RowPieces,
  shardOfKeyText,
  tooFewColumns,
} from "./copy-rows.js";
import { CopyDataUnroutable } from "./scatter-errors.js";

/**
 * COPY FROM in text and CSV: finds the ends of rows in one pass that can stop at any byte, then the key in
 * each row. Lines may end in LF or CRLF. The encoding must be one in which no part of a character looks like
 * an ASCII one, as in UTF-8.
 */
export class TextCopyRows implements CopyRows {
  readonly #lookup: KeyLookup;
  readonly #emit: CopyEmit;
  readonly #pieces = new RowPieces();
  readonly #isCsv: boolean;
  readonly #quote: number;
  readonly #escape: number;
  readonly #fields: CopyFields;
  #rowNumber = 0;
  /** Text: the last byte was a backslash. CSV with an escape of its own: it was that, within quotes. */
  #isEscaped = false;
  #isQuoted = false;
  #isAfterReturn = false;
  /** `\.` was seen: what follows is no data. */
  #isOver = false;

  constructor(lookup: KeyLookup, emit: CopyEmit) {
    const { plan } = lookup;
    this.#lookup = lookup;
    this.#emit = emit;
    this.#isCsv = plan.format === "csv";
    this.#quote = plan.quote.charCodeAt(0);
    this.#escape = plan.escape.charCodeAt(0);
    this.#fields = new CopyFields(plan);
  }

  push(chunk: Buffer): void {
    // Servers before 18 end CSV at such a line, later ones take it for a value: then it is no end.
    if (this.#isOver && this.#isCsv && chunk.length > 0) throw this.#behindTheEnd();
    let start = 0;
    for (let at = 0; at < chunk.length && !this.#isOver; at++) {
      if (!this.#endsRow(chunk[at] ?? 0)) continue;
      this.#row(this.#pieces.take(chunk.subarray(start, at + 1)));
      start = at + 1;
    }
    if (!this.#isOver) this.#pieces.add(chunk.subarray(start));
    else if (this.#isCsv && start < chunk.length) throw this.#behindTheEnd();
  }

  #behindTheEnd(): CopyDataUnroutable {
    return new CopyDataUnroutable(
      "data behind a line that holds only \\.",
      this.#rowNumber,
      "Quote a value that is a backslash and a dot.",
    );
  }

  finish(): void {
    if (this.#isOver) return;
    const last = this.#pieces.take(EMPTY);
    if (last.length > 0) this.#row(last);
  }

  #endsRow(byte: number): boolean {
    const wasReturn = this.#isAfterReturn;
    this.#isAfterReturn = false;
    if (this.#isCsv ? this.#isInQuotes(byte) : this.#isBehindBackslash(byte)) return false;
    if (byte === NEWLINE) return true;
    if (wasReturn) {
      throw new CopyDataUnroutable(
        "a carriage return alone",
        this.#rowNumber + 1,
        "End lines in LF or CRLF, and quote or escape a carriage return in a value.",
      );
    }
    this.#isAfterReturn = byte === RETURN;
    return false;
  }

  #isBehindBackslash(byte: number): boolean {
    if (this.#isEscaped) {
      this.#isEscaped = false;
      return true;
    }
    this.#isEscaped = byte === BACKSLASH;
    return this.#isEscaped;
  }

  /** A doubled quote ends and begins the quotes, so it needs no care. */
  #isInQuotes(byte: number): boolean {
    if (this.#isEscaped) {
      this.#isEscaped = false;
      if (byte === this.#quote || byte === this.#escape) return true;
    }
    if (this.#isQuoted && byte === this.#escape && this.#escape !== this.#quote) {
      this.#isEscaped = true;
      return true;
    }
    if (byte === this.#quote) {
      this.#isQuoted = !this.#isQuoted;
      return true;
    }
    return this.#isQuoted;
  }

  /** @param row with its line end */
  #row(row: Buffer): void {
    this.#rowNumber++;
    let end = row.length;
    if (row[end - 1] === NEWLINE) end--;
    if (row[end - 1] === RETURN) end--;
    if (end === 2 && row[0] === BACKSLASH && row[1] === DOT) {
      this.#isOver = true;
      return;
    }
    if (this.#rowNumber === 1 && this.#lookup.plan.hasHeader) {
      this.#emit(ALL_SHARDS, row);
      return;
    }
    if (this.#lookup.plan.keyColumn < 0) {
      this.#emit(NO_SHARD_YET, row);
      return;
    }
    const key = this.#fields.at(row, end, this.#lookup.plan.keyColumn);
    if (key === undefined) throw tooFewColumns(this.#rowNumber);
    this.#emit(shardOfKeyText(key, this.#lookup, this.#rowNumber), row);
  }
}

const EMPTY = Buffer.alloc(0);
