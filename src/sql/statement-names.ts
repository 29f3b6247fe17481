import { classify } from "./classify.js";
import { Scanner } from "./scanner.js";

/** A prepared statement that a text names by SQL: DEALLOCATE and EXECUTE. */
export interface NamedStatement {
  readonly kind: "deallocate" | "execute";
  readonly name: string;
  /** Where the name stands. */
  readonly start: number;
  readonly end: number;
}

/** Those that a text names, in order. `DEALLOCATE ALL` names none. */
export function namedStatements(sql: string): readonly NamedStatement[] {
  return classify(sql).flatMap(({ kind, start }) => {
    if (kind !== "deallocate" && kind !== "execute") return [];
    const scanner = new Scanner(sql, { from: start });
    scanner.next();
    let token = scanner.next();
    // DEALLOCATE PREPARE a: unless that is the name.
    if (kind === "deallocate" && wordAt(sql, scanner) === "prepare") {
      const { start: wordStart, end: wordEnd } = scanner;
      token = scanner.next();
      if (token !== "word" && token !== "quotedName")
        return [{ kind, name: "prepare", start: wordStart, end: wordEnd }];
    }
    if (token === "quotedName") {
      const text = sql.slice(scanner.start + 1, scanner.end - 1);
      return [{ kind, name: text.replaceAll('""', '"'), start: scanner.start, end: scanner.end }];
    }
    const name = wordAt(sql, scanner);
    if (token !== "word" || (kind === "deallocate" && name === "all")) return [];
    return [{ kind, name, start: scanner.start, end: scanner.end }];
  });
}

function wordAt(sql: string, { start, end }: Scanner): string {
  return sql.slice(start, end).toLowerCase();
}
