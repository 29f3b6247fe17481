import { loadModule, type Node, parseSync, type RawStmt, SqlError } from "libpg-query";

/** Loads PostgreSQL's parser (WebAssembly). Await it once, before the first `parse`. */
export async function loadParser(): Promise<void> {
  await loadModule();
}

export type Parsed =
  | { readonly kind: "parsed"; readonly statements: readonly Node[] }
  /** PostgreSQL's grammar refuses the text; the message is its own. */
  | { readonly kind: "malformed"; readonly message: string };

/** Takes 50 to 200 us: put a cache before it. Needs `loadParser`. */
export function parse(sql: string): Parsed {
  // The parser takes "" for a mistake of its caller.
  if (sql === "") return { kind: "parsed", statements: [] };
  try {
    const statements = (parseSync(sql).stmts ?? []).map((raw: RawStmt) => raw.stmt);
    return { kind: "parsed", statements: statements.filter((node) => node !== undefined) };
  } catch (error) {
    if (error instanceof SqlError) return { kind: "malformed", message: error.message };
    throw error;
  }
}
