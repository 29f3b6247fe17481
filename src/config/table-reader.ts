import { closestMatch } from "leven";
import { ConfigInvalid } from "./config-errors.js";
import type { TomlFile } from "./toml-file.js";

/** Numbers above are no timer of Node's and no size of ours; PgDog's "off" is above. */
export const MAX_INTEGER = 2_147_483_647;

export interface Range {
  readonly min: number;
  readonly max: number;
}

interface TablePlace {
  readonly section: string;
  readonly index: number;
  readonly isArray: boolean;
}

/** Takes keys out of one table, checks their types, and refuses what nobody took. */
export class TableReader {
  readonly #file: TomlFile;
  readonly #place: TablePlace;
  readonly #table: Readonly<Record<string, unknown>>;
  readonly #known = new Set<string>();

  constructor(file: TomlFile, place: TablePlace, table: Readonly<Record<string, unknown>>) {
    this.#file = file;
    this.#place = place;
    this.#table = table;
  }

  has(key: string): boolean {
    return this.#table[key] !== undefined;
  }

  string(key: string): string | null {
    const value = this.#take(key);
    if (value === undefined) return null;
    if (typeof value !== "string") throw this.wrong(key, `must be a string, not ${shown(value)}`);
    return value;
  }

  required(key: string): string {
    const value = this.string(key);
    if (value === null || value === "") throw this.wrong(key, "is missing or empty");
    return value;
  }

  boolean(key: string): boolean | null {
    const value = this.#take(key);
    if (value === undefined) return null;
    if (typeof value !== "boolean")
      throw this.wrong(key, `must be true or false, not ${shown(value)}`);
    return value;
  }

  booleanOrAuto(key: string): boolean | "auto" | null {
    const value = this.#take(key);
    if (value === undefined) return null;
    if (typeof value !== "boolean" && value !== "auto")
      throw this.wrong(key, `must be true, false or "auto", not ${shown(value)}`);
    return value;
  }

  /** Larger than `MAX_INTEGER` counts as `MAX_INTEGER`, where the range reaches that far. */
  integer(key: string, range: Range): number | null {
    const value = this.#take(key);
    if (value === undefined) return null;
    const asNumber = typeof value === "bigint" ? Number(value) : value;
    if (typeof asNumber !== "number" || !Number.isInteger(asNumber))
      throw this.wrong(key, `must be an integer, not ${shown(value)}`);
    const clamped = range.max >= MAX_INTEGER ? Math.min(asNumber, MAX_INTEGER) : asNumber;
    if (clamped < range.min || clamped > range.max)
      throw this.wrong(key, `must be from ${range.min} to ${range.max}, not ${asNumber}`);
    return clamped;
  }

  number(key: string): number | null {
    const value = this.#take(key);
    if (value === undefined) return null;
    if (typeof value !== "number" && typeof value !== "bigint")
      throw this.wrong(key, `must be a number, not ${shown(value)}`);
    return Number(value);
  }

  oneOf<const T extends string>(key: string, values: readonly T[]): T | null {
    const value = this.#take(key);
    if (value === undefined) return null;
    const found = values.find((one) => one === value);
    if (found === undefined)
      throw this.wrong(key, `must be one of ${values.join(", ")}, not ${shown(value)}`);
    return found;
  }

  strings(key: string): readonly string[] | null {
    const value = this.#take(key);
    if (value === undefined) return null;
    if (!Array.isArray(value) || !value.every((one) => typeof one === "string"))
      throw this.wrong(key, `must be a list of strings, not ${shown(value)}`);
    return value;
  }

  /** Keys that we accept and do not look at. Returns those that are there. */
  accept(keys: readonly string[]): readonly string[] {
    return keys.filter((key) => this.#take(key) !== undefined);
  }

  /** @throws ConfigInvalid for a key that nobody asked for, as PgDog does */
  finish(): void {
    for (const key of Object.keys(this.#table)) {
      if (this.#known.has(key)) continue;
      const near = nearest(key, [...this.#known]);
      throw this.wrong(key, "is not a known key", near === null ? {} : { meant: near });
    }
  }

  wrong(key: string, problem: string, more: { readonly meant?: string } = {}): ConfigInvalid {
    const { section, index, isArray } = this.#place;
    const header = section === "" ? "" : isArray ? `[[${section}]] ` : `[${section}] `;
    return new ConfigInvalid(
      {
        file: this.#file.path,
        line: this.#file.lines.lineOf(section, index, key),
        key: `${header}${key}`,
      },
      more.meant === undefined ? problem : `${problem}; did you mean "${more.meant}"?`,
    );
  }

  #take(key: string): unknown {
    this.#known.add(key);
    return this.#table[key];
  }
}

/** For messages. Strings are shown only where they are short: a password in the wrong place is not. */
function shown(value: unknown): string {
  if (typeof value === "string") return value.length <= 20 ? `"${value}"` : "a string";
  if (typeof value === "number" || typeof value === "bigint" || typeof value === "boolean")
    return String(value);
  return Array.isArray(value) ? "a list" : "a table";
}

/** `[section]`, empty when the file has none. */
export function readSection(file: TomlFile, section: string): TableReader {
  const place = { section, index: 0, isArray: false };
  const value = file.root[section] ?? {};
  return new TableReader(file, place, asTable(file, place, value));
}

/** Every `[[section]]`, in the order of the file. */
export function readSections(file: TomlFile, section: string): readonly TableReader[] {
  const value = file.root[section] ?? [];
  const place = { section, index: 0, isArray: true };
  if (!Array.isArray(value)) throw notTable(file, place);
  return value.map((one: unknown, index) => {
    const at = { ...place, index };
    return new TableReader(file, at, asTable(file, at, one));
  });
}

/** @throws ConfigInvalid for a section or a stray key that is not among `known` */
export function checkSections(file: TomlFile, known: readonly string[]): void {
  for (const name of Object.keys(file.root)) {
    if (known.includes(name)) continue;
    const near = nearest(name, known);
    const line = file.lines.lineOf(name, 0, null) ?? file.lines.lineOf("", 0, name);
    throw new ConfigInvalid(
      { file: file.path, line: line === 0 ? null : line, key: name },
      `is not a known section${near === null ? "" : `; did you mean "${near}"?`}`,
    );
  }
}

function asTable(
  file: TomlFile,
  place: TablePlace,
  value: unknown,
): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof Date)
    throw notTable(file, place);
  return value as Readonly<Record<string, unknown>>;
}

function notTable(file: TomlFile, place: TablePlace): ConfigInvalid {
  const header = place.isArray ? `[[${place.section}]]` : `[${place.section}]`;
  const line =
    file.lines.lineOf(place.section, place.index, null) ?? file.lines.lineOf("", 0, place.section);
  return new ConfigInvalid(
    { file: file.path, line, key: place.section },
    `must be written as ${header}`,
  );
}

/** The candidate that was probably meant, or null when none is near. */
function nearest(word: string, candidates: readonly string[]): string | null {
  const maxDistance = Math.max(1, Math.floor(word.length / 3));
  return closestMatch(word, candidates, { maxDistance }) ?? null;
}
