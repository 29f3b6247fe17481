import { loadModule, type Node, parseSync, type RawStmt, SqlError } from "libpg-query";
import { parserText } from "./parser-text.js";

/** Loads PostgreSQL's parser (WebAssembly). Await it once, before the first `parse`. */
export async function loadParser(): Promise<void> {
  await loadModule();
}

export type Parsed =
  | { readonly kind: "parsed"; readonly statements: readonly Node[] }
  /** PostgreSQL's grammar refuses the text; the message is its own. */
  | { readonly kind: "malformed"; readonly message: string }
  /** It would take a time that grows faster than its length, or a stack that is not there. */
  | { readonly kind: "tooComplex"; readonly message: string };

/**
 * Takes 50 to 200 us for what an application writes, 0.2 to 0.3 s for a megabyte: put a cache before it. Places in the
 * tree are those of the text. Needs `loadParser`.
 */
export function parse(sql: string): Parsed {
  // The parser takes "" for a mistake of its caller.
  if (sql === "") return { kind: "parsed", statements: [] };
  const text = parserText(sql);
  if (text.kind === "tooComplex") return { kind: "tooComplex", message: text.reason };
  try {
    const statements = (parseSync(text.sql).stmts ?? []).map((raw: RawStmt) => raw.stmt);
    return { kind: "parsed", statements: statements.filter((node) => node !== undefined) };
  } catch (error) {
    if (error instanceof SqlError) return { kind: "malformed", message: error.message };
    throw error;
  }
}
