import type { TomlFile } from "./toml-file.js";
import type { SectionLines } from "./toml-lines.js";

const VALUE =
  /^(\s*(?:"[^"]+"|'[^']+'|[\w-]+)\s*=\s*)(?:"(?:[^"\\]|\\.)*"|'[^']*'|true|false)(\s*(?:#.*)?)$/;

/** Changes values where they stand, so that comments and layout stay. */
export class TomlEdit {
  readonly #file: TomlFile;
  readonly #lines: string[];
  readonly #newline: string;
  readonly #inserted = new Map<number, string[]>();
  readonly #appended: string[] = [];

  constructor(file: TomlFile) {
    this.#file = file;
    this.#newline = file.text.includes("\r\n") ? "\r\n" : "\n";
    this.#lines = file.text.split(/\r?\n/);
  }

  /** @returns false where the value does not stand on a line of its own: nothing was changed */
  set(
    section: string,
    index: number,
    value: readonly [key: string, to: string | boolean],
  ): boolean {
    const found = this.#file.lines.sections.find(
      (one) => one.name === section && one.index === index,
    );
    if (!found) return false;
    const [key, to] = value;
    const at = found.keys.find((one) => one.key === key)?.line;
    return at === undefined ? this.#insert(found, key, to) : this.#replace(at, to);
  }

  append(section: string, values: Readonly<Record<string, string | boolean>>): void {
    this.#appended.push("", `[[${section}]]`);
    for (const [key, value] of Object.entries(values))
      this.#appended.push(`${key} = ${JSON.stringify(value)}`);
  }

  toString(): string {
    const lines = this.#lines.flatMap((line, at) => [line, ...(this.#inserted.get(at) ?? [])]);
    while (this.#appended.length > 0 && lines.at(-1) === "") lines.pop();
    const tail = this.#appended.length > 0 ? [...this.#appended, ""] : [];
    return [...lines, ...tail].join(this.#newline);
  }

  #insert(section: SectionLines, key: string, to: string | boolean): boolean {
    const at = section.lastLine;
    this.#inserted.set(at, [...(this.#inserted.get(at) ?? []), `${key} = ${JSON.stringify(to)}`]);
    return true;
  }

  #replace(at: number, to: string | boolean): boolean {
    const match = VALUE.exec(this.#lines[at] ?? "");
    if (!match) return false;
    this.#lines[at] = `${match[1]}${JSON.stringify(to)}${match[2]}`;
    return true;
  }
}
