import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { liftLiterals, literalText } from "../../../src/sql/literals.js";
import { Scanner, type TokenKind } from "../../../src/sql/scanner.js";

function tokens(sql: string, isStandardConforming = true): string[] {
  const scanner = new Scanner(sql, { isStandardConforming });
  const found: string[] = [];
  for (let kind: TokenKind = scanner.next(); kind !== "end"; kind = scanner.next()) {
    found.push(`${kind} ${sql.slice(scanner.start, scanner.end)}`);
  }
  return found;
}

describe("tokens", () => {
  test.each<readonly [string, readonly string[]]>([
    ["a/* /* */ ; */b", ["word a", "word b"]],
    ["a--'\nb", ["word a", "word b"]],
    ["'it''s' \"a\"\"b\"", ["string 'it''s'", 'quotedName "a""b"']],
    ["E'\\'' e'a''b'", ["string E'\\''", "string e'a''b'"]],
    ["'\\' x", ["string '\\'", "word x"]],
    ["$1 $a$ $b$ $a$ $$;$$", ["parameter $1", "string $a$ $b$ $a$", "string $$;$$"]],
    ["a$1 é9", ["word a$1", "word é9"]],
    [
      "U&'x' U&\"x\" B'1' x'f' n'a'",
      ["string U&'x'", 'quotedName U&"x"', "string B'1'", "string x'f'", "string n'a'"],
    ],
    ["1.5e-3 .5 1_000 0x1f", ["number 1.5e-3", "number .5", "number 1_000", "number 0x1f"]],
    ["'open", ["string 'open"]],
    ["$x$ open", ["string $x$ open"]],
    ["/* open", []],
  ])("%s", (sql, expected) => {
    expect(tokens(sql)).toEqual(expected);
  });

  test("a backslash without standard_conforming_strings", () => {
    expect(tokens("'\\'' x", false)).toEqual(["string '\\''", "word x"]);
  });

  test("go on to the end, whatever the text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (sql) => {
        const scanner = new Scanner(sql);
        let before = -1;
        while (scanner.next() !== "end") {
          expect(scanner.start).toBeGreaterThan(before);
          expect(scanner.end).toBeGreaterThan(scanner.start);
          before = scanner.start;
        }
        expect(scanner.start).toBe(sql.length);
      }),
    );
  });
});

describe("texts without their constants", () => {
  const key = (sql: string) => liftLiterals(sql).key;

  test("are equal for other values, blanks and comments", () => {
    expect(key("SELECT  1,'a' /* t=1 */ FROM t -- x")).toBe(key("SELECT 22,'b''c' FROM t"));
  });

  test("differ where the statement differs", () => {
    const texts = ["a b", "ab", "a 'b'", "a 1", '"a b"', "a $1", "a $2", "'a'\n'b'", "'a'\n'c'"];
    expect(new Set(texts.map(key)).size).toBe(texts.length);
  });

  test.each<readonly [string, string | null]>([
    ["'it''s'", "it's"],
    ["$t$a'b$t$", "a'b"],
    ["12.5", "12.5"],
    ["E'plain'", "plain"],
    ["E'a\\n'", null],
    ["U&'\\0041'", null],
    ["X'1f'", null],
  ])("the value of %s", (sql, expected) => {
    expect(literalText(sql, liftLiterals(sql), 0)).toBe(expected);
  });
});
