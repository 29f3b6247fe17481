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

/** A place for a list of columns: the name of its table, and the list, quoted. */
export interface MissingList {
  /** Which INSERT INTO of the text, from 0; null: a COPY. */
  readonly ordinal: number | null;
  readonly table: string;
  readonly columns: readonly string[];
}

/** The text with these lists behind their tables' names; null: written in another way. */
export function withLists(sql: string, lists: readonly MissingList[]): string | null {
  const weaver = new Weaver(sql);
  for (const list of lists) if (!new ListText(sql, list, weaver).weave()) return null;
  return weaver.finish().join("");
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

/** Reads a text token by token. */
class Tokens {
  readonly sql: string;
  readonly scanner: Scanner;
  kind: ReturnType<Scanner["next"]> = "end";

  constructor(sql: string) {
    this.sql = sql;
    this.scanner = new Scanner(sql);
  }

  /** Goes behind INSERT INTO. */
  toInsert(ordinal: number): boolean {
    let left = ordinal;
    let isBehindInsert = false;
    for (;;) {
      this.next();
      if (this.kind === "end") return false;
      if (isBehindInsert && this.isWord("into") && left-- === 0) break;
      isBehindInsert = this.isWord("insert");
    }
    this.next();
    return true;
  }

  /** Goes behind the table's name, and its alias: a list would come there. @returns the name's last part */
  passTarget(): string | null {
    let name = "";
    for (;;) {
      if (this.kind !== "word" && this.kind !== "quotedName") return null;
      name = this.#name();
      this.next();
      if (!this.isSymbol(".")) break;
      this.next();
    }
    if (!this.isWord("as")) return name;
    this.next();
    this.next();
    return name;
  }

  next(): void {
    this.kind = this.scanner.next();
  }

  isWord(word: string): boolean {
    if (this.kind !== "word") return false;
    const { start, end } = this.scanner;
    return end - start === word.length && this.sql.slice(start, end).toLowerCase() === word;
  }

  isSymbol(symbol: string): boolean {
    return this.kind === "symbol" && this.sql[this.scanner.start] === symbol;
  }

  #name(): string {
    const text = this.sql.slice(this.scanner.start, this.scanner.end);
    return this.kind === "word" ? text.toLowerCase() : text.slice(1, -1).replaceAll('""', '"');
  }
}

class ListText {
  readonly #tokens: Tokens;
  readonly #list: MissingList;
  readonly #out: Weaver;

  constructor(sql: string, list: MissingList, out: Weaver) {
    this.#tokens = new Tokens(sql);
    this.#list = list;
    this.#out = out;
  }

  weave(): boolean {
    const { ordinal, table, columns } = this.#list;
    const tokens = this.#tokens;
    if (ordinal === null) {
      tokens.next();
      if (!tokens.isWord("copy")) return false;
      tokens.next();
    } else if (!tokens.toInsert(ordinal)) return false;
    if (tokens.passTarget() !== table || tokens.kind === "end") return false;
    this.#out.keepTo(tokens.scanner.start);
    this.#out.write(`(${columns.join(", ")}) `);
    return true;
  }
}

/** One INSERT of a text, read from INSERT to the end of its VALUES. */
class InsertText {
  readonly #sql: string;
  readonly #shape: InsertShape;
  readonly #out: Weaver;
  readonly #tokens: Tokens;
  readonly #scanner: Scanner;

  constructor(sql: string, shape: InsertShape, out: Weaver) {
    this.#sql = sql;
    this.#shape = shape;
    this.#out = out;
    this.#tokens = new Tokens(sql);
    this.#scanner = this.#tokens.scanner;
  }

  weave(): boolean {
    const { ordinal } = this.#shape;
    if (!this.#tokens.toInsert(ordinal) || this.#tokens.passTarget() === null) return false;
    if (!this.#columns()) return false;
    this.#overriding();
    return this.#shape.hasDefaultValues ? this.#defaultValues() : this.#values();
  }

  #columns(): boolean {
    const { hasColumns, columns, key, position } = this.#shape;
    if (!hasColumns) {
      const listed = position === null ? [...columns, key] : columns;
      this.#out.keepTo(this.#scanner.start);
      this.#out.write(`(${listed.join(", ")}) `);
      return true;
    }
    if (!this.#tokens.isSymbol("(")) return false;
    const end = closeOf(this.#sql, this.#scanner);
    if (end === null) return false;
    if (position === null) {
      this.#out.keepTo(end - 1);
      this.#out.write(`, ${key}`);
    }
    this.#tokens.next();
    return true;
  }

  #overriding(): void {
    const isWritten = this.#tokens.isWord("overriding");
    if (this.#shape.mustOverride) {
      this.#out.keepTo(this.#scanner.start);
      this.#out.write(`OVERRIDING SYSTEM VALUE${isWritten ? "" : " "}`);
    }
    if (!isWritten) return;
    this.#tokens.next();
    this.#tokens.next();
    if (this.#shape.mustOverride) this.#out.skipTo(this.#scanner.end);
    this.#tokens.next();
  }

  #defaultValues(): boolean {
    if (!this.#tokens.isWord("default")) return false;
    this.#out.keepTo(this.#scanner.start);
    this.#tokens.next();
    this.#out.skipTo(this.#scanner.end);
    this.#out.write("VALUES (");
    this.#out.place();
    this.#out.write(")");
    return true;
  }

  #values(): boolean {
    if (!this.#tokens.isWord("values")) return false;
    for (const isToFill of this.#shape.rows) {
      this.#tokens.next();
      if (!this.#tokens.isSymbol("(")) return false;
      const start = this.#scanner.end;
      const end = closeOf(this.#sql, this.#scanner);
      if (end === null || (isToFill && !this.#fill(start, end - 1))) return false;
      this.#tokens.next();
    }
    // A comma here: rows that the tree did not have.
    return !this.#tokens.isSymbol(",");
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
