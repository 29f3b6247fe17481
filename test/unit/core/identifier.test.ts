import fc from "fast-check";
import { loadModule, type Node, parseSync } from "libpg-query";
import { beforeAll, describe, expect, it } from "vitest";
import { quoteIdentifier, quoteLiteral, quoteQualified } from "../../../src/core/identifier.js";

beforeAll(async () => await loadModule());

/** What PostgreSQL's parser reads between SELECT and the end. */
function selected(sql: string): Node | undefined {
  const statement = parseSync(`SELECT ${sql}`).stmts?.[0]?.stmt;
  const target =
    statement && "SelectStmt" in statement ? statement.SelectStmt.targetList?.[0] : null;
  return target && "ResTarget" in target ? target.ResTarget.val : undefined;
}

/** No NUL, which PostgreSQL has in no text, and names of a length that it does not cut. */
const text = fc.string({ unit: "grapheme", maxLength: 15 }).filter((one) => !one.includes("\0"));

describe("PostgreSQL's parser reads back", () => {
  it("every name", () => {
    const name = text.filter((one) => one !== "" && Buffer.byteLength(one) < 64);
    fc.assert(
      fc.property(name, name, (schema, table) => {
        const fields = (...names: readonly string[]) => ({
          fields: names.map((sval) => ({ String: { sval } })),
        });
        expect(selected(quoteIdentifier(table))).toMatchObject({ ColumnRef: fields(table) });
        expect(selected(quoteQualified(schema, table))).toMatchObject({
          ColumnRef: fields(schema, table),
        });
      }),
    );
  });

  it("every string constant, backslashes, too", () => {
    const plain = fc.oneof(text, fc.constantFrom("\\", "'", "\\'", "a\\nb", "it''s"));
    fc.assert(
      fc.property(plain, (value) => {
        expect(selected(quoteLiteral(value))).toMatchObject({
          A_Const: { sval: value === "" ? {} : { sval: value } },
        });
      }),
    );
  });
});

describe("a name", () => {
  it.each(["select", "Mixed Case", 'with "quotes"', "ünïcode"])("%s is never folded", (name) => {
    expect(quoteIdentifier(name)).toBe(`"${name.replaceAll('"', '""')}"`);
  });
});
