import { readFileSync } from "node:fs";
import { parse, TomlError } from "smol-toml";
import { ConfigInvalid } from "./config-errors.js";
import { indexLines, type LineIndex } from "./toml-lines.js";

/** A parsed file that still knows on which line a key stands. */
export interface TomlFile {
  readonly path: string;
  readonly text: string;
  readonly root: Readonly<Record<string, unknown>>;
  readonly lines: LineIndex;
}

/** @throws ConfigInvalid when the file cannot be read or is not TOML */
export function readTomlFile(path: string): TomlFile {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message : String(cause);
    throw new ConfigInvalid({ file: path, line: null, key: null }, problem, { cause });
  }
  return parseToml(path, text);
}

/** @throws ConfigInvalid with the line, when `text` is not TOML */
export function parseToml(path: string, text: string): TomlFile {
  try {
    // "off" is the largest 64-bit number in PgDog's files: beyond what a JavaScript number holds.
    const root = parse(text, { integersAsBigInt: "asNeeded" });
    return { path, text, root, lines: indexLines(text) };
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    const problem = cause.message.split("\n")[0] ?? "invalid TOML";
    const key = keyOnLine(text, cause.line);
    throw new ConfigInvalid({ file: path, line: cause.line, key }, problem, { cause });
  }
}

function keyOnLine(text: string, line: number): string | null {
  const match = /^\s*([\w."'-]+)\s*=/.exec(text.split(/\r?\n/)[line - 1] ?? "");
  return match?.[1] ?? null;
}
