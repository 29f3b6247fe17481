/**
 * Which line a key stands on. The TOML parser does not say, and people who mend a file need to know; the
 * edits of a cutover need it too. Knows plain tables, as PgDog's files have them: `[section]`,
 * `[[section]]` and `key = value`. What stands in inline tables or dotted keys has no line here.
 */
export interface KeyLine {
  /** Number from 0. */
  readonly line: number;
  readonly key: string;
}

export interface SectionLines {
  /** "general", "databases", "sharded_tables.mapping"; "" before the first header. */
  readonly name: string;
  /** Position among the sections of the same name, from 0. */
  readonly index: number;
  readonly isArray: boolean;
  /** Line of the header, from 0; -1 before the first. */
  readonly headerLine: number;
  /** Line of the last key's last line, from 0; the header's when there is none. */
  readonly lastLine: number;
  readonly keys: readonly KeyLine[];
}

export interface LineIndex {
  readonly sections: readonly SectionLines[];
  /** Line from 1 of a key, else of its section, else null. */
  lineOf(section: string, index: number, key: string | null): number | null;
}

interface Draft {
  readonly name: string;
  readonly index: number;
  readonly isArray: boolean;
  readonly headerLine: number;
  lastLine: number;
  readonly keys: KeyLine[];
}

const HEADER = /^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$/;
const KEY = /^\s*(?:"([^"]+)"|'([^']+)'|([\w-]+))\s*=(.*)$/;

export function indexLines(text: string): LineIndex {
  const counts = new Map<string, number>();
  let current: Draft = draft({ name: "", index: 0, isArray: false, headerLine: -1 });
  const sections = [current];
  const scanner = new ValueScanner();
  for (const [line, content] of text.split(/\r?\n/).entries()) {
    if (scanner.isInside) {
      scanner.feed(content);
      current.lastLine = line;
      continue;
    }
    const header = HEADER.exec(content);
    if (header) {
      const name = (header[2] ?? "").replaceAll(/["'\s]/g, "");
      const index = counts.get(name) ?? 0;
      counts.set(name, index + 1);
      current = draft({ name, index, isArray: header[1] === "[[", headerLine: line });
      sections.push(current);
      continue;
    }
    const key = KEY.exec(content);
    if (!key) continue;
    current.keys.push({ line, key: key[1] ?? key[2] ?? key[3] ?? "" });
    current.lastLine = line;
    scanner.feed(key[4] ?? "");
  }
  return {
    sections,
    lineOf(section, index, key) {
      const found = sections.find((one) => one.name === section && one.index === index);
      if (!found) return null;
      const line = found.keys.find((one) => one.key === key)?.line ?? found.headerLine;
      return line + 1;
    },
  };
}

function draft(start: Omit<Draft, "lastLine" | "keys">): Draft {
  return { ...start, lastLine: start.headerLine, keys: [] };
}

/** Follows a value over lines: arrays, and strings in three quotes. */
class ValueScanner {
  #depth = 0;
  #quote: string | null = null;

  get isInside(): boolean {
    return this.#depth > 0 || this.#quote !== null;
  }

  feed(content: string): void {
    for (let at = 0; at < content.length; at++) {
      if (this.#quote !== null) {
        if (content[at] === "\\" && this.#quote.startsWith('"')) at++;
        else if (content.startsWith(this.#quote, at)) {
          at += this.#quote.length - 1;
          this.#quote = null;
        }
        continue;
      }
      const rest = content.slice(at, at + 3);
      if (rest === '"""' || rest === "'''") {
        this.#quote = rest;
        at += 2;
      } else if (content[at] === '"' || content[at] === "'") this.#quote = content[at] ?? null;
      else if (content[at] === "[" || content[at] === "{") this.#depth++;
      else if (content[at] === "]" || content[at] === "}") this.#depth--;
      else if (content[at] === "#") break;
    }
    // A string in single quotes ends on its line, whatever it holds.
    if (this.#quote?.length === 1) this.#quote = null;
  }
}
