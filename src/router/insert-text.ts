import { Scanner } from "../sql/scanner.js";
import { closeOf, splitByComma } from "./clauses.js";

/** An INSERT that lacks values of one column, as its tree says: the same for every text of its shape. */
export interface InsertShape {
  /** Which INSERT INTO of the text, from 0. */
  readonly ordinal: number;
  readonly hasColumns: boolean;
  /** Quoted names of the columns that the rows give, for a list where there is none. */
  readonly columns: readonly string[];
  /** Quoted. */
  readonly key: string;
  /** Of the key in the rows; null: it is not among them. */
  readonly position: number | null;
  /** One per row of VALUES: its key is to be put in. */
  readonly rows: readonly boolean[];
  readonly hasDefaultValues: boolean;
  /** A value would else be refused, or passed over. */
  readonly mustOverride: boolean;
}

/** Text with places for values: null. */
export type OpenText = readonly (string | null)[];

/** The statement's text with a place for each value that the shapes lack; null: written in another way. */
export function openText(sql: string, shapes: readonly InsertShape[]): OpenText | null {
  const weaver = new Weaver(sql);
  for (const shape of shapes) if (!new InsertText(sql, shape, weaver).weave()) return null;
  return weaver.finish();
}

class Weaver {
  readonly #sql: string;
  readonly #pieces: (string | null)[] = [];
  #text = "";
  #at = 0;

  constructor(sql: string) {
    this.#sql = sql;
  }

  /** What was written goes on up to there. */
  keepTo(position: number): void {
    this.#text += this.#sql.slice(this.#at, position);
    this.#at = position;
  }

  skipTo(position: number): void {
    this.#at = position;
  }

  write(text: string): void {
    this.#text += text;
  }

  place(): void {
    this.#pieces.push(this.#text, null);
    this.#text = "";
  }

  finish(): OpenText {
    this.keepTo(this.#sql.length);
    return [...this.#pieces, this.#text];
  }
}

/** One INSERT of a text, read token by token from INSERT to the end of its VALUES. */
class InsertText {
  readonly #sql: string;
  readonly #shape: InsertShape;
  readonly #out: Weaver;
  readonly #scanner: Scanner;
  #kind: ReturnType<Scanner["next"]> = "end";

  constructor(sql: string, shape: InsertShape, out: Weaver) {
    this.#sql = sql;
    this.#shape = shape;
    this.#out = out;
    this.#scanner = new Scanner(sql);
  }

  weave(): boolean {
    if (!this.#toInsert() || !this.#passTarget() || !this.#columns()) return false;
    this.#overriding();
    return this.#shape.hasDefaultValues ? this.#defaultValues() : this.#values();
  }

  #toInsert(): boolean {
    let left = this.#shape.ordinal;
    let isBehindInsert = false;
    for (;;) {
      this.#next();
      if (this.#kind === "end") return false;
      if (isBehindInsert && this.#isWord("into") && left-- === 0) break;
      isBehindInsert = this.#isWord("insert");
    }
    this.#next();
    return true;
  }

  /** The table's name, and its alias: a list would come behind it. */
  #passTarget(): boolean {
    for (;;) {
      if (this.#kind !== "word" && this.#kind !== "quotedName") return false;
      this.#next();
      if (!this.#isSymbol(".")) break;
      this.#next();
    }
    if (!this.#isWord("as")) return true;
    this.#next();
    this.#next();
    return true;
  }

  #columns(): boolean {
    const { hasColumns, columns, key, position } = this.#shape;
    if (!hasColumns) {
      const listed = position === null ? [...columns, key] : columns;
      this.#out.keepTo(this.#scanner.start);
      this.#out.write(`(${listed.join(", ")}) `);
      return true;
    }
    if (!this.#isSymbol("(")) return false;
    const end = closeOf(this.#sql, this.#scanner);
    if (end === null) return false;
    if (position === null) {
      this.#out.keepTo(end - 1);
      this.#out.write(`, ${key}`);
    }
    this.#next();
    return true;
  }

  #overriding(): void {
    const isWritten = this.#isWord("overriding");
    if (this.#shape.mustOverride) {
      this.#out.keepTo(this.#scanner.start);
      this.#out.write(`OVERRIDING SYSTEM VALUE${isWritten ? "" : " "}`);
    }
    if (!isWritten) return;
    this.#next();
    this.#next();
    if (this.#shape.mustOverride) this.#out.skipTo(this.#scanner.end);
    this.#next();
  }

  #defaultValues(): boolean {
    if (!this.#isWord("default")) return false;
    this.#out.keepTo(this.#scanner.start);
    this.#next();
    this.#out.skipTo(this.#scanner.end);
    this.#out.write("VALUES (");
    this.#out.place();
    this.#out.write(")");
    return true;
  }

  #values(): boolean {
    if (!this.#isWord("values")) return false;
    for (const isToFill of this.#shape.rows) {
      this.#next();
      if (!this.#isSymbol("(")) return false;
      const start = this.#scanner.end;
      const end = closeOf(this.#sql, this.#scanner);
      if (end === null || (isToFill && !this.#fill(start, end - 1))) return false;
      this.#next();
    }
    // A comma here: rows that the tree did not have.
    return !this.#isSymbol(",");
  }

  #fill(start: number, end: number): boolean {
    const { position } = this.#shape;
    if (position === null) {
      this.#out.keepTo(end);
      this.#out.write(", ");
    } else {
      const item = splitByComma(this.#sql, { start, end })[position];
      if (item === undefined) return false;
      this.#out.keepTo(item.start);
      this.#out.write(" ");
      this.#out.skipTo(item.end);
    }
    this.#out.place();
    return true;
  }

  #next(): void {
    this.#kind = this.#scanner.next();
  }

  #isWord(word: string): boolean {
    if (this.#kind !== "word") return false;
    const { start, end } = this.#scanner;
    return end - start === word.length && this.#sql.slice(start, end).toLowerCase() === word;
  }

  #isSymbol(symbol: string): boolean {
    return this.#kind === "symbol" && this.#sql[this.#scanner.start] === symbol;
  }
}

/** The client's COPY with one more column before its own; null: it has no list. */
export function withFirstColumn(sql: string, column: string): string | null {
  const scanner = new Scanner(sql);
  for (let kind = scanner.next(); kind !== "end"; kind = scanner.next()) {
    if (kind !== "symbol" || sql[scanner.start] !== "(") continue;
    return `${sql.slice(0, scanner.end)}${column}, ${sql.slice(scanner.end)}`;
  }
  return null;
}
