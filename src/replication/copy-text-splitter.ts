import { BACKSLASH, NEWLINE, NULL_LETTER, TAB, withoutEscapes } from "../wire/copy-format.js";
import {
  Carry,
  type CopyOutput,
  type CopySplitter,
  CopyStreamMalformed,
  type KeyRouter,
  pressureOf,
} from "./copy-splitter.js";

/**
 * Deals the rows of a text COPY stream (defaults: tab, `\N`) to outputs, in one pass over the bytes. A raw
 * newline always ends a row: within a value COPY TO writes it as an escape. The encoding is UTF-8, where
 * no part of a character looks like a tab, newline or backslash.
 */
export class TextCopySplitter implements CopySplitter {
  readonly #outputs: readonly CopyOutput[];
  readonly #keyField: number;
  readonly #route: KeyRouter;
  readonly #carry = new Carry();
  byteCount = 0;
  rowCount = 0;

  /** @param keyField position of the key among the fields, from 0 */
  constructor(outputs: readonly CopyOutput[], keyField: number, route: KeyRouter) {
    this.#outputs = outputs;
    this.#keyField = keyField;
    this.#route = route;
  }

  push(bytes: Buffer, start: number, end: number): void {
    this.byteCount += end - start;
    let at = start;
    while (at < end) {
      const newline = bytes.indexOf(NEWLINE, at);
      const isWhole = newline !== -1 && newline < end;
      const partEnd = isWhole ? newline + 1 : end;
      if (!isWhole || this.#carry.length > 0) this.#carry.append(bytes, at, partEnd);
      if (isWhole && this.#carry.length > 0) {
        this.#forward(this.#carry.bytes, 0, this.#carry.length);
        this.#carry.drop(this.#carry.length);
      } else if (isWhole) this.#forward(bytes, at, partEnd);
      at = partEnd;
    }
  }

  pressure(): Promise<void> | null {
    return pressureOf(this.#outputs);
  }

  finish(): void {
    if (this.#carry.length > 0) throw new CopyStreamMalformed("it ends within a row");
  }

  #forward(bytes: Buffer, start: number, end: number): void {
    const output = this.#outputs[this.#routeOf(bytes, start, end - 1)];
    if (output === undefined) throw new RangeError("the key router named no output");
    output.append(bytes, start, end);
    this.rowCount++;
  }

  #routeOf(bytes: Buffer, start: number, end: number): number {
    let at = start;
    for (let field = 0; field < this.#keyField; field++) {
      while (at < end && bytes[at] !== TAB) at++;
      if (at === end) throw new CopyStreamMalformed(`a row of ${field + 1} fields`);
      at++;
    }
    let keyEnd = at;
    let isEscaped = false;
    for (; keyEnd < end && bytes[keyEnd] !== TAB; keyEnd++)
      if (bytes[keyEnd] === BACKSLASH) isEscaped = true;
    if (!isEscaped) return this.#route(bytes, at, keyEnd);
    if (keyEnd - at === 2 && bytes[at + 1] === NULL_LETTER) return this.#route(bytes, -1, -1);
    const plain = withoutEscapes(bytes, at, keyEnd);
    return this.#route(plain, 0, plain.length);
  }
}
