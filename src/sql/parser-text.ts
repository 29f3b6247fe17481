import { Scanner } from "./scanner.js";

/** A text as PostgreSQL's parser takes it in time and space that grow with its length and no faster. */
export type ParserText =
  | { readonly kind: "readable"; readonly sql: string }
  | { readonly kind: "tooComplex"; readonly reason: string };

/** The parser, and what walks its tree, go one call deeper at each level; at some 4,000 their stack ends. */
const MOST_LEVELS = 1_000;
/** A text this short cannot be deeper. */
const SHALLOW_LENGTH = MOST_LEVELS;
/** PostgreSQL refuses longer operators, and its lexer looks at a whole run of such characters for each it takes. */
const LONGEST_OPERATOR = 63;
const OPERATOR_RUN = /[-+*/<>=~!@#%^&|`?]{64}/;

/**
 * Comments become blanks of as many bytes, so that places in the tree stay what they are: PostgreSQL's lexer takes nested
 * ones in time that grows with their square (400 kB of them: two minutes).
 * What is nested too deep for a stack is refused here: inside of WebAssembly that would not be an error but an end.
 */
export function parserText(sql: string): ParserText {
  const hasComment = sql.includes("/*") || sql.includes("--");
  const hasRun = OPERATOR_RUN.test(sql);
  if (!hasComment && !hasRun && sql.length <= SHALLOW_LENGTH) return { kind: "readable", sql };
  const depth = new Depth(sql);
  const scanner = new Scanner(sql);
  let text = "";
  let copiedTo = 0;
  let previousEnd = 0;
  let runLength = 0;
  for (;;) {
    const kind = scanner.next();
    const { start } = scanner;
    if (hasComment && start > previousEnd) {
      const gap = sql.slice(previousEnd, start);
      if (/[^\s]/.test(gap)) {
        text += sql.slice(copiedTo, previousEnd) + blanked(gap);
        copiedTo = start;
      }
    }
    if (kind === "end") break;
    if (hasRun) {
      const isPart = kind === "symbol" && OPERATOR.test(sql.charAt(start));
      if (!isPart) runLength = 0;
      else if (start === previousEnd) runLength++;
      else runLength = 1;
      if (runLength > LONGEST_OPERATOR) return { kind: "tooComplex", reason: "operator too long" };
    }
    depth.take(kind, scanner);
    if (depth.most > MOST_LEVELS)
      return { kind: "tooComplex", reason: `expressions nested deeper than ${MOST_LEVELS} levels` };
    previousEnd = scanner.end;
  }
  return { kind: "readable", sql: copiedTo === 0 ? sql : text + sql.slice(copiedTo) };
}

const OPERATOR = /[-+*/<>=~!@#%^&|`?]/;

/** Line ends stay: between two string constants they join them. */
function blanked(gap: string): string {
  if (/^[\x20-\x7e\s]*$/.test(gap)) return gap.replaceAll(/[^\n\r]/g, " ");
  return gap.replaceAll(/[^\n\r]/gu, (one) => " ".repeat(Buffer.byteLength(one)));
}

/** Words that go on with what is before them, or after: as deep as there are of them. */
const CHAINED = new Set(["not", "is", "isnull", "notnull", "collate", "at", "operator"]);
/** The same, and what is listed between them ends nothing. */
const TALL = new Set(["union", "intersect", "except", "join"]);
/** Lists in the tree, or the branches of one CASE: what follows begins anew. */
const BRANCHES = new Set(["and", "or", "when", "then", "else"]);

interface Level {
  /** Opened by CASE: END closes it, and no other does. */
  readonly isCase: boolean;
  chain: number;
  tall: number;
}

/** An upper bound of how deep a text's tree is: open brackets, and in each what is chained in it. */
class Depth {
  readonly #sql: string;
  readonly #levels: Level[] = [];
  #top: Level = { isCase: false, chain: 0, tall: 0 };
  #isAfterDot = false;
  #total = 0;
  most = 0;

  constructor(sql: string) {
    this.#sql = sql;
  }

  take(kind: ReturnType<Scanner["next"]>, { start, end }: Scanner): void {
    const isName = this.#isAfterDot;
    this.#isAfterDot = kind === "symbol" && this.#sql.charCodeAt(start) === 46;
    if (kind === "symbol") this.#symbol(this.#sql.charCodeAt(start));
    else if (kind === "word") {
      // The longest of those words: most names are told by their length.
      if (!isName && end - start <= 9) this.#word(this.#sql.slice(start, end).toLowerCase());
    } else if (kind === "semicolon") this.#restart();
    if (this.#total > this.most) this.most = this.#total;
  }

  #symbol(code: number): void {
    switch (code) {
      case 40: // (
      case 91: // [
        this.#open(false);
        return;
      case 41: // )
      case 93: // ]
        this.#close(false);
        return;
      case 44: // ,
        this.#endChain();
        return;
      case 46: // .
        return;
      default:
        this.#chain();
    }
  }

  #word(word: string): void {
    if (BRANCHES.has(word)) this.#endChain();
    else if (CHAINED.has(word)) this.#chain();
    else if (TALL.has(word)) {
      this.#top.tall++;
      this.#total++;
    } else if (word === "case") this.#open(true);
    else if (word === "end" && this.#top.isCase) this.#close(true);
  }

  #open(isCase: boolean): void {
    this.#levels.push(this.#top);
    this.#top = { isCase, chain: 0, tall: 0 };
    this.#total++;
  }

  /** A bracket closes what was left open within it. */
  #close(isCase: boolean): void {
    for (;;) {
      const outer = this.#levels.pop();
      if (outer === undefined) return;
      const inner = this.#top;
      this.#total -= 1 + inner.chain + inner.tall;
      this.#top = outer;
      if (inner.isCase === isCase) return;
    }
  }

  #chain(): void {
    this.#top.chain++;
    this.#total++;
  }

  #endChain(): void {
    this.#total -= this.#top.chain;
    this.#top.chain = 0;
  }

  #restart(): void {
    this.#levels.length = 0;
    this.#top = { isCase: false, chain: 0, tall: 0 };
    this.#total = 0;
  }
}
