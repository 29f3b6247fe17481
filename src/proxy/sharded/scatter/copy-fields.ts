import type { CopyInPlan } from "../../../router/route.js";
import { BACKSLASH, withoutEscapes } from "../../../wire/copy-format.js";

/** The fields of one row of COPY FROM in text or CSV. Rows are given with where they end: before the line end. */
export class CopyFields {
  readonly #isCsv: boolean;
  readonly #delimiter: number;
  readonly #quote: number;
  readonly #escape: number;
  readonly #nullText: Buffer;

  constructor(plan: CopyInPlan) {
    this.#isCsv = plan.format === "csv";
    this.#delimiter = plan.delimiter.charCodeAt(0);
    this.#quote = plan.quote.charCodeAt(0);
    this.#escape = plan.escape.charCodeAt(0);
    this.#nullText = Buffer.from(plan.nullText);
  }

  /** @returns the field's value, null for NULL; undefined: the row has fewer */
  at(row: Buffer, end: number, column: number): Buffer | null | undefined {
    let from = 0;
    for (let left = column; left > 0; left--) {
      from = this.#field(row, from, end).end + 1;
      if (from > end) return undefined;
    }
    return this.#valueOf(this.#field(row, from, end));
  }

  /** All of them; null for NULL. */
  of(row: Buffer, end: number): readonly (Buffer | null)[] {
    const values: (Buffer | null)[] = [];
    for (let from = 0; from <= end; ) {
      const field = this.#field(row, from, end);
      values.push(this.#valueOf(field));
      from = field.end + 1;
    }
    return values;
  }

  #valueOf({ value, isQuoted }: Field): Buffer | null {
    if (!isQuoted && value.equals(this.#nullText)) return null;
    if (this.#isCsv) return value;
    return value.includes(BACKSLASH) ? withoutEscapes(value, 0, value.length) : value;
  }

  #field(row: Buffer, from: number, end: number): Field {
    return this.#isCsv ? this.#csvField(row, from, end) : this.#textField(row, from, end);
  }

  #textField(row: Buffer, from: number, end: number): Field {
    let at = from;
    while (at < end && row[at] !== this.#delimiter) at += row[at] === BACKSLASH ? 2 : 1;
    const fieldEnd = Math.min(at, end);
    return { value: row.subarray(from, fieldEnd), isQuoted: false, end: fieldEnd };
  }

  /** Quotes may stand anywhere in a field, as PostgreSQL reads it. */
  #csvField(row: Buffer, from: number, end: number): Field {
    let value: number[] | null = null;
    let isQuoted = false;
    let at = from;
    for (; at < end; at++) {
      const byte = row[at] ?? 0;
      if (isQuoted && byte === this.#escape && this.#isEscapable(row[at + 1])) {
        value?.push(row[++at] ?? 0);
      } else if (byte === this.#quote) {
        value ??= [...row.subarray(from, at)];
        isQuoted = !isQuoted;
      } else if (byte === this.#delimiter && !isQuoted) break;
      else value?.push(byte);
    }
    const plain = row.subarray(from, at);
    return {
      value: value === null ? plain : Buffer.from(value),
      isQuoted: value !== null,
      end: at,
    };
  }

  #isEscapable(byte: number | undefined): boolean {
    return byte === this.#quote || byte === this.#escape;
  }
}

interface Field {
  /** CSV: without its quotes; text: with its escapes. */
  readonly value: Buffer;
  readonly isQuoted: boolean;
  readonly end: number;
}
